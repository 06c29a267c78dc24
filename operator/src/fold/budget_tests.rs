use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_tcpstates_crds::TraceStatus;
use kube_tcpstates_crds::status::{Condition, ConditionStatus, Counts, NodeCounts};
use tokio::time::Instant;

use super::{Account, Due, Pace, due};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn status(reason: &str, summary: &str, pods: u32, events: u64) -> TraceStatus {
    TraceStatus {
        conditions: vec![Condition {
            type_: "Ready".to_owned(),
            status: ConditionStatus::True,
            observed_generation: Some(1),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            reason: reason.to_owned(),
            message: String::new(),
        }],
        nodes: Some(NodeCounts { summary: summary.to_owned(), ..NodeCounts::default() }),
        pods: Some(pods),
        counts: Some(Counts { events, ..Counts::default() }),
        ..TraceStatus::default()
    }
}

#[test]
fn each_difference_is_worth_a_write_in_its_time() {
    let there = status("Tracing", "2/2", 3, 150);
    for (wanted, expected) in [
        (there.clone(), None),
        (status("Degraded", "2/2", 3, 150), Some(0)),
        (status("Tracing", "2/3", 3, 150), Some(0)),
        (status("Tracing", "2/2", 0, 150), Some(0)),
        (status("Tracing", "2/2", 4, 150), Some(60)),
        (status("Tracing", "2/2", 3, 300), Some(0)),
        (status("Tracing", "2/2", 3, 299), Some(600)),
    ] {
        let now = Instant::now();
        let expected = expected.map_or(Due::Never, |seconds| Due::At(now + s(seconds)));
        assert_eq!(due(&Account::new(now), &there, &wanted, now), expected, "{wanted:?}");
    }
}

#[test]
fn small_counts_are_told_every_ten_minutes_and_from_a_hundred_on_when_they_have_doubled() {
    let now = Instant::now();
    let at = |there: u64, wanted: u64| {
        due(&Account::new(now), &status("", "", 0, there), &status("", "", 0, wanted), now)
    };
    assert_eq!(at(0, 99), Due::At(now + s(600)));
    assert_eq!(at(0, 100), Due::At(now));
    assert_eq!(at(60, 100), Due::At(now + s(600)));
    assert_eq!(at(u64::MAX, u64::MAX), Due::Never);
}

#[test]
fn that_something_is_so_since_another_time_is_no_difference_of_its_own() {
    let (now, there) = (Instant::now(), status("Tracing", "2/2", 3, 1));
    let mut wanted = there.clone();
    wanted.conditions[0].last_transition_time = Time(Timestamp::MAX);
    assert_eq!(due(&Account::new(now), &there, &wanted, now), Due::Never);
}

/// Writes within so many seconds, while every moment something of a trace becomes another.
fn writes(seconds: u64, of_conditions: bool) -> usize {
    let start = Instant::now();
    let mut account = Account::new(start);
    let mut there = status("0", "0", 1, 1);
    let mut count = 0;
    for step in 1..=seconds * 10 {
        let now = start + Duration::from_millis(step * 100);
        let text = step.to_string();
        let wanted = if of_conditions { status(&text, "0", 1, 1) } else { status("0", &text, 1, 1) };
        if matches!(due(&account, &there, &wanted, now), Due::At(at) if at <= now) {
            account.spend(now);
            account.written(now);
            there = wanted;
            count += 1;
        }
    }
    count
}

#[test]
fn a_trace_that_changes_ten_times_a_second_is_written_every_ten_seconds() {
    assert!((60..=64).contains(&writes(600, true)), "{}", writes(600, true));
    assert!((60..=64).contains(&writes(600, false)), "{}", writes(600, false));
    // Nodes that tell one after the other leave room for what matters more.
    assert_eq!((writes(1, true), writes(1, false)), (4, 2));
}

#[test]
fn what_could_not_be_written_is_tried_again_ever_more_rarely() {
    let start = Instant::now();
    let mut account = Account::new(start);
    let (there, wanted) = (status("a", "", 0, 0), status("b", "", 0, 0));
    let mut now = start;
    let mut waits = Vec::new();
    for _ in 0..7 {
        account.failed(0.0, now);
        let Due::At(at) = due(&account, &there, &wanted, now) else { panic!() };
        waits.push((at - now).as_secs());
        now = at;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    account.written(now);
    account.failed(1.0, now);
    assert_eq!(due(&account, &there, &wanted, now), Due::At(now + Duration::from_millis(600)));
}

#[test]
fn ten_writes_a_second_leave_and_fifty_after_a_quiet_time() {
    let start = Instant::now() + s(100);
    let mut pace = Pace::new(start);
    let mut count = 0;
    for step in 0..100 {
        let now = start + Duration::from_millis(step * 10);
        while pace.ready_at() <= now {
            pace.spend(now);
            count += 1;
        }
    }
    assert!((58..=62).contains(&count), "{count}");
    pace.pause(s(7), start + s(1));
    assert!(pace.ready_at() >= start + s(8));
}
