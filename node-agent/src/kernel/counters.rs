//! The program's counters, summed over the CPUs, and what the kernel itself counts.

use std::os::fd::RawFd;

use aya::maps::{HashMap, MapData, PerCpuArray};
use kube_tcpstates_common::{
    counter::{COUNTERS, Counter, CounterBlock, CpuBlock},
    pinned::Word,
    rule::{MAX_TRACES, TraceSet},
};

use super::{pinned::Page, pod::Plain};

/// All counters at one time. While the program runs the sums may differ by what is in flight.
#[derive(Clone, Copy, Debug)]
pub struct CounterSnapshot {
    words: [u64; COUNTERS],
    /// Lost for want of room, by trace bit. A loss of which it is not known which traces wanted it is every trace's.
    pub ring_full_by_trace: [u64; MAX_TRACES],
    /// Hits on which the kernel skipped the program because it was already running on that CPU, and that the second
    /// program did not take either.
    pub recursion: u64,
    /// The kernel let us read `recursion`.
    pub recursion_known: bool,
}

/// Nothing counted.
impl Default for CounterSnapshot {
    fn default() -> Self {
        Self {
            words: [0; COUNTERS],
            ring_full_by_trace: [0; MAX_TRACES],
            recursion: 0,
            recursion_known: false,
        }
    }
}

impl CounterSnapshot {
    /// Of a set that has ended, with hits on which the kernel skipped its programs.
    pub fn of_ended(words: CounterBlock, skipped: u64) -> Self {
        let recursion = skipped.saturating_sub(words[Counter::Rescued as usize]);
        Self { words, recursion, ..Self::default() }
    }

    /// One counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.words[counter as usize]
    }
}

/// Reads counters.
pub struct Counters {
    blocks: PerCpuArray<MapData, Plain<CpuBlock>>,
    by_traces: HashMap<MapData, TraceSet, u64>,
    program: RawFd,
    /// Hits on which the kernel skipped programs that were attached before this one.
    skipped_before: u64,
    /// Transitions that waited in records which are no more.
    given_up: u64,
    /// Counts of sets that have ended.
    earlier: CounterBlock,
}

impl Counters {
    pub(super) fn new(
        blocks: PerCpuArray<MapData, Plain<CpuBlock>>,
        by_traces: HashMap<MapData, TraceSet, u64>,
        program: RawFd,
    ) -> Self {
        Self { blocks, by_traces, program, skipped_before: 0, given_up: 0, earlier: [0; COUNTERS] }
    }

    /// No record is left in which a transition could wait: nobody wanted those that did.
    pub(super) fn give_up_pending(&mut self, page: &Page) {
        self.given_up = sum(&self.blocks)[Counter::Pending as usize];
        page.set(Word::GivenUp, self.given_up);
    }

    /// Goes on from another process's counts: it has attached `program`.
    pub(super) fn resume(&mut self, program: RawFd, page: &Page) {
        self.program = program;
        self.given_up = page.get(Word::GivenUp);
        self.skipped_before = page.get(Word::Skipped);
        self.earlier = page.earlier();
    }

    /// Adds the counts of a set that has ended, and how many hits of its programs were skipped.
    pub(super) fn add_earlier(&mut self, words: &CounterBlock, skipped: u64, page: &Page) {
        self.skipped_before += skipped;
        page.set(Word::Skipped, self.skipped_before);
        for (sum, word) in self.earlier.iter_mut().zip(words) {
            *sum = sum.wrapping_add(*word);
        }
        page.set_earlier(&self.earlier);
    }

    /// Another program is about to be attached.
    pub(super) fn follow(&mut self, program: RawFd, page: &Page) {
        if program != self.program {
            self.skipped_before += recursion_misses(self.program).unwrap_or(0);
            page.set(Word::Skipped, self.skipped_before);
            self.program = program;
        }
    }

    /// Reads everything. What cannot be read counts as 0: these are our own maps, held open.
    pub fn snapshot(&self) -> CounterSnapshot {
        let mut words = sum(&self.blocks);
        let ring_full_by_trace = by_trace(&self.by_traces, words[Counter::RingFullUntold as usize]);
        words[Counter::Pending as usize] = words[Counter::Pending as usize].wrapping_sub(self.given_up);
        words[Counter::Filtered as usize] += self.given_up;
        for (word, earlier) in words.iter_mut().zip(self.earlier) {
            *word = word.wrapping_add(earlier);
        }
        let recursion = recursion_misses(self.program);
        CounterSnapshot {
            words,
            ring_full_by_trace,
            // What the second program took is not lost.
            recursion: (self.skipped_before + recursion.unwrap_or(0))
                .saturating_sub(words[Counter::Rescued as usize]),
            recursion_known: recursion.is_some(),
        }
    }
}

pub(super) fn sum(map: &PerCpuArray<MapData, Plain<CpuBlock>>) -> CounterBlock {
    let mut total = [0_u64; COUNTERS];
    if let Ok(values) = map.get(&0, 0) {
        for value in values.iter() {
            for (total, word) in total.iter_mut().zip(value.0.counters) {
                *total = total.wrapping_add(word);
            }
        }
    }
    let unwanted = std::mem::take(&mut total[Counter::Unwanted as usize]);
    for counted_by in [Counter::Seen, Counter::Filtered] {
        total[counted_by as usize] += unwanted;
    }
    total
}

/// What each trace lost, from what each set of traces lost together, and what nobody knows whose it was.
pub(super) fn by_trace(by_traces: &HashMap<MapData, TraceSet, u64>, untold: u64) -> [u64; MAX_TRACES] {
    each_of_sets(by_traces.iter().filter_map(Result::ok), untold)
}

fn each_of_sets(by_traces: impl Iterator<Item = (TraceSet, u64)>, untold: u64) -> [u64; MAX_TRACES] {
    let mut lost = [untold; MAX_TRACES];
    for (traces, count) in by_traces {
        for (bit, lost) in lost.iter_mut().enumerate() {
            *lost += (traces >> bit & 1) * count;
        }
    }
    lost
}

/// `recursion_misses` of a program, from its descriptor's fdinfo (since 5.12; before, nothing is skipped). `None` when
/// that cannot be read: then it is not known, which is not the same as 0.
pub(super) fn recursion_misses(program: RawFd) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{program}")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
    value.map_or(Some(0), |value| value.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_that_of_every_trace_of_its_set() {
        let lost = each_of_sets([(0b101, 3), (0b100, 4), (1 << 63, 1)].into_iter(), 0);
        assert_eq!([lost[0], lost[1], lost[2], lost[63]], [3, 0, 7, 1]);
    }

    #[test]
    fn a_loss_of_unknown_traces_is_that_of_every_trace() {
        assert_eq!(each_of_sets([(1, 3)].into_iter(), 2)[..2], [5, 2]);
    }
}
