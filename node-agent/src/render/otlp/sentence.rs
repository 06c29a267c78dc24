//! A line as a short sentence, for people who page through a log store.

use super::{WORKLOADS, flat::Flat};

/// What happened.
pub(super) fn of(kind: &str, line: &Flat) -> String {
    let word = |path| line.text(path).unwrap_or_default();
    let number = |path| line.number(path).unwrap_or_default();
    match kind {
        "transition" => {
            let (old, new) = (word("tcpstates.old_state"), word("tcpstates.new_state"));
            format!("{} {old} to {new}, {}", who(line), ends(line))
        }
        "connection" => connection(line),
        "summary" => summary(line),
        "socket" => format!("{} {} with {}", who(line), word("tcpstates.state"), peer(line)),
        "listener" => {
            let length = number("tcpstates.accept_queue.length");
            let limit = number("tcpstates.accept_queue.limit");
            format!("{} listens on {}, {length} of {limit} wait", who(line), end(line, &LOCAL))
        }
        "time_wait" => "connections in TIME_WAIT".to_owned(),
        "snapshot" => format!("{} connections open", number("tcpstates.sockets.open")),
        "start" => {
            let (version, hook) = (word("tcpstates.version"), word("tcpstates.hook"));
            format!("kube-tcpstates {version} traces Linux {} with {hook}", word("tcpstates.kernel.release"))
        }
        "lost" => format!("{} transitions lost", number("tcpstates.lost.since_last")),
        "heartbeat" => {
            let (written, lost) = (number("tcpstates.totals.written"), number("tcpstates.totals.lost"));
            format!("{written} transitions written, {lost} lost")
        }
        "log" => word("tcpstates.text").to_owned(),
        other => other.to_owned(),
    }
}

fn connection(line: &Flat) -> String {
    let (who, peer) = (who(line), peer(line));
    match line.text("tcpstates.outcome").unwrap_or_default() {
        "closed" => format!("{who} and {peer} closed their connection"),
        "refused" => format!("{who} refused by {peer}"),
        "rejected" => format!("{who} rejected on the way to {peer}"),
        "unanswered" => format!("{who} got no answer from {peer}"),
        "no_local_port" => format!("{who} had no local port left for {peer}"),
        "reset_by_peer" => format!("{who} reset by {peer}"),
        "reset_by_us" => format!("{who} reset its connection with {peer}"),
        "timed_out" => format!("{who} lost {peer}: no answer any more"),
        "never_accepted" => format!("{who} never accepted {peer}"),
        "cancelled" => format!("{who} gave up connecting to {peer}"),
        _ => format!("{who} ended its connection with {peer}"),
    }
}

fn summary(line: &Flat) -> String {
    let all = line.number("tcpstates.summary.connections").unwrap_or_default();
    let closed = line.number("tcpstates.summary.by_outcome.closed").unwrap_or_default();
    format!("{}: {all} connections with {}, {} failed", who(line), peer(line), all.saturating_sub(closed))
}

/// The workload, pod, container, unit or thread.
fn who(line: &Flat) -> &str {
    const OTHERS: [&str; 5] =
        ["k8s.pod.name", "k8s.pod.uid", "container.id", "thread.name", "tcpstates.host.unit"];
    WORKLOADS.iter().chain(&OTHERS).find_map(|name| line.text(name)).unwrap_or("somebody")
}

/// The other end: its Service or pod where that is known, and the address.
fn peer(line: &Flat) -> String {
    let names = ["tcpstates.peer.k8s.service.name", "tcpstates.peer.k8s.pod.name"];
    let address = end(line, &PEER);
    match names.iter().find_map(|name| line.text(name)) {
        Some(name) => format!("{name} ({address})"),
        None => address,
    }
}

fn ends(line: &Flat) -> String {
    if line.has("network.peer") {
        format!("with {}", peer(line))
    } else {
        format!("on {}", end(line, &LOCAL))
    }
}

/// Where address and port of an end are.
type End = [&'static str; 2];
const LOCAL: End = ["network.local.address", "network.local.port"];
const PEER: End = ["network.peer.address", "network.peer.port"];

/// `10.0.0.1:80`, `[2001:db8::1]:80`; without a port the address alone, without an address the port.
fn end(line: &Flat, [address, port]: &End) -> String {
    match (line.text(address), line.number(port)) {
        (Some(address), Some(port)) if address.contains(':') => format!("[{address}]:{port}"),
        (Some(address), Some(port)) => format!("{address}:{port}"),
        (Some(address), None) => address.to_owned(),
        (None, Some(port)) => format!(":{port}"),
        (None, None) => "others".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::of;

    #[test]
    fn each_kind_of_line_is_a_sentence() {
        let network = json!({"local": {"address": "10.1.2.3", "port": 8443}, "peer": {"address": "2001:db8::1", "port": 81}});
        let cases = [
            (
                json!({"type": "transition", "old_state": "SYN_SENT", "new_state": "ESTABLISHED"}),
                "checkout SYN_SENT to ESTABLISHED, with [2001:db8::1]:81",
            ),
            (json!({"type": "connection", "outcome": "refused"}), "checkout refused by [2001:db8::1]:81"),
            (
                json!({"type": "connection", "outcome": "closed", "peer": {"k8s": {"service": {"name": "payments"}}}}),
                "checkout and payments ([2001:db8::1]:81) closed their connection",
            ),
            (
                json!({"type": "summary", "summary": {"connections": 12, "by_outcome": {"closed": 10}}}),
                "checkout: 12 connections with [2001:db8::1]:81, 2 failed",
            ),
            (
                json!({"type": "listener", "accept_queue": {"length": 3, "limit": 128}}),
                "checkout listens on 10.1.2.3:8443, 3 of 128 wait",
            ),
            (json!({"type": "lost", "lost": {"since_last": 5}}), "5 transitions lost"),
            (json!({"type": "log", "text": "so it is"}), "so it is"),
        ];
        for (own, sentence) in cases {
            let kind = own["type"].as_str().unwrap().to_owned();
            let line =
                json!({"tcpstates": own, "network": network, "k8s": {"deployment": {"name": "checkout"}}});
            let line = serde_json::from_value(line).unwrap();
            assert_eq!(of(&kind, &line), sentence);
        }
    }
}
