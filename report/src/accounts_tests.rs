//! What lines of several traces and kinds come to.

use serde_json::{Value, json};

use super::SETS_AT_MOST;
use crate::{Options, Report};

fn line(seq: u64, traces: &[&str], told: Value) -> String {
    let mut line = json!({
        "time": "2026-11-27T11:56:05Z",
        "tcpstates": {"schema": "tcpstates.dev/events/v1", "run": "a", "seq": seq, "role": "client", "traces": traces},
        "network": {"peer": {"address": "10.0.0.2", "port": 80}},
        "thread": {"name": "cart"},
    });
    let (Value::Object(target), Value::Object(told)) = (&mut line["tcpstates"], told) else { panic!() };
    target.extend(told);
    line.to_string()
}

fn summary(seq: u64, traces: &[&str], closed: u64, refused: u64) -> String {
    let by_outcome = json!({"closed": closed, "refused": refused});
    let summary =
        json!({"connections": closed + refused, "by_outcome": by_outcome, "sent": {"bytes": closed}});
    line(seq, traces, json!({"type": "summary", "summary": summary}))
}

fn connection(seq: u64, traces: &[&str], outcome: &str) -> String {
    line(seq, traces, json!({"type": "connection", "outcome": outcome}))
}

fn read(lines: &[String]) -> Report {
    let mut report = Report::new(Options::default());
    for line in lines {
        report.line(line.as_bytes());
    }
    report
}

/// Connections and failures of the one pair, and those of the drawing over time.
fn counts(lines: &[String]) -> [(u64, u64); 2] {
    let report = read(lines);
    let timelines = report.timelines.iter().map(|(key, timeline)| (*key, timeline.ended()));
    let account = report.sets.best(timelines).unwrap();
    let ended = |outcomes: std::ops::Range<usize>| {
        let parts = report.timelines.iter().filter(|(key, _)| report.sets.are_of(**key, account));
        let slices = parts.flat_map(|(_, timeline)| timeline.slices());
        slices.map(|slice| slice.by_outcome[outcomes.clone()].iter().sum::<u64>()).sum::<u64>()
    };
    let over_time = (ended(0..11), ended(1..11));
    let (pairs, _) = report.pairs.finish(&report.addresses, &report.sets);
    assert_eq!(pairs.len(), 1);
    [(pairs[0].figures.connections(), pairs[0].figures.failed()), over_time]
}

#[test]
fn failures_told_one_by_one_beside_summaries_of_everything_are_not_everything() {
    let mut lines: Vec<_> = (1..=5).map(|seq| connection(seq, &["shop/failures"], "refused")).collect();
    lines.push(summary(6, &["shop/pairs"], 9_995, 5));
    assert_eq!(counts(&lines), [(10_000, 5); 2]);
    let page = read(&lines).page();
    assert!(
        page.contains("failed, 0.05 %") && page.contains("as clients tell it in lines of shop/pairs"),
        "{page}"
    );
}

#[test]
fn what_two_traces_tell_of_the_same_connections_is_not_added_up() {
    let lines =
        [summary(1, &["shop/a"], 98, 2), summary(2, &["shop/b"], 98, 2), summary(3, &["shop/b"], 1, 0)];
    assert_eq!(counts(&lines), [(101, 2); 2]);
}

#[test]
fn a_line_of_several_traces_is_of_each_of_them() {
    let both = ["shop/a", "shop/b"];
    let lines = [
        connection(1, &both, "closed"),
        connection(2, &both, "refused"),
        connection(3, &["shop/a"], "closed"),
        connection(4, &["shop/b"], "refused"),
        connection(5, &["shop/b"], "closed"),
    ];
    assert_eq!(counts(&lines), [(4, 2); 2]);
}

#[test]
fn of_two_that_tell_of_as_many_connection_lines_count() {
    let report = read(&[summary(1, &["shop/a"], 1, 0), connection(2, &["shop/b"], "closed")]);
    let (pairs, _) = report.pairs.finish(&report.addresses, &report.sets);
    assert_eq!(pairs[0].source, super::Source::Connections);
}

#[test]
fn no_more_sets_of_traces_are_kept_apart_than_allowed() {
    let name = |number: usize| format!("shop/{number}");
    let lines: Vec<_> = (1..=3 * SETS_AT_MOST)
        .map(|seq| connection(seq as u64, &[&name(seq)], "closed"))
        .chain([connection(4 * SETS_AT_MOST as u64, &[], "closed")])
        .collect();
    let report = read(&lines);
    assert_eq!((report.sets.known.len(), report.timelines.len()), (SETS_AT_MOST, SETS_AT_MOST + 1));
    assert!(report.page().contains("more sets of traces than are kept apart"));
    assert!(!read(&lines[..SETS_AT_MOST]).page().contains("more sets of traces"));
}
