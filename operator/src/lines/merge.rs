//! Lines of many agents in the order of time. Pure: time is an argument.
//!
//! The lines of one agent stay in the order in which it wrote them, which is the order of a connection's lines; between
//! agents the older line goes first. An agent that still shows what it wrote before is waited for. One that has caught
//! up may be silent for an hour, so its lines are only held back for a moment.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// For lines of other agents that are older and on their way.
const HOLD: Duration = Duration::from_millis(500);

/// A source of lines, one agent.
pub(crate) type Source = u64;

/// The lines that wait.
#[derive(Debug)]
pub(crate) struct Merge<T> {
    sources: BTreeMap<Source, Queue<T>>,
    /// The first line of each source that has any.
    heads: BinaryHeap<Reverse<(Timestamp, Source)>>,
    /// Sources of which nothing waits here, while their past is being read.
    awaited: usize,
    /// Sources of which nothing waits here, because they have shown all that there was.
    silent: usize,
}

#[derive(Debug)]
struct Queue<T> {
    lines: VecDeque<Waiting<T>>,
    has_caught_up: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct Waiting<T> {
    time: Timestamp,
    since: Instant,
    line: T,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next<T> {
    /// This line goes out.
    Line(Source, T),
    /// Nothing before then.
    NotBefore(Instant),
    /// Nothing until something comes.
    Nothing,
    /// Nothing any more: every source is closed.
    End,
}

impl<T> Default for Merge<T> {
    fn default() -> Self {
        Self { sources: BTreeMap::new(), heads: BinaryHeap::new(), awaited: 0, silent: 0 }
    }
}

impl<T> Merge<T> {
    /// A source whose past is read first.
    pub(crate) fn open(&mut self, source: Source) {
        let queue = Queue { lines: VecDeque::new(), has_caught_up: false, is_closed: false };
        if self.sources.insert(source, queue).is_none() {
            self.awaited += 1;
        }
    }

    /// A line of a source has come.
    pub(crate) fn push(&mut self, source: Source, time: Timestamp, line: T, now: Instant) {
        let is_first = self.change(source, |queue| {
            queue.lines.push_back(Waiting { time, since: now, line });
            queue.lines.len() == 1
        });
        if is_first == Some(true) {
            self.heads.push(Reverse((time, source)));
        }
    }

    /// A source has shown all that there was.
    pub(crate) fn catch_up(&mut self, source: Source) {
        self.change(source, |queue| queue.has_caught_up = true);
    }

    /// Nothing comes of a source any more.
    pub(crate) fn close(&mut self, source: Source) {
        self.change(source, |queue| queue.is_closed = true);
    }

    /// Takes the next line, if it is its time.
    pub(crate) fn next(&mut self, now: Instant) -> Next<T> {
        if self.awaited > 0 {
            return Next::Nothing;
        }
        let Some(Reverse((_, source))) = self.heads.peek().copied() else {
            return if self.sources.is_empty() { Next::End } else { Next::Nothing };
        };
        // Of a source that is silent an older line may be on its way.
        if self.silent > 0
            && let Some(first) = self.sources.get(&source).and_then(|queue| queue.lines.front())
            && now < first.since + HOLD
        {
            return Next::NotBefore(first.since + HOLD);
        }
        self.heads.pop();
        let taken = self.change(source, |queue| {
            let first = queue.lines.pop_front();
            (first, queue.lines.front().map(|second| second.time))
        });
        let Some((Some(first), second)) = taken else { return Next::Nothing };
        if let Some(time) = second {
            self.heads.push(Reverse((time, source)));
        }
        Next::Line(source, first.line)
    }

    /// Changes a source and keeps the counts. One that is closed and of which nothing waits is forgotten.
    fn change<R>(&mut self, source: Source, change: impl FnOnce(&mut Queue<T>) -> R) -> Option<R> {
        let queue = self.sources.get_mut(&source)?;
        let before = queue.lacks();
        let result = change(queue);
        let after = queue.lacks();
        if queue.is_closed && queue.lines.is_empty() {
            self.sources.remove(&source);
        }
        for (lacks, step) in [(before, -1), (after, 1)] {
            let count = match lacks {
                Lacks::Nothing => continue,
                Lacks::Past => &mut self.awaited,
                Lacks::News => &mut self.silent,
            };
            *count = count.saturating_add_signed(step);
        }
        Some(result)
    }
}

/// What does not wait here of a source.
enum Lacks {
    Nothing,
    Past,
    News,
}

impl<T> Queue<T> {
    fn lacks(&self) -> Lacks {
        match self.has_caught_up {
            _ if self.is_closed || !self.lines.is_empty() => Lacks::Nothing,
            true => Lacks::News,
            false => Lacks::Past,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn taken(merge: &mut Merge<i64>, now: Instant) -> Vec<i64> {
        std::iter::from_fn(|| match merge.next(now) {
            Next::Line(_, line) => Some(line),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn a_source_that_is_still_read_is_waited_for() {
        let (mut merge, now) = (Merge::default(), Instant::now());
        merge.open(1);
        merge.open(2);
        merge.push(1, at(5), 5, now);
        assert_eq!(merge.next(now + HOLD * 10), Next::Nothing);
        merge.push(2, at(3), 3, now);
        assert_eq!(taken(&mut merge, now), [3], "what follows 3 may be older than 5");
        merge.close(2);
        assert_eq!(taken(&mut merge, now), [5]);
        merge.close(1);
        assert_eq!(merge.next(now), Next::End);
    }

    #[test]
    fn a_source_that_is_silent_holds_the_others_up_for_a_moment() {
        let (mut merge, now) = (Merge::default(), Instant::now());
        for source in [1, 2] {
            merge.open(source);
            merge.catch_up(source);
        }
        merge.push(1, at(5), 5, now);
        assert_eq!(merge.next(now), Next::NotBefore(now + HOLD));
        merge.push(2, at(4), 4, now + HOLD / 2);
        assert_eq!(taken(&mut merge, now + HOLD / 2), [4]);
        assert_eq!(taken(&mut merge, now + HOLD), [5]);
    }

    #[test]
    fn one_sources_lines_stay_in_their_order() {
        let (mut merge, now) = (Merge::default(), Instant::now());
        merge.open(1);
        for second in [5, 3, 4] {
            merge.push(1, at(second), second, now);
        }
        assert_eq!(taken(&mut merge, now), [5, 3, 4]);
    }

    #[test]
    fn what_waits_of_a_closed_source_still_goes_out() {
        let (mut merge, now) = (Merge::default(), Instant::now());
        merge.open(1);
        merge.push(1, at(1), 1, now);
        merge.close(1);
        assert_eq!(taken(&mut merge, now), [1]);
        assert_eq!(merge.next(now), Next::End);
    }

    proptest! {
        /// Whole logs that are each in order come out in order, whatever comes first.
        #[test]
        fn whole_logs_are_merged_by_time(
            mut logs in prop::collection::vec(prop::collection::vec(0_i64..100, 0..20), 1..5),
            picks in prop::collection::vec(0_usize..5, 0..200),
        ) {
            let (mut merge, now) = (Merge::default(), Instant::now());
            let mut expected: Vec<i64> = logs.iter().flatten().copied().collect();
            expected.sort_unstable();
            for (log, source) in logs.iter_mut().zip(0..) {
                log.sort_unstable();
                log.reverse();
                merge.open(source);
            }
            let mut out = Vec::new();
            for pick in picks {
                let source = pick % logs.len();
                if let Some(second) = logs[source].pop() {
                    merge.push(source as u64, at(second), second, now);
                }
                out.extend(taken(&mut merge, now));
            }
            for (log, source) in logs.iter_mut().zip(0..) {
                while let Some(second) = log.pop() {
                    merge.push(source, at(second), second, now);
                }
                merge.close(source);
            }
            out.extend(taken(&mut merge, now));
            prop_assert_eq!(out, expected);
            prop_assert_eq!(merge.next(now), Next::End);
        }
    }
}
