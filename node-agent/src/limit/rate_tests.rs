use proptest::collection::vec;
use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::filter::TraceFilter;
use crate::names::TraceName;
use crate::plan::{Outcomes, PodScope, Scope, TraceKey};

const SECOND: u64 = 1_000_000_000;

fn trace(uid: &str, lines_per_second: u32, burst: u32) -> ActiveTrace {
    ActiveTrace {
        uid: uid.to_owned(),
        key: TraceKey { namespace: None, name: uid.to_owned() },
        name: Some(TraceName::Cluster(uid.to_owned())),
        filter: TraceFilter::default(),
        outcomes: Outcomes::ANY,
        interval_ns: 0,
        scope: Scope::Pods(PodScope::default()),
        lines_per_second,
        burst,
        pod_labels: Vec::new(),
        peer_names: false,
        open: None,
    }
}

/// A plan with traces from bit 0 on.
fn plan(traces: impl IntoIterator<Item = ActiveTrace>) -> Plan {
    Plan::new(traces.into_iter().map(|trace| Some(Arc::new(trace))).collect(), 1)
}

fn limiter(agent: u32, traces: impl IntoIterator<Item = ActiveTrace>) -> RateLimiter {
    let mut limiter = RateLimiter::new(agent);
    limiter.follow(&plan(traces), 0);
    limiter
}

/// Of many lines at once, how many are written.
fn written(limiter: &mut RateLimiter, traces: TraceSet, now_ns: u64) -> u32 {
    let mut lines = 0;
    while limiter.admit(traces, None, None, now_ns).admitted != 0 {
        lines += 1;
    }
    lines
}

#[test]
fn a_trace_writes_its_burst_and_then_its_rate() {
    let mut limiter = limiter(0, [trace("a", 10, 3)]);
    assert_eq!(written(&mut limiter, 1, 0), 3);
    assert_eq!(written(&mut limiter, 1, 100_000_000 - 1), 0);
    assert_eq!(written(&mut limiter, 1, 100_000_000), 1);
    assert_eq!(written(&mut limiter, 1, 60 * SECOND), 3);
}

#[test]
fn a_rate_that_no_whole_number_of_nanoseconds_gives_does_not_drift() {
    let mut limiter = limiter(0, [trace("a", 3, 2)]);
    let asked = (0..=1_000_000).filter(|ms| limiter.admit(1, None, None, ms * 1_000_000).admitted == 1);
    assert_eq!(asked.count(), 2 + 3 * 1_000);
}

#[test]
fn a_line_is_written_if_any_of_its_traces_has_a_token_and_counts_for_those() {
    let mut limiter = limiter(0, [trace("a", 1, 1), trace("b", 1, 2), trace("c", 1, 9)]);
    let mut admit = |traces| limiter.admit(traces, None, None, 0);
    assert_eq!(admit(0b11), Admission { admitted: 0b11, by_agent: false });
    assert_eq!(admit(0b11), Admission { admitted: 0b10, by_agent: false });
    assert_eq!(admit(0b11), Admission { admitted: 0, by_agent: false });
    assert_eq!(admit(0b111), Admission { admitted: 0b100, by_agent: false });
}

#[test]
fn a_limit_of_zero_never_refuses() {
    let mut limiter = limiter(0, [trace("a", 0, 1), trace("b", 1, 1)]);
    for _ in 0..100_000 {
        assert_eq!(limiter.admit(1, Some("shop"), None, 0).admitted, 1);
    }
    // It makes no room for others either.
    assert_eq!([0, 0].map(|now_ns| limiter.admit(0b11, None, None, now_ns).admitted), [0b11, 0b01]);
}

#[test]
fn what_the_agent_refuses_costs_no_trace_a_token() {
    let mut limiter = limiter(1, [trace("a", 1, 2), trace("b", 0, 1)]);
    assert_eq!(limiter.admit(0b11, None, None, 0).admitted, 0b11);
    for _ in 0..10 {
        assert_eq!(limiter.admit(0b01, None, None, 0), Admission { admitted: 0, by_agent: true });
    }
    // The other way round as well: a line without a trace that can pay costs the agent nothing.
    let mut limiter = self::limiter(2, [trace("a", 1, 1), trace("b", 1, 9)]);
    assert_eq!(limiter.admit(0b01, None, None, 0).admitted, 1);
    for _ in 0..10 {
        assert_eq!(limiter.admit(0b01, None, None, 0), Admission { admitted: 0, by_agent: false });
    }
    assert_eq!(limiter.admit(0b10, None, None, 0).admitted, 0b10);
}

