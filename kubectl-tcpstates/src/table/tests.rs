use kube_tcpstates_events::terminal::acts;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// What every line of the fixtures has.
fn line(kind: &str, mut own: Value, rest: &Value) -> Line {
    for (key, value) in [
        ("type", json!(kind)),
        ("schema", json!("tcpstates.dev/events/v1")),
        ("run", json!("5f0c2a91")),
        ("seq", json!(7)),
        ("connection", json!({"id": "9f2c41d07be6a835"})),
        ("attribution", json!({"source": "socket_cgroup", "status": "resolved"})),
        ("traces", json!(["shop/t"])),
    ] {
        if own.get(key).is_none() {
            own[key] = value;
        }
    }
    let mut line = json!({
        "time": "2026-11-27T12:00:05.123456789Z",
        "tcpstates": own,
        "network": {
            "transport": "tcp", "type": "ipv4",
            "local": {"address": "10.244.1.7", "port": 43512}, "peer": {"address": "10.96.0.12", "port": 8443},
        },
        "k8s": {
            "node": {"name": "node-a"}, "namespace": {"name": "shop"},
            "pod": {"name": "checkout-7d4f9c5b8-x2x7k", "uid": "u"}, "container": {"name": "app"},
        },
        "container": {"id": "4f1e0c9a7b21"}, "process": {"pid": 4242}, "thread": {"name": "checkout"},
    });
    for (key, value) in rest.as_object().unwrap() {
        line[key] = value.clone();
    }
    serde_json::from_value(line).unwrap()
}

fn shown(wide: bool, lines: &[Line]) -> String {
    let (mut rows, mut out) = (Rows::new(wide, Paint::default()), Vec::new());
    for line in lines {
        assert!(rows.line(&mut out, line));
    }
    String::from_utf8(out).unwrap()
}

fn connections() -> [Line; 3] {
    let own = |outcome: &str| json!({"outcome": outcome, "role": "client", "start": "2026-11-27T12:00:05Z", "duration_us": 107});
    let mut closed = own("closed");
    closed["closed_by"] = json!("local");
    closed["handshake_us"] = json!(98);
    closed["sent"] = json!({"bytes": 120, "segments": 1});
    closed["received"] = json!({"bytes": 4096, "segments": 3, "idle_us": 2600});
    closed["retransmits"] = json!(0);
    closed["idle_us"] = json!(1500);
    closed["duration_us"] = json!(17_780);
    closed["peer"] =
        json!({"k8s": {"namespace": {"name": "shop"}, "service": {"name": "payments"}}, "source": "service"});
    let mut reset = own("reset_by_us");
    reset["cause"] = json!("unread_data");
    reset["since_attach"] = json!(true);
    let long = json!({"k8s": {"pod": {"name": "a-very-long-name-of-a-deployment-7d4f9c5b8-x2x7k"}}});
    [
        line("connection", own("refused"), &json!({"error": {"type": "ECONNREFUSED"}})),
        line("connection", closed, &json!({})),
        line("connection", reset, &long),
    ]
}

#[test]
fn connections_say_who_failed_towards_whom_and_how() {
    assert_eq!(
        shown(false, &connections()),
        "\
TIME         POD                          SIDE   PEER                  OUTCOME                          MS SENT/RECEIVED
12:00:05.123 checkout-7d4f9c5b8-x2x7k     client 10.96.0.12:8443       refused                       0.107 -/-
12:00:05.123 checkout-7d4f9c5b8-x2x7k     client shop/payments:8443    closed                       17.780 120/4096
12:00:05.123 …-deployment-7d4f9c5b8-x2x7k client 10.96.0.12:8443       reset_by_us:unread_data      >0.107 -/-
"
    );
}

#[test]
fn the_wide_table_cuts_nothing() {
    let text = shown(true, &connections());
    let rows: Vec<Vec<&str>> = text.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(
        rows[0],
        "TIME NODE POD CONTAINER PROCESS SIDE LOCAL PEER PEER-NAME OUTCOME CLOSED-BY MS HANDSHAKE-MS IDLE-MS \
         SILENT-MS SENT RECEIVED RETR"
            .split(' ')
            .collect::<Vec<_>>()
    );
    assert_eq!(
        rows[2],
        "2026-11-27T12:00:05.123456789Z node-a shop/checkout-7d4f9c5b8-x2x7k app 4242/checkout client 10.244.1.7:43512 \
         10.96.0.12:8443 shop/payments closed local 17.780 0.098 1.500 2.600 120 4096 0"
            .split(' ')
            .collect::<Vec<_>>()
    );
    assert_eq!((rows[3][1], rows[3][2]), ("-", "a-very-long-name-of-a-deployment-7d4f9c5b8-x2x7k"));
    assert_eq!(rows[3][9], "reset_by_us:unread_data");
}

