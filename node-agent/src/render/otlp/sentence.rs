//! A line as a short sentence, for people who page through a log store.

use serde_json::Value;

/// What happened.
pub(super) fn of(kind: &str, line: &Value) -> String {
    let own = &line["tcpstates"];
    match kind {
        "transition" => {
            format!("{} {} to {}, {}", who(line), word(own, "old_state"), word(own, "new_state"), ends(line))
        }
        "connection" => connection(line),
        "summary" => summary(line),
        "socket" => format!("{} {} with {}", who(line), word(own, "state"), peer(line)),
        "listener" => {
            let queue = &own["accept_queue"];
            let (length, limit) = (number(queue, "length"), number(queue, "limit"));
            format!("{} listens on {}, {length} of {limit} wait", who(line), end(&line["network"]["local"]))
        }
        "time_wait" => "connections in TIME_WAIT".to_owned(),
        "snapshot" => format!("{} connections open", number(&own["sockets"], "open")),
        "start" => {
            let release = word(&own["kernel"], "release");
            format!(
                "kube-tcpstates {} traces Linux {release} with {}",
                word(own, "version"),
                word(own, "hook")
            )
        }
        "lost" => format!("{} transitions lost", number(&own["lost"], "since_last")),
        "heartbeat" => {
            let totals = &own["totals"];
            format!("{} transitions written, {} lost", number(totals, "written"), number(totals, "lost"))
        }
        "log" => word(own, "text").to_owned(),
        other => other.to_owned(),
    }
}

fn connection(line: &Value) -> String {
    let (who, peer) = (who(line), peer(line));
    match word(&line["tcpstates"], "outcome") {
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

fn summary(line: &Value) -> String {
    let summary = &line["tcpstates"]["summary"];
    let all = number(summary, "connections");
    let closed = number(&summary["by_outcome"], "closed");
    let failed = all.saturating_sub(closed);
    format!("{}: {all} connections with {}, {failed} failed", who(line), peer(line))
}

/// The workload, pod, container, unit or thread.
fn who(line: &Value) -> &str {
    const NAMES: [&str; 11] = [
        "/k8s/deployment/name",
        "/k8s/statefulset/name",
        "/k8s/daemonset/name",
        "/k8s/cronjob/name",
        "/k8s/job/name",
        "/k8s/replicaset/name",
        "/k8s/pod/name",
        "/k8s/pod/uid",
        "/container/id",
        "/thread/name",
        "/tcpstates/host/unit",
    ];
    NAMES.iter().find_map(|name| line.pointer(name)?.as_str()).unwrap_or("somebody")
}

/// The other end: its Service or pod where that is known, and the address.
fn peer(line: &Value) -> String {
    let names = ["/tcpstates/peer/k8s/service/name", "/tcpstates/peer/k8s/pod/name"];
    let name = names.iter().find_map(|name| line.pointer(name)?.as_str());
    let address = end(&line["network"]["peer"]);
    name.map_or_else(|| address.clone(), |name| format!("{name} ({address})"))
}

fn ends(line: &Value) -> String {
    let network = &line["network"];
    if network["peer"].is_null() {
        return format!("on {}", end(&network["local"]));
    }
    format!("with {}", peer(line))
}

/// `10.0.0.1:80`, `[2001:db8::1]:80`; without a port the address alone, without an address the port.
fn end(end: &Value) -> String {
    match (end["address"].as_str(), end["port"].as_u64()) {
        (Some(address), Some(port)) if address.contains(':') => format!("[{address}]:{port}"),
        (Some(address), Some(port)) => format!("{address}:{port}"),
        (Some(address), None) => address.to_owned(),
        (None, Some(port)) => format!(":{port}"),
        (None, None) => "others".to_owned(),
    }
}

fn word<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_default()
}

fn number(of: &Value, name: &str) -> u64 {
    of[name].as_u64().unwrap_or(0)
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
            assert_eq!(of(&kind, &line), sentence);
        }
    }
}
