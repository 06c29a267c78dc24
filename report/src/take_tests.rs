//! What lines of each kind come to.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Options, Report};
use crate::figures::Figures;
use crate::pairs::Pair;
use crate::runs::End;

fn line(seq: u64, attributes: Value, rest: Value) -> String {
    let mut line = json!({
        "time": "2026-11-27T11:56:05.5Z",
        "tcpstates": {"schema": "tcpstates.dev/events/v1", "run": "0000000a", "seq": seq},
        "network": {"local": {"address": "10.0.0.1", "port": 40000}, "peer": {"address": "10.0.0.2", "port": 80}},
        "k8s": {"namespace": {"name": "shop"}, "pod": {"name": "cart-1"}, "deployment": {"name": "cart"}},
    });
    for (into, from) in [(1, attributes), (0, rest)] {
        let target = if into == 1 { &mut line["tcpstates"] } else { &mut line };
        let (Value::Object(target), Value::Object(from)) = (target, from) else { panic!() };
        target.extend(from);
    }
    line.to_string()
}

fn client(seq: u64, outcome: &str) -> String {
    let told = json!({"type": "connection", "role": "client", "outcome": outcome, "handshake_us": 500,
        "idle_us": 900, "sent": {"bytes": 10}, "received": {"bytes": 1000}, "retransmits": 2});
    line(seq, told, json!({}))
}

fn read(lines: &[String]) -> Report {
    read_with(Options::default(), lines)
}

fn read_with(options: Options, lines: &[String]) -> Report {
    let mut report = Report::new(options);
    for line in lines {
        report.line(line.as_bytes());
    }
    report
}

fn pairs(report: Report) -> Vec<Pair> {
    report.pairs.finish(&report.addresses, &report.sets).0
}

fn only(report: Report) -> Pair {
    let pairs = pairs(report);
    assert_eq!(pairs.len(), 1, "{pairs:?}");
    pairs.into_iter().next().unwrap()
}

#[test]
fn a_connection_counts_by_its_outcome_with_all_its_figures() {
    let pair = only(read(&[client(1, "closed"), client(2, "refused"), client(3, "refused")]));
    assert_eq!(
        (&*pair.ends.client, &*pair.ends.server, pair.ends.port),
        ("shop/deployment/cart", "10.0.0.2", 80)
    );
    let Figures { to_server, to_client, retransmits, handshakes, idle, idle_failed, .. } = &pair.figures;
    assert_eq!((pair.figures.connections(), pair.figures.failed()), (3, 2));
    assert_eq!((*to_server, *to_client, *retransmits), (30, 3000, 6));
    assert_eq!((handshakes.count(), idle.count(), idle_failed.count()), (3, 3, 2));
}

#[test]
fn the_other_side_is_joined_by_the_address_its_own_lines_name() {
    let server = line(
        2,
        json!({"type": "connection", "role": "server", "outcome": "closed", "sent": {"bytes": 1000}, "received": {"bytes": 10}}),
        json!({
            "network": {"local": {"address": "10.0.0.2", "port": 80}, "peer": {"address": "10.0.0.1", "port": 40000}},
            "k8s": {"namespace": {"name": "shop"}, "pod": {"name": "db-0"}, "statefulset": {"name": "db"}},
        }),
    );
    let pair = only(read(&[client(1, "closed"), server]));
    assert_eq!(
        (&*pair.ends.client, &*pair.ends.server, pair.ends.port),
        ("shop/deployment/cart", "shop/statefulset/db", 80)
    );
    assert_eq!(pair.figures.connections(), 1, "one connection, told by both sides");
    assert_eq!((pair.figures.to_server, pair.figures.to_client), (10, 1000));
}

