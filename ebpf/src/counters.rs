//! Counting. Per CPU, and atomic all the same: before 6.1 the same program may interrupt itself on one CPU.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::bindings::BPF_NOEXIST;
use kube_tcpstates_common::{
    counter::{Counter, CounterBlock},
    rule::TraceSet,
};

use crate::maps::{COUNTERS, RING_FULL_BY_TRACES};

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
    // SAFETY: an aligned word of a map value, which is freed after a grace period if ever.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(cell, count) };
}

/// Counts a lost transition for the traces that wanted it.
#[inline(always)]
pub(crate) fn ring_full_by_traces(traces: TraceSet, counters: Counters) {
    if RING_FULL_BY_TRACES.get_ptr(traces).is_none() {
        // Another processor may be quicker: its entry is as good.
        let _ = RING_FULL_BY_TRACES.insert(traces, 0, BPF_NOEXIST.into());
    }
    match RING_FULL_BY_TRACES.get_ptr_mut(traces) {
        Some(cell) => add(cell, 1),
        None => counters.add(Counter::RingFullUntold, 1),
    }
}