#[test]
fn a_trace_keeps_its_bucket_unless_its_limits_change() {
    let mut limiter = limiter(0, [trace("a", 1, 5), trace("b", 1, 5)]);
    assert_eq!(written(&mut limiter, 0b01, 0), 5);
    assert_eq!(written(&mut limiter, 0b10, 0), 5);
    let edited = ActiveTrace { pod_labels: vec!["app".to_owned()], ..trace("a", 1, 5) };
    limiter.follow(&plan([edited, trace("b", 2, 5)]), 0);
    assert_eq!(written(&mut limiter, 0b01, 0), 0);
    assert_eq!(written(&mut limiter, 0b10, 0), 5);
    // Another trace under the bit starts afresh; a trace that is gone writes nothing.
    limiter.follow(&plan([trace("c", 1, 5)]), 0);
    assert_eq!(written(&mut limiter, 0b01, 0), 5);
    assert_eq!(written(&mut limiter, 0b10, 60 * SECOND), 0);
}

#[test]
fn nothing_is_written_for_no_trace() {
    let mut limiter = limiter(0, [trace("a", 1, 5)]);
    assert_eq!(limiter.admit(0, None, None, 0), Admission::default());
    assert_eq!(limiter.admit(1 << 63 | 1 << 7, None, None, 0), Admission::default());
}

#[test]
fn a_clock_that_steps_back_gives_nothing() {
    let mut limiter = limiter(0, [trace("a", 10, 1)]);
    assert_eq!(written(&mut limiter, 1, 10 * SECOND), 1);
    assert_eq!(written(&mut limiter, 1, 0), 0);
    assert_eq!(written(&mut limiter, 1, 10 * SECOND), 0);
    assert_eq!(written(&mut limiter, 1, 10 * SECOND + 100_000_000), 1);
}

/// No stretch of time that ends with the last line saw more lines than the burst and the rate over that time.
fn is_within(times: &[u64], rate: u64, burst: u64) -> bool {
    let Some(until) = times.last() else { return true };
    times.iter().rev().zip(1_u128..).all(|(from, lines)| {
        let filled = u128::from(until - from) * u128::from(rate);
        lines * u128::from(TOKEN) <= filled + u128::from(burst * TOKEN)
    })
}

proptest! {
    #[test]
    fn no_trace_writes_more_than_its_limits_and_one_that_may_is_not_refused(
        limits in vec((1..2_000_u32, 1..20_u32), 3), asks in vec((0..8_u64, 0..5_000_000_u64), 1..300),
    ) {
        let mut limiter = limiter(0, limits.iter().map(|(rate, burst)| trace("t", *rate, *burst)));
        let mut times = vec![Vec::new(); limits.len()];
        let mut now_ns = 0;
        for (traces, wait_ns) in asks {
            now_ns += wait_ns;
            let Admission { admitted, by_agent } = limiter.admit(traces, Some("shop"), None, now_ns);
            prop_assert!(!by_agent);
            prop_assert_eq!(admitted & !traces, 0);
            for (bit, times) in times.iter_mut().enumerate().filter(|(bit, _)| traces >> bit & 1 == 1) {
                let (rate, burst) = (limits[bit].0.into(), limits[bit].1.into());
                times.push(now_ns);
                let may = is_within(times, rate, burst);
                prop_assert_eq!(admitted >> bit & 1 == 1, may, "{} at {}", bit, now_ns);
                if !may {
                    times.pop();
                }
            }
        }
    }

    #[test]
    fn the_agent_writes_no_more_than_its_limit_whatever_the_traces_may(
        rate in 20..400_u32, asks in vec((0..4_usize, 0..30_000_000_u64), 1..400),
    ) {
        let mut limiter = limiter(rate, [trace("a", 0, 1)]);
        let (mut times, mut now_ns) = (Vec::new(), 0);
        for (namespace, wait_ns) in asks {
            now_ns += wait_ns;
            let Admission { admitted, by_agent } = limiter.admit(1, Some(["a", "b", "c", "d"][namespace]), None, now_ns);
            prop_assert_eq!(by_agent, admitted == 0);
            if admitted == 1 {
                times.push(now_ns);
                prop_assert!(is_within(&times, rate.into(), rate.into()));
            }
        }
    }
}
