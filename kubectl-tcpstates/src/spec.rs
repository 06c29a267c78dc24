//! What is asked for becomes a `TcpStateTrace`, checked as the agents will check it. Pure.

use std::time::Duration;

use kube_tcpstates_crds::trace::{
    Mode, OpenSockets, OpenState, Outcome, PortRange, Role, StateName, Transition,
};
use kube_tcpstates_crds::validate::{self, FieldError};
use kube_tcpstates_crds::{GROUP, LabelSelector, TcpStateTraceSpec, TraceKind, VERSION, duration};
use serde_json::{Value, json};

use crate::args::{
    FilterArguments, ListArguments, ModeArgument, RoleArgument, TargetArguments, TopArguments, TraceArguments,
};
use crate::target::Target;

/// Traces that this program has made, by their label.
pub(crate) const MADE_BY: &str = "app.kubernetes.io/managed-by=kubectl-tcpstates";
/// A trace whose end nobody waits for.
pub(crate) const LONGEST: Duration = Duration::from_mins(15);
/// A trace outlives what was asked for by this, so that its agents do not stop first.
const SLACK: Duration = Duration::from_secs(15);
/// The least that a trace may live.
const SHORTEST: Duration = Duration::from_secs(10);
/// Between two snapshots, at least: agents take the first at once.
const EVERY: &str = "10s";
/// What `top` counts as open.
const OPEN: [OpenState; 8] = [
    OpenState::Established,
    OpenState::SynSent,
    OpenState::SynRecv,
    OpenState::FinWait1,
    OpenState::FinWait2,
    OpenState::CloseWait,
    OpenState::LastAck,
    OpenState::Closing,
];
/// The flags that fields come from.
const FLAGS: [(&str, &str); 8] = [
    ("spec.podSelector", "-l"),
    ("spec.containers", "--container"),
    ("spec.peerPorts", "--peer-port"),
    ("spec.localPorts", "--local-port"),
    ("spec.peerCIDRs", "--peer"),
    ("spec.openSockets.states", "--state"),
    ("spec.openSockets.minAge", "--min-age"),
    ("spec.openSockets.limit", "--limit"),
];
/// Names may have 253 characters, and the server adds five.
const NAME_AT_MOST: usize = 200;

/// A duration of an option that may be none, by the option's name.
fn any_time(option: &str, text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| format!("{option} {text}: {error}"))
}

/// A duration of an option, by the option's name.
pub(crate) fn time(option: &str, text: &str) -> Result<Duration, String> {
    let time = any_time(option, text)?;
    if time.is_zero() { Err(format!("{option} {text}: it must be more than nothing")) } else { Ok(time) }
}

/// How long a trace may go on.
pub(crate) fn length(arguments: &TraceArguments) -> Result<Duration, String> {
    arguments.for_.as_deref().map_or(Ok(LONGEST), |text| time("--for", text))
}

/// The spec of `trace`. Of an object that is named the server knows the labels: they are to be added.
pub(crate) fn of_trace(arguments: &TraceArguments) -> Result<TcpStateTraceSpec, String> {
    let mut spec = filtered(&arguments.filter, &arguments.target)?;
    spec.ttl = Some(ttl(length(arguments)?));
    spec.peer_names = arguments.peer_names;
    (spec.mode, spec.outcomes) = match arguments.mode {
        _ if arguments.failures => (Mode::Connections, vec![Outcome::Failed]),
        ModeArgument::Connections => (Mode::Connections, Vec::new()),
        ModeArgument::Transitions => (Mode::Transitions, Vec::new()),
        ModeArgument::Summary => (Mode::Summary, Vec::new()),
    };
    if spec.mode == Mode::Summary {
        spec.interval = Some(EVERY.to_owned());
    }
    checked(spec, arguments.for_.as_deref().map(|text| ("--for", text)))
}

/// The spec of `list`: snapshots, and no line of what happens meanwhile. As of `trace`, without the labels of an object.
pub(crate) fn of_list(arguments: &ListArguments) -> Result<TcpStateTraceSpec, String> {
    let mut spec = filtered(&arguments.filter, &arguments.target)?;
    arguments.min_age.as_deref().map(|text| any_time("--min-age", text)).transpose()?;
    spec.ttl = Some(ttl(time("--timeout", &arguments.timeout)?));
    spec.peer_names = arguments.peer_names;
    // A listener cannot connect, so no transition is like this.
    spec.transitions = vec![Transition { from: vec![StateName::Listen], to: vec![StateName::SynSent] }];
    spec.open_sockets = Some(OpenSockets {
        every: EVERY.to_owned(),
        states: arguments.states.iter().map(|name| state(name.trim())).collect::<Result<_, _>>()?,
        min_age: arguments.min_age.clone(),
        limit: arguments.limit,
    });
    checked(spec, Some(("--timeout", &arguments.timeout)))
}

