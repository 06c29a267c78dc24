//! From a checked spec to what the kernel judges.

use kube_tcpstates_common::state::State;
use kube_tcpstates_crds::duration::DurationError;
use kube_tcpstates_crds::text::{parse_min_state_duration, parse_snapshot_interval, parse_summary_interval};
use kube_tcpstates_crds::trace::{self as spec, TcpStateTraceSpec};
use kube_tcpstates_events::Outcome;

use super::Outcomes;
use crate::decode::{NetworkType, Role};
use crate::filter::{
    CgroupChoice, Cidr, FilterError, Mode, PortRange, Reason, StateSet, TraceFilter, TransitionFilter,
};
use crate::open::{OpenStates, Snapshots};
use crate::summary::DEFAULT_INTERVAL_NS;

/// The filter of a spec. Every field is named here once, so that a new one is not forgotten. A spec that was checked
/// has none of the errors.
pub(super) fn filter(spec: &TcpStateTraceSpec) -> Result<TraceFilter, FilterError> {
    let TcpStateTraceSpec {
        // What decides whether and for whom the trace is active; see `judge`.
        pod_selector: _,
        containers: _,
        node_selector: _,
        ttl: _,
        // See `outcomes` and `interval`.
        outcomes: _,
        interval: _,
        // What its lines are like, and how many.
        mode,
        open_sockets: _,
        rate_limit: _,
        pod_labels: _,
        peer_names: _,
        family,
        role,
        local_ports,
        peer_ports,
        peer_cidrs,
        transitions,
        min_state_duration,
    } = spec;
    Ok(TraceFilter {
        mode: match mode {
            spec::Mode::Transitions => Mode::Transitions,
            spec::Mode::Connections => Mode::Connections,
            spec::Mode::Summary => Mode::Summary,
        },
        // Also of a cluster trace that selects everything: only pods are traced, never the host.
        cgroups: CgroupChoice::Selected,
        family: match family {
            spec::Family::Any => None,
            spec::Family::V4 => Some(NetworkType::Ipv4),
            spec::Family::V6 => Some(NetworkType::Ipv6),
        },
        role: match role {
            spec::Role::Any => None,
            spec::Role::Client => Some(Role::Client),
            spec::Role::Server => Some(Role::Server),
        },
        local_ports: each(local_ports, "spec.localPorts", |range, field| ports(*range, field))?,
        peer_ports: each(peer_ports, "spec.peerPorts", |range, field| ports(*range, field))?,
        peer_cidrs: each(peer_cidrs, "spec.peerCIDRs", |text, field| {
            text.parse::<Cidr>().map_err(|reason| reason.of(field, text))
        })?,
        transitions: each(transitions, "spec.transitions", transition)?,
        netns: None,
        min_duration: match min_state_duration {
            None => None,
            Some(text) => Some(
                parse_min_state_duration(text)
                    .map_err(|_| Reason::from(DurationError::Form).of("spec.minStateDuration", text))?,
            ),
        },
    })
}

/// How connections must have ended that a spec asks for.
pub(super) fn outcomes(asked: &[spec::Outcome]) -> Outcomes {
    let of = |asked: &spec::Outcome| -> &'static [Outcome] {
        match asked {
            spec::Outcome::Failed => &Outcome::FAILURES,
            spec::Outcome::Closed => &[Outcome::Closed],
            spec::Outcome::Refused => &[Outcome::Refused],
            spec::Outcome::Rejected => &[Outcome::Rejected],
            spec::Outcome::Unanswered => &[Outcome::Unanswered],
            spec::Outcome::NoLocalPort => &[Outcome::NoLocalPort],
            spec::Outcome::ResetByPeer => &[Outcome::ResetByPeer],
            spec::Outcome::ResetByUs => &[Outcome::ResetByUs],
            spec::Outcome::TimedOut => &[Outcome::TimedOut],
            spec::Outcome::NeverAccepted => &[Outcome::NeverAccepted],
            spec::Outcome::Cancelled => &[Outcome::Cancelled],
            spec::Outcome::Unknown => &[Outcome::Unknown],
        }
    };
    Outcomes::of(asked.iter().flat_map(of).copied())
}

