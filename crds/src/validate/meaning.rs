//! What the shape of a spec cannot say: texts that must parse, and fields that must fit each other.

use std::collections::BTreeMap;

use super::error::{FieldError, Problem};
use crate::selector::{LabelSelector, Operator};
use crate::text::{
    TextError, check_container_name, check_label_key, check_label_value, parse_cidr,
    parse_min_state_duration, parse_snapshot_interval, parse_summary_interval, parse_ttl,
};
use crate::trace::{Mode, OpenSockets, PortRange, TcpStateTraceSpec, Transition};

/// Adds what is wrong with a spec to `errors`. Every field is named here once, so that a new one is not forgotten.
pub(super) fn check(spec: &TcpStateTraceSpec, errors: &mut Vec<FieldError>) {
    let TcpStateTraceSpec {
        pod_selector,
        containers,
        node_selector,
        family: _,
        role: _,
        local_ports,
        peer_ports,
        peer_cidrs,
        transitions,
        min_state_duration,
        mode,
        outcomes,
        interval,
        open_sockets,
        rate_limit: _,
        ttl,
        pod_labels,
        peer_names: _,
    } = spec;
    check_selector(pod_selector, "spec.podSelector", errors);
    each(containers, "spec.containers", check_container_name, errors);
    check_labels(node_selector, "spec.nodeSelector", errors);
    check_ports(local_ports, "spec.localPorts", errors);
    check_ports(peer_ports, "spec.peerPorts", errors);
    each(peer_cidrs, "spec.peerCIDRs", |text| parse_cidr(text).map(drop), errors);
    check_transitions(transitions, errors);
    let of_connections = matches!(mode, Mode::Connections | Mode::Summary);
    for (field, is_empty, fits, needed) in [
        ("spec.transitions", transitions.is_empty(), *mode == Mode::Transitions, "Transitions"),
        ("spec.outcomes", outcomes.is_empty(), of_connections, "Connections or Summary"),
        ("spec.interval", interval.is_none(), *mode == Mode::Summary, "Summary"),
    ] {
        if !is_empty && !fits {
            errors.push(FieldError { field: field.to_owned(), problem: Problem::NeedsMode(needed) });
        }
    }
    if let Some(text) = interval {
        note("spec.interval", parse_summary_interval(text), errors);
    }
    if let Some(text) = min_state_duration {
        note("spec.minStateDuration", parse_min_state_duration(text), errors);
    }
    if let Some(OpenSockets { every, states: _, min_age, limit: _ }) = open_sockets {
        note("spec.openSockets.every", parse_snapshot_interval(every), errors);
        if let Some(text) = min_age {
            note("spec.openSockets.minAge", parse_min_state_duration(text), errors);
        }
    }
    if let Some(text) = ttl {
        note("spec.ttl", parse_ttl(text), errors);
    }
    each(pod_labels, "spec.podLabels", check_label_key, errors);
}

/// Adds what is wrong with a selector to `errors`.
pub(super) fn check_selector(selector: &LabelSelector, field: &str, errors: &mut Vec<FieldError>) {
    check_labels(&selector.match_labels, &format!("{field}.matchLabels"), errors);
    for (index, requirement) in selector.match_expressions.iter().enumerate() {
        let field = format!("{field}.matchExpressions[{index}]");
        note(&format!("{field}.key"), check_label_key(&requirement.key), errors);
        let values = format!("{field}.values");
        each(&requirement.values, &values, check_label_value, errors);
        let compares = matches!(requirement.operator, Operator::In | Operator::NotIn);
        if compares == requirement.values.is_empty() {
            let problem = if compares { Problem::ValuesMissing } else { Problem::ValuesUnused };
            errors.push(FieldError { field: values, problem });
        }
    }
}

fn check_labels(labels: &BTreeMap<String, String>, field: &str, errors: &mut Vec<FieldError>) {
    for (key, value) in labels {
        // A key may be as long as the whole request.
        let shown: String = key.chars().take(320).collect();
        let field = format!("{field}[{shown}]");
        note(&field, check_label_key(key), errors);
        note(&field, check_label_value(value), errors);
    }
}

fn check_ports(ports: &[PortRange], field: &str, errors: &mut Vec<FieldError>) {
    for (index, ports) in ports.iter().enumerate() {
        let (first, last) = ports.bounds();
        if last < first {
            let field = format!("{field}[{index}].endPort");
            errors.push(FieldError { field, problem: Problem::PortOrder(first) });
        }
    }
}

fn check_transitions(transitions: &[Transition], errors: &mut Vec<FieldError>) {
    for (index, transition) in transitions.iter().enumerate() {
        if transition.from.is_empty() && transition.to.is_empty() {
            let field = format!("spec.transitions[{index}]");
            errors.push(FieldError { field, problem: Problem::AnyToAny });
        }
    }
}

fn each(
    texts: &[String],
    field: &str,
    check: impl Fn(&str) -> Result<(), TextError>,
    errors: &mut Vec<FieldError>,
) {
    for (index, text) in texts.iter().enumerate() {
        note(&format!("{field}[{index}]"), check(text), errors);
    }
}

fn note<T>(field: &str, outcome: Result<T, TextError>, errors: &mut Vec<FieldError>) {
    if let Err(error) = outcome {
        errors.push(FieldError { field: field.to_owned(), problem: error.into() });
    }
}