/// The spec of `top`: sums and snapshots. As of `trace`, without the labels of an object.
pub(crate) fn of_top(arguments: &TopArguments) -> Result<TcpStateTraceSpec, String> {
    let mut spec = filtered(&arguments.filter, &arguments.target)?;
    spec.ttl = Some(ttl(LONGEST));
    spec.peer_names = arguments.peer_names;
    (spec.mode, spec.interval) = (Mode::Summary, Some(EVERY.to_owned()));
    spec.open_sockets = Some(OpenSockets {
        every: EVERY.to_owned(),
        // TIME_WAIT would crowd the others out, and listeners have no other end.
        states: OPEN.to_vec(),
        min_age: None,
        limit: 1000,
    });
    checked(spec, None)
}

/// The spec, once it is known that no agent will refuse it: else the flag at fault is told. `ends` is the flag that its
/// `ttl` comes from.
fn checked(spec: TcpStateTraceSpec, ends: Option<(&str, &str)>) -> Result<TcpStateTraceSpec, String> {
    let json = serde_json::to_value(&spec).map_err(|error| error.to_string())?;
    let Err(refusal) = validate::check_spec(TraceKind::Namespaced, Some(&json)) else { return Ok(spec) };
    let told = refusal.errors().iter().map(|FieldError { field, problem }| {
        if let (Some((flag, text)), "spec.ttl") = (ends, field.as_str()) {
            return format!("{flag} {text}: {problem}");
        }
        match FLAGS.iter().find(|(name, _)| field.starts_with(name)) {
            Some((_, flag)) => format!("{flag}{}: {problem}", value(&json, field)),
            None => format!("{field}: {problem}"),
        }
    });
    Err(told.collect::<Vec<_>>().join("; "))
}

/// What was given for a field, behind a space; nothing for a field that is more than one value.
fn value(spec: &Value, field: &str) -> String {
    let pointer = field.trim_start_matches("spec").replace(['.', '['], "/").replace(']', "");
    match spec.pointer(&pointer) {
        Some(Value::String(text)) => format!(" {text}"),
        Some(Value::Number(number)) => format!(" {number}"),
        _ => String::new(),
    }
}

fn filtered(filter: &FilterArguments, target: &TargetArguments) -> Result<TcpStateTraceSpec, String> {
    let pod_selector = match Target::parse(target.target.as_deref(), target.selector.as_deref())? {
        Some(Target::Labels(selector)) => selector,
        Some(Target::Object(_)) | None => LabelSelector::default(),
    };
    let ports = |option: &str, texts: &[String]| -> Result<Vec<PortRange>, String> {
        texts.iter().map(|text| port(text).map_err(|why| format!("{option} {text}: {why}"))).collect()
    };
    let role = match filter.role {
        None => Role::Any,
        Some(RoleArgument::Client) => Role::Client,
        Some(RoleArgument::Server) => Role::Server,
    };
    let spec = TcpStateTraceSpec {
        pod_selector,
        containers: target.containers.clone(),
        role,
        peer_ports: ports("--peer-port", &filter.peer_ports)?,
        local_ports: ports("--local-port", &filter.local_ports)?,
        peer_cidrs: filter.peers.clone(),
        ..TcpStateTraceSpec::default()
    };
    Ok(spec)
}

fn ttl(wanted: Duration) -> String {
    // A ttl has whole seconds.
    let seconds = (wanted + SLACK).max(SHORTEST).as_secs_f64().ceil();
    duration::format(Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST))
}

fn port(text: &str) -> Result<PortRange, &'static str> {
    let number = |text: &str| {
        let port = text.parse().ok().filter(|port| *port != 0);
        port.ok_or("it is a port from 1 to 65535, or two with a - between")
    };
    let Some((first, last)) = text.split_once('-') else {
        return Ok(PortRange { port: number(text)?, end_port: None });
    };
    let (port, end) = (number(first)?, number(last)?);
    if end < port {
        return Err("the range ends before it starts");
    }
    Ok(PortRange { port, end_port: Some(end) })
}

fn state(text: &str) -> Result<OpenState, String> {
    let name = text.to_ascii_uppercase().replace('-', "_").replace("FIN_WAIT_", "FIN_WAIT");
    serde_json::from_value(json!(name)).map_err(|_| {
        format!(
            "--state {text}: there are ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE_WAIT, \
             LAST_ACK, LISTEN and CLOSING"
        )
    })
}

