//! The program's counters, summed over the CPUs, and what the kernel itself counts.

use std::os::fd::{AsRawFd, RawFd};

use aya::maps::{MapData, PerCpuArray};
use kube_tcpstates_common::{
    counter::{COUNTERS, Counter, CounterBlock, TraceCounterBlock},
    rule::MAX_TRACES,
};

use super::pod::Plain;

/// All counters at one time. While the program runs the sums may differ by what is in flight.
#[derive(Clone, Copy, Debug)]
pub struct CounterSnapshot {
    words: [u64; COUNTERS],
    /// Lost for want of room, by trace bit.
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
    /// One counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.words[counter as usize]
    }
}

/// Reads counters.
pub struct Counters {
    blocks: PerCpuArray<MapData, Plain<CounterBlock>>,
    by_trace: PerCpuArray<MapData, Plain<TraceCounterBlock>>,
    program: RawFd,
}

impl Counters {
    pub(super) fn new(
        blocks: PerCpuArray<MapData, Plain<CounterBlock>>,
        by_trace: PerCpuArray<MapData, Plain<TraceCounterBlock>>,
        program: &impl AsRawFd,
    ) -> Self {
        Self { blocks, by_trace, program: program.as_raw_fd() }
    }

    /// Reads everything. What cannot be read counts as 0: these are our own maps, held open.
    pub fn snapshot(&self) -> CounterSnapshot {
        let words = sum(&self.blocks);
        let recursion = recursion_misses(self.program);
        CounterSnapshot {
            words,
            ring_full_by_trace: sum(&self.by_trace),
            // What the second program took is not lost.
            recursion: recursion.unwrap_or(0).saturating_sub(words[Counter::Rescued as usize]),
            recursion_known: recursion.is_some(),
        }
    }
}

fn sum<const N: usize>(map: &PerCpuArray<MapData, Plain<[u64; N]>>) -> [u64; N] {
    let mut total = [0_u64; N];
    if let Ok(values) = map.get(&0, 0) {
        for value in values.iter() {
            for (total, word) in total.iter_mut().zip(value.0) {
                *total = total.wrapping_add(word);
            }
        }
    }
    total
}

/// `recursion_misses` of a program, from its descriptor's fdinfo (since 5.12; before, nothing is skipped). `None` when
/// that cannot be read: then it is not known, which is not the same as 0.
fn recursion_misses(program: RawFd) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{program}")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
    value.map_or(Some(0), |value| value.trim().parse().ok())
}
