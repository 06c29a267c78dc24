//! Which connections are told of where there is not room for all: whole ones. A connection's part is drawn from its id,
//! and is told if it is below a threshold that follows the load. What counts is the threshold of when the connection
//! began, so all of its lines have one answer, without anything being kept of it.

use std::collections::VecDeque;

use super::rate::TOKEN;

/// The load is measured anew after so long, ns, or after so many lines.
const WINDOW_NS: u64 = 100_000_000;
const WINDOW_LINES: u64 = 16;
/// What a bucket holds is shared out over so long, seconds.
const AHEAD_S: u64 = 5;
/// Part of what there is room for that is given away: a load grows before it is measured.
const GIVEN: u64 = 9;
const OF: u64 = 10;
/// Thresholds remembered. A connection that is older than all of them has that of the oldest.
const REMEMBERED: usize = 1024;
const ALL: u32 = u32::MAX;

/// A connection, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Drawn {
    /// Its id: any number is as likely as another.
    pub id: u64,
    /// When it began, boot time ns.
    pub birth_ns: u64,
}

/// The thresholds of one trace.
#[derive(Debug)]
pub(super) struct Whole {
    /// From when, boot time ns, each holds.
    thresholds: VecDeque<(u64, u32)>,
    since_ns: u64,
    lines: u64,
    /// Lines a second that were asked for lately.
    load: u64,
}

impl Whole {
    pub(super) fn new(now_ns: u64) -> Self {
        Self { thresholds: VecDeque::new(), since_ns: now_ns, lines: 0, load: 0 }
    }

    /// Whether a line of a connection is told, of a trace that may write `rate` lines a second and has so many tokens.
    pub(super) fn takes(&mut self, drawn: Drawn, now_ns: u64, rate: u64, tokens: u64) -> bool {
        self.measure(now_ns, rate, tokens / TOKEN);
        let part = u32::try_from(drawn.id >> 32).unwrap_or(ALL);
        part <= self.at(drawn.birth_ns)
    }

    fn measure(&mut self, now_ns: u64, rate: u64, tokens: u64) {
        self.lines += 1;
        let elapsed_ns = now_ns.saturating_sub(self.since_ns);
        let is_long = elapsed_ns >= WINDOW_NS;
        if !is_long && self.lines < WINDOW_LINES.max(tokens / 4) {
            return;
        }
        let measured = self.lines.saturating_mul(1_000_000_000) / elapsed_ns.max(1_000_000);
        // A load that grows is believed at once, one that shrinks by and by.
        self.load = measured.max((self.load * 3 + measured) / 4);
        if elapsed_ns > WINDOW_NS * 50 {
            self.load = measured;
        }
        (self.since_ns, self.lines) = (self.since_ns.max(now_ns), 0);
        let room = (tokens + rate * AHEAD_S) * GIVEN / OF;
        let wanted = self.load * AHEAD_S;
        let threshold = if wanted <= room { ALL } else { part_of(room, wanted) };
        self.remember(now_ns, threshold);
    }

    fn remember(&mut self, now_ns: u64, threshold: u32) {
        let last = self.thresholds.back().map_or(ALL, |(_, threshold)| *threshold);
        if threshold == last {
            return;
        }
        if self.thresholds.len() == REMEMBERED {
            self.thresholds.pop_front();
        }
        // In order, whatever clock the line came from.
        let from_ns = self.thresholds.back().map_or(now_ns, |(from_ns, _)| now_ns.max(*from_ns));
        self.thresholds.push_back((from_ns, threshold));
    }

    /// The threshold of connections that began then. Before the first one all were told.
    fn at(&self, birth_ns: u64) -> u32 {
        let later = self.thresholds.partition_point(|(from_ns, _)| *from_ns <= birth_ns);
        let Some(index) = later.checked_sub(1) else {
            let forgotten = self.thresholds.len() == REMEMBERED;
            return self.thresholds.front().filter(|_| forgotten).map_or(ALL, |(_, threshold)| *threshold);
        };
        self.thresholds.get(index).map_or(ALL, |(_, threshold)| *threshold)
    }
}

fn part_of(room: u64, wanted: u64) -> u32 {
    let part = u128::from(room) * u128::from(ALL) / u128::from(wanted.max(1));
    u32::try_from(part).unwrap_or(ALL)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use siphasher::sip::SipHasher13;
    use std::hash::Hasher as _;

    use super::{Drawn, Whole};
    use crate::limit::rate::TOKEN;

    const SECOND: u64 = 1_000_000_000;

    /// Connections of ten lines each, `a_second` of them, each lasting 50 ms; through a bucket of `rate` and `burst`.
    /// How many were told whole, and how many in part.
    fn run(seconds: u64, a_second: u64, rate: u64, burst: u64) -> (usize, usize, u64) {
        let mut lines = Vec::new();
        for number in 0..seconds * a_second {
            let birth_ns = SECOND + number * SECOND / a_second;
            let mut hasher = SipHasher13::new();
            hasher.write_u64(number);
            let drawn = Drawn { id: hasher.finish(), birth_ns };
            lines.extend((0..10).map(|step| (birth_ns + step * 5_000_000, drawn)));
        }
        lines.sort_by_key(|(at_ns, _)| *at_ns);
        let (mut whole, mut tokens, mut filled_ns) = (Whole::new(SECOND), burst * TOKEN, SECOND);
        let mut told: HashMap<u64, usize> = HashMap::new();
        let mut written = 0;
        for (at_ns, drawn) in lines {
            tokens = (tokens + (at_ns - filled_ns) * rate).min(burst * TOKEN);
            filled_ns = at_ns;
            if whole.takes(drawn, at_ns, rate, tokens) && tokens >= TOKEN {
                tokens -= TOKEN;
                written += 1;
                *told.entry(drawn.id).or_default() += 1;
            }
        }
        let all = told.values().filter(|lines| **lines == 10).count();
        (all, told.len() - all, written)
    }

    #[test]
    fn where_there_is_room_for_all_all_are_told() {
        assert_eq!(run(10, 50, 1_000, 2_000), (500, 0, 5_000));
    }

    #[test]
    fn of_too_many_some_are_told_whole_and_hardly_any_in_part() {
        for (a_second, rate, burst) in [(200, 1_000, 2_000), (2_000, 1_000, 2_000), (500, 100, 500)] {
            let (whole, partial, written) = run(30, a_second, rate, burst);
            assert!(partial * 50 <= whole, "{partial} in part, {whole} whole of {a_second} a second");
            // Most of what there is room for is used.
            assert!(written * 3 >= (rate * 30 + burst) * 2, "{written} lines");
        }
    }

    #[test]
    fn a_connection_has_the_answer_of_when_it_began() {
        let mut whole = Whole::new(0);
        let old = Drawn { id: u64::MAX, birth_ns: 5 };
        assert!(whole.takes(old, 5, 1, TOKEN));
        for at in 0..10_000 {
            whole.takes(Drawn { id: 0, birth_ns: SECOND }, SECOND + at * 10_000, 1, 0);
        }
        assert!(whole.takes(old, 2 * SECOND, 1, 0), "it began before the load");
        assert!(!whole.takes(Drawn { id: u64::MAX, birth_ns: 2 * SECOND }, 2 * SECOND, 1, 0));
        assert!(whole.takes(Drawn { id: 0, birth_ns: 2 * SECOND }, 2 * SECOND, 1, 0));
    }
}