/// Time between two summaries, ns.
pub(super) fn interval(asked: Option<&str>) -> Result<u64, FilterError> {
    let Some(text) = asked else { return Ok(DEFAULT_INTERVAL_NS) };
    let interval = parse_summary_interval(text)
        .map_err(|_| Reason::from(DurationError::Form).of("spec.interval", text))?;
    Ok(u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX))
}

/// The snapshots that a spec asks for. What was checked has none of the errors.
pub(super) fn snapshots(asked: &spec::OpenSockets) -> Result<Snapshots, FilterError> {
    let spec::OpenSockets { every, states, min_age, limit } = asked;
    let wrong = |field, text: &str| Reason::from(DurationError::Form).of(field, text);
    let ns = |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let least = min_age
        .as_deref()
        .map(|text| parse_min_state_duration(text).map_err(|_| wrong("spec.openSockets.minAge", text)));
    let every = parse_snapshot_interval(every).map_err(|_| wrong("spec.openSockets.every", every))?;
    let states = OpenStates::named(states.iter().map(|state| state.name()));
    Ok(Snapshots {
        every_ns: ns(every),
        // The two lists of states are one, as a test shows.
        states: states.unwrap_or(OpenStates::ANY),
        min_age_ns: least.transpose()?.map_or(0, ns),
        limit: *limit as usize,
    })
}

fn each<T, U>(
    items: &[T],
    field: &str,
    convert: impl Fn(&T, &str) -> Result<U, FilterError>,
) -> Result<Vec<U>, FilterError> {
    items.iter().enumerate().map(|(index, item)| convert(item, &format!("{field}[{index}]"))).collect()
}

fn ports(ports: spec::PortRange, field: &str) -> Result<PortRange, FilterError> {
    let (first, last) = ports.bounds();
    PortRange::new(first, last).map_err(|reason| reason.of(field, &format!("{first}-{last}")))
}

fn transition(transition: &spec::Transition, field: &str) -> Result<TransitionFilter, FilterError> {
    let side = |states: &[spec::StateName]| StateSet::of(states.iter().map(|state| kernel_state(*state)));
    side(&transition.from)
        .and_then(|from| TransitionFilter::new(from, side(&transition.to)?))
        .map_err(|reason| reason.of(field, &format!("{:?} to {:?}", transition.from, transition.to)))
}

