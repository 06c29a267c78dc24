//! Counting. Per CPU, and atomic all the same: before 6.1 the same program may interrupt itself on one CPU.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::bindings::BPF_NOEXIST;
use kube_tcpstates_common::{
    counter::{Counter, CpuBlock},
    rule::TraceSet,
};

use crate::maps::{CPU, RING_FULL_BY_TRACES};

/// What is this CPU's own.
#[derive(Clone, Copy)]
pub(crate) struct Counters(*mut CpuBlock);

impl Counters {
    #[inline(always)]
    pub(crate) fn get() -> Option<Self> {
        CPU.get_ptr_mut(0).map(Self)
    }

    #[inline(always)]
    fn cell(&self, counter: Counter) -> *mut u64 {
        // SAFETY: the map's only element holds as many aligned words as there are counters.
        unsafe { (&raw mut (*self.0).counters).cast::<u64>().add(counter as usize) }
    }

    /// Whether the first of a hook's two programs is running.
    #[inline(always)]
    pub(crate) fn is_running(&self) -> bool {
        // SAFETY: this CPU's own word.
        unsafe { (&raw const (*self.0).running).read_volatile() != 0 }
    }

    /// Says whether it is. An interrupt that runs the program again leaves `false`, as the kernel then did not skip it.
    #[inline(always)]
    pub(crate) fn set_running(&self, running: bool) {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.0).running).write_volatile(running.into()) };
    }

    /// Whether the ring was nearly full when this CPU last looked.
    #[inline(always)]
    pub(crate) fn is_scarce(&self) -> bool {
        // SAFETY: this CPU's own word.
        unsafe { (&raw const (*self.0).scarce).read_volatile() != 0 }
    }

    /// Says whether it is.
    #[inline(always)]
    pub(crate) fn set_scarce(&self, scarce: bool) {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.0).scarce).write_volatile(scarce.into()) };
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
pub(crate) fn add(cell: *mut u64, count: u64) {
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