#[test]
fn transitions_say_the_state_left_and_entered() {
    let own =
        json!({"old_state": "SYN_SENT", "new_state": "CLOSE", "role": "client", "state_duration_us": 107});
    let lines = [
        line("transition", own, &json!({"error": {"type": "ECONNREFUSED"}})),
        line(
            "transition",
            json!({"old_state": "CLOSE", "new_state": "LISTEN"}),
            &json!({"k8s": null,
            "network": {"transport": "tcp", "type": "ipv6", "local": {"address": "::", "port": 80}}}),
        ),
    ];
    assert_eq!(
        shown(false, &lines),
        "\
TIME         POD                          SIDE   PEER                   TRANSITION                        MS ERROR
12:00:05.123 checkout-7d4f9c5b8-x2x7k     client 10.96.0.12:8443        SYN_SENT    -> CLOSE           0.107 ECONNREFUSED
12:00:05.123 -                            -      -                      CLOSE       -> LISTEN              - -
"
    );
    let wide = shown(true, &lines);
    assert!(wide.contains(" [::]:80 ") && wide.ends_with(" 9f2c41d07be6a835\n"), "{wide}");
}

#[test]
fn summaries_say_what_connections_add_up_to() {
    let summary = json!({
        "from": "2026-11-27T11:59:55Z", "interval_s": 10, "connections": 12, "by_outcome": {"closed": 10, "refused": 2},
        "sent": {"bytes": 1200}, "received": {"bytes": 48000}, "retransmits": 1, "syn_retransmits": 0,
        "handshake": {"count": 10, "mean_us": 433, "max_us": 900},
    });
    let mut others = summary.clone();
    others["other"] = json!(true);
    let network = json!({"network": {"transport": "tcp", "type": "ipv4", "peer": {"address": "10.96.0.12", "port": 8443}}});
    let lines = [
        line("summary", json!({"role": "client", "summary": summary}), &network),
        line("summary", json!({"summary": others}), &json!({"k8s": null, "network": null})),
    ];
    assert_eq!(
        shown(false, &lines),
        "\
TIME     POD                          SIDE   PEER                           CONNS  FAILED         SENT     RECEIVED
12:00:05 checkout-7d4f9c5b8-x2x7k     client 10.96.0.12:8443                   12       2         1200        48000
12:00:05 (others)                     -      -                                 12       2         1200        48000
"
    );
    let wide = shown(true, &lines[..1]);
    assert!(wide.trim_end().ends_with("0.433 closed=10,refused=2"), "{wide}");
}

fn open() -> [Line; 5] {
    let socket = |age: Value| {
        line(
            "socket",
            json!({"state": "CLOSE_WAIT", "state_age_us": age, "state_age_since_attach": true, "idle_us": 75_000_000,
                "unread_bytes": 0, "unsent_bytes": 12}),
            &json!({}),
        )
    };
    let listener =
        json!({"accept_queue": {"length": 3, "limit": 128, "drops": 4}, "half_open": {"count": 1}});
    let here =
        json!({"network": {"transport": "tcp", "type": "ipv4", "local": {"address": "0.0.0.0", "port": 80}}});
    [
        socket(json!(61_200_000)),
        // As old as the look at it.
        socket(json!(93_000)),
        socket(Value::Null),
        line("listener", listener, &here),
        line("time_wait", json!({"count": 40, "fin_wait2": 2}), &json!({})),
    ]
}

#[test]
fn what_is_open_has_a_table_for_each_kind() {
    assert_eq!(
        shown(false, &open()),
        "\
STATE           AGE   IDLE UNREAD UNSENT LOCAL                 PEER                  POD
CLOSE_WAIT   >61.2s  75.0s      0     12 10.244.1.7:43512      10.96.0.12:8443       checkout-7d4f9c5b8-x2x7k
CLOSE_WAIT        -  75.0s      0     12 10.244.1.7:43512      10.96.0.12:8443       checkout-7d4f9c5b8-x2x7k
CLOSE_WAIT        -  75.0s      0     12 10.244.1.7:43512      10.96.0.12:8443       checkout-7d4f9c5b8-x2x7k

STATE        QUEUE  LIMIT    DROPS OPENING LOCAL                              POD
LISTEN           3    128        4       1 0.0.0.0:80                         checkout-7d4f9c5b8-x2x7k

STATE          COUNT FIN_WAIT2 NODE             POD
TIME_WAIT         40         2 node-a           shop/checkout-7d4f9c5b8-x2x7k
"
    );
    let wide = shown(true, &open());
    assert!(wide.contains("shop/checkout-7d4f9c5b8-x2x7k    app          4242/checkout\n"), "{wide}");
}

