use serde_json::{Value, json};

use super::*;
use crate::paint::Paint;
use crate::table::live;

const SECOND: Duration = Duration::from_secs(1);

/// A line of pod `pod` on node `node`; `own` is what is under `tcpstates`.
fn line(kind: &str, node: &str, pod: &str, mut own: Value, network: &Value) -> Line {
    for (key, value) in [
        ("type", json!(kind)),
        ("schema", json!("tcpstates.dev/events/v1")),
        ("run", json!("5f0c2a91")),
        ("seq", json!(7)),
        ("attribution", json!({"source": "socket_cgroup", "status": "resolved"})),
        ("traces", json!(["shop/t"])),
    ] {
        own[key] = value;
    }
    let mut network = network.clone();
    (network["transport"], network["type"]) = (json!("tcp"), json!("ipv4"));
    let line = json!({
        "time": "2026-11-28T12:00:10Z", "tcpstates": own, "network": network,
        "k8s": {
            "node": {"name": node}, "namespace": {"name": "shop"},
            "pod": {"name": pod, "uid": "u"}, "container": {"name": "app"},
        },
    });
    serde_json::from_value(line).unwrap()
}

fn client() -> Value {
    json!({"peer": {"address": "10.96.0.12", "port": 5432}})
}

/// `failed` of `connections` were refused since `from`, a time of the minute before the line's.
fn summary(node: &str, pod: &str, from: &str, (connections, failed): (u64, u64)) -> Line {
    let own = json!({"role": "client", "summary": {
        "from": format!("2026-11-28T12:00:{from}Z"), "interval_s": 10,
        "connections": connections, "by_outcome": {"closed": connections - failed, "refused": failed},
        "sent": {"bytes": 1000}, "received": {"bytes": 4000}, "retransmits": 5, "syn_retransmits": 0,
        "handshake": {"count": 1, "mean_us": 90, "max_us": 200, "p50_us": 85, "p99_us": 180},
    }});
    line("summary", node, pod, own, &client())
}

fn socket(node: &str, pod: &str, state: &str, role: &str) -> Line {
    let network = if role == "client" {
        json!({"local": {"address": "10.244.1.7", "port": 43512}, "peer": {"address": "10.96.0.12", "port": 5432}})
    } else {
        json!({"local": {"address": "10.244.1.7", "port": 8080}, "peer": {"address": "10.244.0.9", "port": 39000}})
    };
    line("socket", node, pod, json!({"role": role, "state": state}), &network)
}

fn snapshot(node: &str, left_out: u64) -> Line {
    let own = json!({
        "sockets": {"open": 2 + left_out, "shown": 2, "left_out": left_out},
        "listeners": {"open": 0, "shown": 0, "left_out": 0}, "time_wait": 0,
    });
    line("snapshot", node, "none", own, &json!({}))
}

/// Two nodes: on the first `web` connects, and some of it fails; on the second `db` has two connections open.
fn told() -> Nodes {
    let mut told = Nodes::default();
    for line in [
        summary("a", "web", "00", (100, 10)),
        socket("a", "web", "CLOSE_WAIT", "client"),
        socket("a", "web", "FIN_WAIT2", "client"),
        snapshot("a", 0),
        socket("b", "db", "ESTABLISHED", "server"),
        socket("b", "db", "ESTABLISHED", "server"),
        snapshot("b", 3),
    ] {
        told.take(&line, SECOND);
    }
    told
}

#[test]
fn rows_join_what_has_ended_with_what_is_open() {
    let now = told().now(2 * SECOND);
    assert_eq!((now.nodes, now.left_out, now.rows.len()), (2, 3, 2));
    let (about, web) = &now.rows[1];
    let expected = About {
        pod: "web".to_owned(),
        side: Some("client"),
        peer: "10.96.0.12".to_owned(),
        port: Some(5432),
    };
    assert_eq!(*about, expected);
    assert_eq!((web.connections, web.failed, web.bytes, web.retransmits), (10.0, 1.0, 500.0, 0.5));
    assert_eq!((web.close_wait, web.closing, web.handshake_us), (1, 1, Some(180)));
    let (about, db) = &now.rows[0];
    assert_eq!((about.peer.as_str(), about.port, db.established), ("10.244.0.9", Some(8080), 2));
}