/// The object as it is sent, once it is known that no agent will refuse it.
pub(crate) fn object(namespace: &str, about: &str, spec: &TcpStateTraceSpec) -> Result<Value, String> {
    let (key, value) = MADE_BY.split_once('=').unwrap_or((MADE_BY, ""));
    let about: String = about.chars().take(NAME_AT_MOST).collect();
    let object = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "TcpStateTrace",
        "metadata": {
            "generateName": format!("kubectl-{about}-"),
            "namespace": namespace,
            "labels": {key: value},
        },
        "spec": spec,
    });
    validate::check_object(&object).map_err(|refusal| format!("the agents would refuse it: {refusal}"))?;
    Ok(object)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Arguments, Command};

    fn spec(line: &str) -> Result<Value, String> {
        let words = ["kubectl-tcpstates"].into_iter().chain(line.split(' '));
        let spec = match Arguments::try_parse_from(words).unwrap().command {
            Command::Trace(arguments) => of_trace(&arguments)?,
            Command::List(arguments) => of_list(&arguments)?,
            Command::Top(arguments) => of_top(&arguments)?,
            other => panic!("{other:?}"),
        };
        let mut object = object("shop", "a", &spec)?;
        let spec = object["spec"].as_object_mut().unwrap();
        for same in ["podSelector", "rateLimit", "family"] {
            spec.remove(same).unwrap();
        }
        Ok(object["spec"].take())
    }

    #[test]
    fn what_is_asked_for_is_what_the_agents_are_asked_for() {
        for (line, expected) in [
            ("trace deploy/a", json!({"mode": "Connections", "role": "Any", "ttl": "15m15s"})),
            (
                "trace deploy/a --failures --for 90s --peer-port 443 --peer-port 8000-8999 -c app",
                json!({"mode": "Connections", "outcomes": ["failed"], "role": "Any", "ttl": "1m45s", "containers": ["app"],
                    "peerPorts": [{"port": 443}, {"port": 8000, "endPort": 8999}]}),
            ),
            (
                "trace -l a=b --mode transitions --role client --peer 10.0.0.0/8 --local-port 80 --for 500ms",
                json!({"mode": "Transitions", "role": "Client", "ttl": "16s", "peerCIDRs": ["10.0.0.0/8"],
                    "localPorts": [{"port": 80}]}),
            ),
            (
                "trace -l a=b --mode Summary --peer-names",
                json!({"mode": "Summary", "interval": "10s", "role": "Any", "ttl": "15m15s", "peerNames": true}),
            ),
            (
                "list --state close-wait --state fin_wait_2 --min-age 1m --peer-names",
                json!({"mode": "Transitions", "role": "Any", "ttl": "35s", "peerNames": true,
                    "transitions": [{"from": ["LISTEN"], "to": ["SYN_SENT"]}],
                    "openSockets": {"every": "10s", "states": ["CLOSE_WAIT", "FIN_WAIT2"], "minAge": "1m", "limit": 1000}}),
            ),
            (
                "list --state CLOSE_WAIT,LAST_ACK --state listen",
                json!({"mode": "Transitions", "role": "Any", "ttl": "35s",
                    "transitions": [{"from": ["LISTEN"], "to": ["SYN_SENT"]}],
                    "openSockets": {"every": "10s", "states": ["CLOSE_WAIT", "LAST_ACK", "LISTEN"], "limit": 1000}}),
            ),
            (
                "top -l a=b --sort failed --peer-names -c app",
                json!({"mode": "Summary", "interval": "10s", "role": "Any", "ttl": "15m15s", "peerNames": true,
                    "containers": ["app"],
                    "openSockets": {"every": "10s", "limit": 1000, "states": ["ESTABLISHED", "SYN_SENT", "SYN_RECV",
                        "FIN_WAIT1", "FIN_WAIT2", "CLOSE_WAIT", "LAST_ACK", "CLOSING"]}}),
            ),
        ] {
            assert_eq!(spec(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn what_the_agents_would_refuse_is_not_sent() {
        for (line, part) in [
            ("trace deploy/a --peer 10.0.0.1/8", "--peer 10.0.0.1/8: has bits set behind its prefix length"),
            ("trace deploy/a --peer-port 90-80", "--peer-port 90-80: the range ends before it starts"),
            ("trace deploy/a --peer-port http", "--peer-port http: it is a port from 1 to 65535"),
            ("trace deploy/a --local-port 70000", "--local-port 70000: it is a port from 1 to 65535"),
            ("trace deploy/a --local-port 0", "--local-port 0: it is a port from 1 to 65535"),
            ("trace deploy/a --container App", "--container App: "),
            ("trace -l app=a!", "-l a!: "),
            ("trace a", "a: say of what kind it is"),
            ("trace deploy/a --for 5", "--for 5: is not a duration"),
            ("trace deploy/a --for 0s", "--for 0s: it must be more than nothing"),
            ("trace deploy/a --for 1000h", "--for 1000h: "),
            ("list --state OPEN", "--state OPEN: there are ESTABLISHED,"),
            ("list --state CLOSE_WAIT,OPEN", "--state OPEN: there are ESTABLISHED,"),
            ("list --state LISTEN,LISTEN", "--state LISTEN: stands in the list twice"),
            ("list --limit 0", "--limit 0: must be at least 1"),
            ("list --limit 1001", "--limit 1001: must be at most 1000"),
            ("list --min-age 5", "--min-age 5: is not a duration"),
            ("list --timeout 1000h", "--timeout 1000h: "),
            ("top --peer 10.0.0.0", "--peer 10.0.0.0: "),
        ] {
            let error = spec(line).unwrap_err();
            assert!(error.contains(part) && !error.contains('\n'), "{line}: {error}");
        }
    }

    #[test]
    fn the_object_says_who_made_it_and_its_name_is_the_servers() {
        let object = object("shop", &"a".repeat(300), &TcpStateTraceSpec::default()).unwrap();
        let name = object["metadata"]["generateName"].as_str().unwrap();
        assert!(name.starts_with("kubectl-aaa") && name.len() < 248, "{name}");
        assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/managed-by"], "kubectl-tcpstates");
    }
}