#[test]
fn an_address_that_two_had_names_neither() {
    let other = line(
        2,
        json!({"type": "connection", "role": "client", "outcome": "closed"}),
        json!({"k8s": {"namespace": {"name": "web"}, "pod": {"name": "front-1"}}}),
    );
    let to_them = line(
        3,
        json!({"type": "connection", "role": "client", "outcome": "closed"}),
        json!({"network": {"peer": {"address": "10.0.0.1", "port": 90}}, "k8s": {"pod": {"name": "x"}}}),
    );
    let pairs = pairs(read(&[client(1, "closed"), other, to_them]));
    assert!(pairs.iter().any(|pair| pair.ends.server == "10.0.0.1"), "{pairs:?}");
}

#[test]
fn a_summary_counts_all_its_connections() {
    let told = json!({"type": "summary", "role": "client", "summary": {"connections": 12, "by_outcome": {"closed": 10, "refused": 2},
        "sent": {"bytes": 5}, "received": {"bytes": 6}, "retransmits": 1, "handshake": {"count": 10, "mean_us": 100, "max_us": 5000}}});
    let pair = only(read(&[line(1, told, json!({}))]));
    assert_eq!((pair.figures.connections(), pair.figures.failed()), (12, 2));
    assert_eq!(pair.figures.handshakes.count(), 10);
    assert_eq!(pair.figures.handshakes.quantile(1.0), Some(5000));
}

#[test]
fn transitions_tell_what_they_can_of_a_connection() {
    let step = |seq, old: &str, new: &str, error: Value| {
        let told = json!({"type": "transition", "role": "client", "old_state": old, "new_state": new, "state_duration_us": 70});
        line(seq, told, error)
    };
    let refused = json!({"error": {"type": "ECONNREFUSED"}});
    let pair = only(read(&[
        step(1, "CLOSE", "SYN_SENT", json!({})),
        step(2, "SYN_SENT", "ESTABLISHED", json!({})),
        step(3, "FIN_WAIT2", "CLOSE", json!({})),
        step(4, "SYN_SENT", "CLOSE", refused),
        step(5, "LISTEN", "CLOSE", json!({})),
    ]));
    assert_eq!((pair.figures.connections(), pair.figures.by_outcome[1]), (2, 1));
    assert_eq!(pair.figures.handshakes.count(), 1);
}

#[test]
fn what_a_run_has_lost_is_told_once_however_often_it_says_so() {
    let lost = |seq, total: u64| {
        line(
            seq,
            json!({"type": "lost", "exact": false, "lost": {"total": total, "by_place": {"ring": total}}}),
            json!({}),
        )
    };
    let end = line(9, json!({"type": "heartbeat", "totals": {"lost": 7}, "final": true}), json!({}));
    let report = read(&[lost(1, 3), lost(2, 7), end]);
    let runs = report.runs.sorted();
    let (_, run) = runs[0];
    let of_run = report.runs.loss(run);
    assert_eq!((of_run.total, of_run.by_place["ring"], run.missing()), (7, 7, 6));
    assert!(run.inexact && run.end == End::Came);
    let page = read(&[lost(1, 3), lost(2, 7)]).page();
    assert!(page.contains("7 events lost before they were written, or more"), "{page}");
}

#[test]
fn a_line_that_came_twice_counts_once() {
    let report = read(&[client(1, "closed"), client(1, "closed")]);
    assert_eq!((report.input.ours, report.input.twice), (1, 1));
    assert_eq!(only(report).figures.connections(), 1);
}

#[test]
fn lines_of_other_traces_are_left_out_where_one_is_asked_for() {
    let of = |seq, traces: Value| {
        line(seq, json!({"type": "connection", "outcome": "closed", "traces": traces}), json!({}))
    };
    let options = Options { trace: Some("shop/a".to_owned()), title: None };
    let report =
        read_with(options, &[of(1, json!(["shop/a", "shop/b"])), of(2, json!(["shop/b"])), of(3, json!([]))]);
    assert_eq!((report.input.ours, report.input.other_traces), (1, 2));
    assert_eq!(only(report).figures.connections(), 1);
}

