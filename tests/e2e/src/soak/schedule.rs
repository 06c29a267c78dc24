//! What happens when, all of it from one seed.

use std::time::Duration;

/// Numbers that follow from a seed (`SplitMix64`).
#[derive(Clone, Debug)]
pub(super) struct Numbers(u64);

impl Numbers {
    /// One stream of a seed. Streams do not depend on each other, so that one may be drawn from more often.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut numbers = Self(seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        numbers.next();
        numbers
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `low` to `high`, both of them included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// Likewise.
    pub(super) fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    /// One of several.
    pub(super) fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let count = u64::try_from(all.len()).ok().filter(|count| *count > 0)?;
        all.get(usize::try_from(self.next() % count).ok()?)
    }
}

/// How an agent ends that another follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// SIGKILL.
    Killed,
    /// SIGTERM.
    Ended,
}

/// How the API server is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outage {
    /// SIGSTOP: connections stay and nobody answers.
    Frozen,
    /// SIGKILL: connections break and are refused.
    Killed,
}

/// What happens, with the time since the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Schedule {
    /// Of the agent.
    pub(super) restarts: Vec<(Duration, Ending)>,
    /// Nobody reads stdout for so long.
    pub(super) stalls: Vec<(Duration, Duration)>,
    /// The API server is away for so long.
    pub(super) outages: Vec<(Duration, Outage, Duration)>,
    /// One of the traces that come and go is changed.
    pub(super) changes: Vec<Duration>,
}

/// So much of the whole, in percent, the agent is restarted every minute. Then it is left to live, through all the rest: a
/// process that lives for a minute shows no growth.
const RESTLESS: u32 = 60;
/// Every so many restarts it is by SIGTERM.
const ENDED_EVERY: usize = 4;
/// Nothing begins, or goes on, so late.
const QUIET_END: Duration = Duration::from_secs(15);

impl Schedule {
    /// Of so long a run.
    pub(super) fn new(seed: u64, whole: Duration) -> Self {
        let end = whole.saturating_sub(QUIET_END);
        Self {
            restarts: restarts(&mut Numbers::new(seed, 1), whole, end),
            stalls: stalls(&mut Numbers::new(seed, 2), end),
            outages: outages(&mut Numbers::new(seed, 3), end),
            changes: changes(&mut Numbers::new(seed, 4), end),
        }
    }
}

impl Schedule {
    /// The same, all of it later.
    pub(super) fn later(&self, by: Duration) -> Self {
        Self {
            restarts: self.restarts.iter().map(|(at, ending)| (*at + by, *ending)).collect(),
            stalls: self.stalls.iter().map(|(at, length)| (*at + by, *length)).collect(),
            outages: self.outages.iter().map(|(at, how, length)| (*at + by, *how, *length)).collect(),
            changes: self.changes.iter().map(|at| *at + by).collect(),
        }
    }
}

fn restarts(numbers: &mut Numbers, whole: Duration, end: Duration) -> Vec<(Duration, Ending)> {
    let last = end.min(whole * RESTLESS / 100);
    let mut restarts = Vec::new();
    for minute in 0.. {
        let at = Duration::from_secs(minute * 60) + numbers.millis(20_000, 40_000);
        if at >= last {
            break;
        }
        let is_ended = (restarts.len() + 1).is_multiple_of(ENDED_EVERY);
        restarts.push((at, if is_ended { Ending::Ended } else { Ending::Killed }));
    }
    restarts
}

fn stalls(numbers: &mut Numbers, end: Duration) -> Vec<(Duration, Duration)> {
    let mut stalls = Vec::new();
    let mut at = numbers.millis(25_000, 60_000);
    loop {
        let length = numbers.millis(2_000, 12_000);
        if at + length >= end {
            return stalls;
        }
        stalls.push((at, length));
        at += length + numbers.millis(40_000, 120_000);
    }
}

fn outages(numbers: &mut Numbers, end: Duration) -> Vec<(Duration, Outage, Duration)> {
    let mut outages = Vec::new();
    let mut at = numbers.millis(60_000, 90_000);
    loop {
        let length = numbers.millis(5_000, 30_000);
        // Its return takes a while too.
        if at + length + QUIET_END >= end {
            return outages;
        }
        let how = if (outages.len() + 1).is_multiple_of(3) { Outage::Killed } else { Outage::Frozen };
        outages.push((at, how, length));
        at += length + numbers.millis(100_000, 200_000);
    }
}

fn changes(numbers: &mut Numbers, end: Duration) -> Vec<Duration> {
    let mut changes = Vec::new();
    let mut at = numbers.millis(5_000, 10_000);
    while at < end {
        changes.push(at);
        at += numbers.millis(8_000, 25_000);
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOURS: Duration = Duration::from_hours(2);

    #[test]
    fn the_same_seed_is_the_same_schedule_and_another_is_another() {
        assert_eq!(Schedule::new(7, HOURS), Schedule::new(7, HOURS));
        assert_ne!(Schedule::new(7, HOURS), Schedule::new(8, HOURS));
    }

    #[test]
    fn numbers_stay_within_their_bounds() {
        let mut numbers = Numbers::new(1, 1);
        assert!((0..1000).map(|_| numbers.between(3, 5)).all(|number| (3..=5).contains(&number)));
        assert_eq!(numbers.one_of::<u8>(&[]), None);
    }

    #[test]
    fn an_agent_is_restarted_every_minute_and_then_left_alone() {
        let restarts = Schedule::new(1, HOURS).restarts;
        assert!((71..=73).contains(&restarts.len()), "{}", restarts.len());
        assert!(restarts.windows(2).all(|pair| pair[1].0 < pair[0].0 + Duration::from_secs(90)));
        assert!(restarts.last().unwrap().0 < Duration::from_mins(72));
        let ended = restarts.iter().filter(|(_, ending)| *ending == Ending::Ended).count();
        assert_eq!(ended, restarts.len() / ENDED_EVERY);
    }

    #[test]
    fn nothing_goes_on_behind_the_end() {
        for minutes in [1, 2, 5, 10, 120] {
            let whole = Duration::from_mins(minutes);
            let Schedule { restarts, stalls, outages, changes } = Schedule::new(3, whole);
            assert!(restarts.iter().all(|(at, _)| *at < whole));
            assert!(stalls.iter().all(|(at, length)| *at + *length < whole));
            assert!(outages.iter().all(|(at, _, length)| *at + *length < whole));
            assert!(changes.iter().all(|at| *at < whole));
        }
    }

    #[test]
    fn outages_do_not_overlap_and_are_of_both_kinds() {
        let outages = Schedule::new(1, HOURS).outages;
        assert!(outages.windows(2).all(|pair| pair[0].0 + pair[0].2 < pair[1].0));
        for kind in [Outage::Frozen, Outage::Killed] {
            assert!(outages.iter().any(|(_, how, _)| *how == kind));
        }
    }
}
