//! What chains of runs come to.

use serde_json::{Value, json};

use super::ByPlace;
use crate::{Options, Report};

fn line(run: &str, seq: u64, told: Value) -> String {
    let mut line = json!({
        "time": "2026-11-27T11:56:05Z",
        "tcpstates": {"schema": "tcpstates.dev/events/v1", "run": run, "seq": seq},
    });
    let (Value::Object(target), Value::Object(told)) = (&mut line["tcpstates"], told) else { panic!() };
    target.extend(told);
    line.to_string()
}

fn start(run: &str, continues: Option<&str>) -> String {
    let before = continues.map(|run| json!({"run": run, "seq": 9}));
    line(run, 1, before.map_or(json!({"type": "start"}), |run| json!({"type": "start", "continues": run})))
}

fn lost(run: &str, seq: u64, since_last: u64, by_place: &Value) -> String {
    let total: u64 = by_place.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    let lost = json!({"since_last": since_last, "total": total, "by_place": by_place});
    line(run, seq, json!({"type": "lost", "exact": true, "lost": lost}))
}

fn heartbeat(run: &str, seq: u64, lost: u64) -> String {
    line(run, seq, json!({"type": "heartbeat", "totals": {"lost": lost}}))
}

/// Losses of each run by its name, and those of all by place, whatever the order of the lines.
fn losses(lines: &[String]) -> (Vec<(String, u64)>, ByPlace) {
    let read = |lines: &mut dyn Iterator<Item = &String>| {
        let mut report = Report::new(Options::default());
        for line in lines {
            report.line(line.as_bytes());
        }
        let runs = report.runs.sorted();
        let losses: Vec<_> = runs.iter().map(|(id, run)| (*id, report.runs.loss(run))).collect();
        let mut by_place = ByPlace::new();
        for (place, count) in losses.iter().flat_map(|(_, loss)| &loss.by_place) {
            *by_place.entry(place.clone()).or_default() += count;
        }
        (losses.iter().map(|(id, loss)| ((*id).to_owned(), loss.total)).collect::<Vec<_>>(), by_place)
    };
    let forwards = read(&mut lines.iter());
    assert_eq!(forwards, read(&mut lines.iter().rev()), "the order does not matter");
    forwards
}

fn expect(lines: &[String], runs: &[(&str, u64)], places: &Value) {
    let (totals, by_place) = losses(lines);
    let totals: Vec<_> = totals.iter().map(|(run, total)| (&**run, *total)).collect();
    assert_eq!((&*totals, &json!(by_place)), (runs, places));
}

#[test]
fn what_the_first_run_of_a_chain_lost_counts_once() {
    let lines = [
        start("a", None),
        lost("a", 2, 100, &json!({"ring": 100})),
        start("b", Some("a")),
        heartbeat("b", 2, 100),
        start("c", Some("b")),
        heartbeat("c", 2, 100),
    ];
    expect(&lines, &[("a", 100), ("b", 0), ("c", 0)], &json!({"ring": 100}));
    let mut report = Report::new(Options::default());
    for line in &lines {
        report.line(line.as_bytes());
    }
    let page = report.page();
    assert!(page.contains("100 events lost") && page.contains("By place: ring 100."), "{page}");
}

#[test]
fn each_run_of_a_chain_has_what_it_lost_itself() {
    let lines = [
        start("a", None),
        lost("a", 2, 100, &json!({"ring": 100})),
        start("b", Some("a")),
        // What went while nobody read.
        lost("b", 2, 30, &json!({"ring": 120, "restart": 10})),
        lost("b", 3, 5, &json!({"ring": 125, "restart": 10})),
        start("c", Some("b")),
        start("d", Some("c")),
        lost("d", 2, 7, &json!({"ring": 125, "restart": 10, "queue": 7})),
    ];
    let places = json!({"ring": 125, "restart": 10, "queue": 7});
    expect(&lines, &[("a", 100), ("b", 35), ("c", 0), ("d", 7)], &places);
}

#[test]
fn a_run_whose_predecessor_did_not_come_counts_from_its_own_first_line() {
    let chain = |rest: &[String]| [&[start("c", Some("b"))], rest].concat();
    let first = lost("c", 3, 30, &json!({"ring": 130}));
    // What was told before it, also where a heartbeat tells of the loss first.
    expect(&chain(&[heartbeat("c", 2, 130), first.clone()]), &[("c", 30)], &json!({"ring": 30}));
    let later = lost("c", 5, 4, &json!({"ring": 130, "queue": 4}));
    expect(&chain(&[first, later]), &[("c", 34)], &json!({"ring": 30, "queue": 4}));
    expect(&chain(&[heartbeat("c", 2, 100), heartbeat("c", 3, 102)]), &[("c", 2)], &json!({}));
    // A run that came and says nothing of losses is no better than one that did not come.
    let silent = [start("b", Some("a")), start("c", Some("b")), heartbeat("c", 2, 50), heartbeat("c", 3, 51)];
    expect(&silent, &[("b", 0), ("c", 1)], &json!({}));
}

#[test]
fn what_has_no_known_place_is_at_none() {
    // Of 100 that were lost before it is known that they were, and not where.
    let first = lost("c", 2, 10, &json!({"ring": 65, "queue": 45}));
    let last = lost("c", 3, 240, &json!({"ring": 65, "queue": 285}));
    expect(&[start("c", Some("b")), first, last], &[("c", 250)], &json!({"queue": 240}));
    let lines = [
        start("a", None),
        lost("a", 2, 60, &json!({"ring": 60})),
        heartbeat("a", 3, 100),
        start("b", Some("a")),
        lost("b", 2, 40, &json!({"ring": 100})),
    ];
    expect(&lines, &[("a", 100), ("b", 0)], &json!({"ring": 60}));
}

#[test]
fn a_run_that_began_anew_and_one_whose_beginning_did_not_come_are_told_apart() {
    // The first lost nothing that it could tell before its heartbeat.
    expect(&[start("a", None), heartbeat("a", 2, 40), heartbeat("a", 3, 40)], &[("a", 40)], &json!({}));
    let late = [heartbeat("b", 800, 150), lost("b", 801, 50, &json!({"ring": 200}))];
    expect(&late, &[("b", 50)], &json!({"ring": 50}));
    expect(&[heartbeat("b", 800, 150)], &[("b", 150)], &json!({}));
}

#[test]
fn runs_that_name_each_other_end() {
    let lines = [start("a", Some("b")), start("b", Some("a")), heartbeat("a", 2, 5), start("c", Some("c"))];
    expect(&lines, &[("a", 0), ("b", 0), ("c", 0)], &json!({}));
}