#[test]
fn a_name_that_is_html_stays_a_name() {
    let name = "</title><script>alert(1)</script><img src=//evil onerror='x'>\"";
    let hostile = line(
        1,
        json!({"type": "connection", "role": "client", "outcome": "refused"}),
        json!({"k8s": null, "thread": {"name": name}, "network": {"peer": {"address": name, "port": 1}}}),
    );
    let options = Options { title: Some(name.to_owned()), trace: None };
    let page = read_with(options, &[hostile]).page();
    assert!(page.contains("&lt;script&gt;"), "{page}");
    for tag in ["<script", "<img", "onerror='"] {
        assert!(!page.contains(tag) || tag == "onerror='" && !page.contains("<img"), "{tag}: {page}");
    }
}

#[test]
fn lines_of_a_later_format_are_not_guessed_at() {
    let later = client(1, "closed").replace("events/v1", "events/v2");
    assert_eq!(read(&[later]).input.foreign, 1);
}

/// A page in which names are these.
fn page_of(name: &str) -> String {
    let names =
        json!({"k8s": null, "thread": {"name": name}, "network": {"peer": {"address": name, "port": 1}}});
    let connection =
        line(1, json!({"type": "connection", "role": "client", "outcome": "refused"}), names.clone());
    let socket = line(2, json!({"type": "socket", "state": "CLOSE_WAIT", "state_age_us": 1}), names);
    let end = line(3, json!({"type": "snapshot"}), json!({}));
    let options = Options { title: Some(name.to_owned()), trace: None };
    read_with(options, &[connection, socket, end]).page()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_name_makes_an_element_or_ends_an_attribute(name in r#"([<>"'&]|[a-z/= ]){1,16}"#) {
        let (page, plain) = (page_of(&name), page_of("name"));
        for mark in ['<', '>', '"'] {
            prop_assert_eq!(page.matches(mark).count(), plain.matches(mark).count(), "{} of {:?}", mark, name);
        }
    }
}

#[test]
fn a_line_that_does_not_name_all_its_traces_may_be_of_the_one_asked_for() {
    let of = |seq, namespace: &str| {
        let own =
            json!({"type": "connection", "outcome": "closed", "traces": ["shop/b"], "traces_omitted": 1});
        line(seq, own, json!({"k8s": {"namespace": {"name": namespace}}}))
    };
    let lines = [of(1, "shop"), of(2, "till")];
    for (trace, counts) in [("shop/a", (0, 1, 1)), ("shop/b", (2, 0, 0)), ("all", (0, 0, 2))] {
        let report = read_with(Options { trace: Some(trace.to_owned()), title: None }, &lines);
        let input = &report.input;
        assert_eq!((input.ours, input.other_traces, input.unnamed), counts, "{trace}");
        let is_told = report.page().contains("had no room for the names of all their traces");
        assert_eq!(is_told, counts.2 > 0, "{trace}");
    }
}

#[test]
fn the_look_of_another_trace_neither_ends_ours_nor_stands_in_for_it() {
    let socket = |seq, traces: Value| {
        line(seq, json!({"type": "socket", "state": "CLOSE_WAIT", "traces": traces}), json!({}))
    };
    let end = |seq, traces: Value| line(seq, json!({"type": "snapshot", "traces": traces}), json!({}));
    let of_cluster = |seq| line(seq, json!({"type": "snapshot", "cluster_traces": ["all"]}), json!({}));
    let lines = [
        socket(1, json!(["shop/a"])),
        end(2, json!(["shop/b"])),
        socket(3, json!(["shop/a", "shop/b"])),
        end(4, json!(["shop/a"])),
        end(5, json!(["shop/b"])),
        of_cluster(6),
    ];
    for (trace, sockets, others) in [(None, 2, 0), (Some("shop/a"), 2, 3), (Some("shop/b"), 1, 3)] {
        let options = Options { trace: trace.map(str::to_owned), title: None };
        let report = read_with(options, &lines);
        assert_eq!(report.input.other_traces, others, "{trace:?}");
        let look = report.looks.finish(|_| None).unwrap();
        let counts: Vec<_> = look.sockets.values().map(|sockets| sockets.count).collect();
        assert_eq!(counts, [sockets], "{trace:?}");
    }
}