#[test]
fn no_table_is_wider_than_120_columns() {
    let lines = [&connections()[..], &open()[..]].concat();
    for row in shown(false, &lines).lines() {
        assert!(row.chars().count() <= 120, "{row}");
    }
}

#[test]
fn the_end_of_a_snapshot_says_what_is_not_shown() {
    let snapshot = |left_out: u64, incomplete: bool| {
        let own = json!({
            "type": "snapshot", "schema": "tcpstates.dev/events/v1", "run": "a", "seq": 9, "incomplete": incomplete,
            "sockets": {"open": 50, "shown": 50 - left_out, "left_out": left_out},
            "listeners": {"open": 1, "shown": 1, "left_out": 0}, "time_wait": 4,
        });
        let line = json!({"time": "t", "tcpstates": own, "k8s": {"node": {"name": "node-a"}}});
        snapshot_end(&serde_json::from_value(line).unwrap())
    };
    let all = "node-a: 50 connections, 1 listeners, 4 in TIME_WAIT";
    assert_eq!(snapshot(0, false), all);
    assert_eq!(snapshot(9, false), format!("{all}; 9 connections and 0 listeners are not shown (--limit)"));
    assert!(snapshot(0, true).contains("incomplete"));
}

#[test]
fn what_others_chose_does_nothing_to_the_terminal() {
    let own = json!({"old_state": "SYN_SENT", "new_state": "CLOSE"});
    let line =
        line("transition", own, &json!({"thread": {"name": "\u{1b}[2J"}, "k8s": {"pod": {"name": "a\nb"}}}));
    let text = shown(true, &[line]);
    assert!(text.contains(r"4242/\x1b[2J") && text.contains(r"a\x0ab"), "{text}");
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn the_fleet_is_a_row_for_each_node_and_for_each_trace() {
    use crate::standing::tests::{NOW, node};

    let trace = |name: &str, state: &str, reason: Option<&str>| {
        json!({"uid": name, "name": name, "namespace": "shop", "generation": 1, "state": state, "reason": reason,
            "pods": 2, "counts": {"events": 30, "lost": 0, "limited": 1}})
    };
    let mut nodes = vec![
        node("node-a", &json!([trace("checkout", "Tracing", None), trace("idle", "Idle", None)])),
        node("node-b", &json!([trace("checkout", "Waiting", Some("SlotsExhausted"))])),
    ];
    nodes[1].status.as_mut().unwrap().conditions.clear();
    nodes[1].status.as_mut().unwrap().counts = None;
    let mut out = Vec::new();
    super::nodes(&mut out, &nodes, NOW.parse().unwrap(), Paint::default());
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "\
NODE   READY   AGENT KERNEL  HOOK   TRACES EVENTS LOST LIMITED REPORTED
node-a True    0.1.0 6.12.57 tp_btf      1   1234    0       7 40.0s ago
node-b Unknown 0.1.0 6.12.57 tp_btf      1      -    -       - 40.0s ago
"
    );
    let mut out = Vec::new();
    traces(&mut out, &standings(&nodes, Some("shop")), Paint::default());
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "\
TRACE         PODS NODES EVENTS LOST LIMITED TROUBLE
shop/checkout    4   1/2     60    0       2 SlotsExhausted on node-b
shop/idle        2   0/0     30    0       1 -
"
    );
    assert!(standings(&nodes, Some("till")).is_empty());
    assert_eq!(standings(&nodes, None).len(), 2);
}

proptest! {
    #[test]
    fn a_cell_of_any_text_has_its_width_at_most_and_nothing_that_acts(text in any::<String>(), width in 1_usize..20) {
        for end in [Cut::Start, Cut::End] {
            let cell = cut(safe(&text), width, end);
            prop_assert!(cell.chars().count() <= width && !cell.chars().any(acts), "{:?}", cell);
        }
    }
}