const fn kernel_state(state: spec::StateName) -> State {
    match state {
        spec::StateName::Established => State::ESTABLISHED,
        spec::StateName::SynSent => State::SYN_SENT,
        spec::StateName::SynRecv => State::SYN_RECV,
        spec::StateName::FinWait1 => State::FIN_WAIT1,
        spec::StateName::FinWait2 => State::FIN_WAIT2,
        spec::StateName::Close => State::CLOSE,
        spec::StateName::CloseWait => State::CLOSE_WAIT,
        spec::StateName::LastAck => State::LAST_ACK,
        spec::StateName::Listen => State::LISTEN,
        spec::StateName::Closing => State::CLOSING,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube_tcpstates_crds::{TraceKind, validate::check_spec};
    use serde_json::{Value, json};

    use super::*;

    fn filter_of(spec: &Value) -> TraceFilter {
        filter(&check_spec(TraceKind::Namespaced, Some(spec)).unwrap().spec).unwrap()
    }

    #[test]
    fn a_summary_has_its_interval_or_a_minute() {
        let asked = |spec: Value| {
            let checked = check_spec(TraceKind::Namespaced, Some(&spec)).unwrap();
            (filter(&checked.spec).unwrap().mode, interval(checked.spec.interval.as_deref()).unwrap())
        };
        let spec = json!({"podSelector": {}, "mode": "Summary", "interval": "1m30s", "outcomes": ["failed"]});
        assert_eq!(asked(spec), (Mode::Summary, 90_000_000_000));
        assert_eq!(asked(json!({"podSelector": {}, "mode": "Summary"})), (Mode::Summary, 60_000_000_000));
        assert_eq!(interval(Some("9s")).unwrap_err().field, "spec.interval");
    }

    #[test]
    fn every_field_of_the_snapshots_reaches_them() {
        let all = [
            "ESTABLISHED",
            "SYN_SENT",
            "SYN_RECV",
            "FIN_WAIT1",
            "FIN_WAIT2",
            "TIME_WAIT",
            "CLOSE_WAIT",
            "LAST_ACK",
            "LISTEN",
            "CLOSING",
        ];
        let asked = |spec: Value| {
            let spec = json!({"podSelector": {}, "openSockets": spec});
            let checked = check_spec(TraceKind::Namespaced, Some(&spec)).unwrap();
            snapshots(checked.spec.open_sockets.as_ref().unwrap()).unwrap()
        };
        let narrow =
            asked(json!({"every": "1m30s", "states": ["CLOSE_WAIT", "LISTEN"], "minAge": "60s", "limit": 7}));
        assert_eq!(narrow.states.to_string(), "CLOSE_WAIT, LISTEN");
        assert_eq!((narrow.every_ns, narrow.min_age_ns, narrow.limit), (90_000_000_000, 60_000_000_000, 7));
        let wide = asked(json!({"every": "1h"}));
        assert_eq!((wide.states, wide.min_age_ns, wide.limit), (OpenStates::ANY, 0, 100));
        assert_eq!(asked(json!({"every": "10s", "states": all})).states.to_string(), all.join(", "));
    }

    #[test]
    fn an_empty_spec_takes_every_transition_of_the_pods_it_selects_and_nothing_of_the_host() {
        let expected = TraceFilter { cgroups: CgroupChoice::Selected, ..TraceFilter::default() };
        assert_eq!(filter_of(&json!({"podSelector": {}})), expected);
    }

    #[test]
    fn every_field_of_a_spec_that_narrows_reaches_the_filter() {
        let filter = filter_of(&json!({
            "podSelector": {},
            "family": "IPv6",
            "role": "Server",
            "localPorts": [{"port": 8080}, {"port": 30000, "endPort": 32767}],
            "peerPorts": [{"port": 443}],
            "peerCIDRs": ["10.0.0.0/8", "2001:db8::/32", "::ffff:192.0.2.0/120"],
            "transitions": [{"from": ["SYN_SENT"], "to": ["CLOSE"]}, {"to": ["FIN_WAIT1", "FIN_WAIT2"]}],
            "minStateDuration": "1m30s",
        }));
        let range = |first, last| PortRange::new(first, last).unwrap();
        let expected = TraceFilter {
            mode: Mode::Transitions,
            cgroups: CgroupChoice::Selected,
            family: Some(NetworkType::Ipv6),
            role: Some(Role::Server),
            local_ports: vec![range(8080, 8080), range(30000, 32767)],
            peer_ports: vec![range(443, 443)],
            peer_cidrs: ["10.0.0.0/8", "2001:db8::/32", "192.0.2.0/24"]
                .map(|text| text.parse().unwrap())
                .into(),
            transitions: ["SYN_SENT>CLOSE", "*>FIN_WAIT1|FIN_WAIT2"].map(|text| text.parse().unwrap()).into(),
            netns: None,
            min_duration: Some(Duration::from_secs(90)),
        };
        assert_eq!(filter, expected);
        assert_eq!(filter_of(&json!({"podSelector": {}, "family": "IPv4"})).family, Some(NetworkType::Ipv4));
        assert_eq!(filter_of(&json!({"podSelector": {}, "role": "Client"})).role, Some(Role::Client));
    }

    #[test]
    fn every_state_keeps_its_name() {
        for state in spec::StateName::ALL {
            let name = serde_json::to_value(state).unwrap();
            assert_eq!(kernel_state(state).name(), name.as_str());
        }
    }

    #[test]
    fn what_was_not_checked_is_an_error_with_its_field() {
        let spec = TcpStateTraceSpec {
            peer_cidrs: vec!["10.0.0.0/8".into(), "10.0.0.1/8".into()],
            ..TcpStateTraceSpec::default()
        };
        assert_eq!(filter(&spec).unwrap_err().field, "spec.peerCIDRs[1]");
    }
}
