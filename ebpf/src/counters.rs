//! Counting. Per CPU, and atomic all the same: before 6.1 the same program may interrupt itself on one CPU.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use kube_tcpstates_common::{
    counter::{Counter, CounterBlock},
    rule::{MAX_TRACES, TraceSet},
};

use crate::maps::{COUNTERS, RING_FULL_BY_TRACE};

/// This CPU's counters.
#[derive(Clone, Copy)]
pub(crate) struct Counters(*mut CounterBlock);

impl Counters {
    #[inline(always)]
    pub(crate) fn get() -> Option<Self> {
        COUNTERS.get_ptr_mut(0).map(Self)
    }

    #[inline(always)]
    fn cell(&self, counter: Counter) -> *mut u64 {
        // SAFETY: the map's only element holds as many aligned words as there are counters.
        unsafe { self.0.cast::<u64>().add(counter as usize) }
    }

    /// Adds.
    #[inline(always)]
    pub(crate) fn add(&self, counter: Counter, count: u64) {
        add(self.cell(counter), count);
    }

    /// Takes back.
    #[inline(always)]
    pub(crate) fn take(&self, counter: Counter, count: u64) {
        add(self.cell(counter), count.wrapping_neg());
    }

    /// This CPU's value.
    #[inline(always)]
    pub(crate) fn value(&self, counter: Counter) -> u64 {
        // SAFETY: as above.
        unsafe { self.cell(counter).read_volatile() }
    }
}

/// The target has no `AtomicU64::fetch_add` (it lacks compare-and-swap before 5.12), but it has this instruction
/// since 3.18, as long as nobody asks for the result.
#[inline(always)]
fn add(cell: *mut u64, count: u64) {
    // SAFETY: an aligned word of a map value.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(cell, count) };
}

/// Counts a lost transition for each trace that wanted it. No function of its own: see `memory::copy_comm`.
#[inline(always)]
pub(crate) fn ring_full_by_trace(traces: TraceSet) {
    let Some(block) = RING_FULL_BY_TRACE.get_ptr_mut(0) else { return };
    let mut bit = 0;
    while bit < MAX_TRACES {
        // SAFETY: `bit` is below the number of words of the map's only element.
        add(unsafe { block.cast::<u64>().add(bit) }, traces >> bit & 1);
        bit += 1;
    }
}