#[test]
fn what_is_open_has_the_name_that_the_sums_tell() {
    let mut told = told();
    let peer =
        json!({"k8s": {"namespace": {"name": "shop"}, "service": {"name": "db"}}, "source": "service"});
    let Line::Summary(mut line) = summary("b", "cron", "00", (1, 0)) else { unreachable!() };
    line.tcpstates.peer = serde_json::from_value(peer).unwrap();
    told.take(&Line::Summary(line), SECOND);
    let now = told.now(SECOND);
    let peers: Vec<_> = now.rows.iter().map(|(about, _)| (about.pod.as_str(), about.peer.as_str())).collect();
    assert_eq!(peers, [("cron", "shop/db"), ("db", "10.244.0.9"), ("web", "shop/db")]);
    assert_eq!(now.rows[2].1.close_wait, 1);
}

#[test]
fn another_interval_takes_the_place_of_the_one_before() {
    let mut told = told();
    told.take(&summary("a", "cron", "05", (5, 0)), 11 * SECOND);
    // What is open still is of the same look; sums are of the last five seconds.
    let now = told.now(11 * SECOND);
    let rates: Vec<_> = now.rows.iter().map(|(about, row)| (about.pod.as_str(), row.connections)).collect();
    assert_eq!(rates, [("cron", 1.0), ("db", 0.0), ("web", 0.0)]);
}

#[test]
fn a_snapshot_counts_from_its_end_and_instead_of_the_last() {
    let mut told = told();
    assert!(!told.take(&socket("b", "db", "CLOSE_WAIT", "server"), 11 * SECOND));
    assert_eq!(told.now(11 * SECOND).sum().close_wait, 1, "that of web alone");
    assert!(told.take(&snapshot("b", 0), 11 * SECOND));
    let sum = told.now(11 * SECOND).sum();
    assert_eq!((sum.close_wait, sum.established), (2, 0));
}

#[test]
fn a_node_that_tells_nothing_any_more_is_not_shown() {
    let mut told = told();
    told.take(&snapshot("b", 0), 12 * SECOND);
    let now = told.now(16 * SECOND);
    assert_eq!((now.nodes, now.rows.len()), (1, 0));
    assert_eq!(told.now(60 * SECOND), Now::default());
    assert_eq!(told.looked().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn the_most_comes_first() {
    let mut told = told();
    told.take(&summary("a", "cron", "00", (20, 20)), SECOND);
    let mut now = told.now(SECOND);
    let order = |now: &mut Now, by| {
        now.sort(by);
        now.rows.iter().map(|(about, _)| about.pod.clone()).collect::<Vec<_>>().join(" ")
    };
    for (by, expected) in [
        (SortArgument::Open, "web db cron"),
        (SortArgument::Connections, "web cron db"),
        (SortArgument::Failed, "cron web db"),
        (SortArgument::Bytes, "web cron db"),
        (SortArgument::Handshake, "web cron db"),
    ] {
        assert_eq!(order(&mut now, by), expected, "{by:?}");
    }
}

#[test]
fn the_table_says_of_how_many_nodes_it_is_and_what_it_leaves_out() {
    let mut now = told().now(2 * SECOND);
    now.sort(SortArgument::Connections);
    let text = |at_most| String::from_utf8(live(&now, at_most, 2, Paint::default())).unwrap();
    let expected = "\
2 nodes: 7 open, 10.0 connections/s, 1.0 failed/s, 500 bytes/s; 2 transitions lost; 3 open are in no row
POD                         SIDE   PEER                        PORT  OPEN  SYN CLOSW CONN/S FAIL/S BYTES/S RETR/S HS-P99
web                         client 10.96.0.12                  5432     0    0     1   10.0    1.0     500    0.5  180us
db                          server 10.244.0.9                  8080     2    0     0    0.0    0.0       0    0.0      -
";
    assert_eq!(text(20), expected);
    assert!(text(1).ends_with("\nand 1 more: --rows shows more, --sort others first\n"), "{}", text(1));
    assert!(expected.lines().skip(1).all(|line| line.chars().count() <= 120));
}
