//! Counting. Per CPU, and atomic all the same: before 6.1 the same program may interrupt itself on one CPU.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::bindings::BPF_NOEXIST;
use kube_tcpstates_common::{
    counter::{Counter, CpuBlock, TAKEN},
    rule::TraceSet,
};

use crate::{
    globals::offset,
    maps::{CPU, RING_FULL_BY_TRACES},
    memory::Memory,
};

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

    /// By the ports: no arithmetic is allowed on the address of a socket.
    #[inline(always)]
    fn place<M: Memory>(&self, socket: *const u8) -> *mut u64 {
        let ports =
            M::field::<u16>(socket, offset!(local_port)) ^ M::field::<u16>(socket, offset!(peer_port));
        // SAFETY: there are as many.
        unsafe { (&raw mut (*self.0).taken).cast::<u64>().add(usize::from(ports) & (TAKEN - 1)) }
    }

    /// The first of a hook's two programs takes a socket's hit.
    #[inline(always)]
    pub(crate) fn take_hit<M: Memory>(&self, socket: *const u8) {
        // SAFETY: this CPU's own word.
        unsafe { self.place::<M>(socket).write_volatile(socket as u64) };
    }

    /// Whether the first of them has taken this one. It is asked once.
    #[inline(always)]
    pub(crate) fn was_taken<M: Memory>(&self, socket: *const u8) -> bool {
        let place = self.place::<M>(socket);
        // SAFETY: as above.
        let was_taken = unsafe { place.read_volatile() } == socket as u64;
        if was_taken {
            // SAFETY: as above.
            unsafe { place.write_volatile(0) };
        }
        was_taken
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
