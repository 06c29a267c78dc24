//! Into the ring buffer, and waking the reader when it sleeps.

use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_current_comm},
    maps::ring_buf::RingBufEntry,
};
use kube_tcpstates_common::{
    classify::Wanted,
    counter::Counter,
    record::{COMM_LEN, ConnectionRecord, TransitionRecord, owner},
    rule::TraceSet,
};

use crate::{
    counters::{Counters, ring_full_by_traces},
    figures,
    globals::setting,
    hook::{Hook, Tuple},
    maps::{CGROUP_EVENTS, CONTROL, EVENTS},
    memory::{clear_comm, copy_comm},
    place::Place,
    share,
    socket::SocketRecord,
    step::Step,
};

/// How often a producer looks how full the ring is: every so many records of its CPU.
const FILL_CHECK_EVERY: u64 = 32;

/// One transition on its way out.
pub(crate) struct Emission<'a> {
    pub(crate) socket: *const u8,
    pub(crate) place: &'a Place,
    pub(crate) tuple: &'a Tuple,
    pub(crate) step: Step,
    pub(crate) now: u64,
    pub(crate) generation: u32,
    pub(crate) duration_ns: u64,
    pub(crate) flags: u16,
    pub(crate) error: u32,
    pub(crate) cookie: u64,
    pub(crate) interface: u32,
    pub(crate) role: u8,
}

/// The transition that waited for this one, if one did.
pub(crate) struct Pending {
    /// Of [`kube_tcpstates_common::record::flag`]: what the record says of it, or that this one waits.
    pub(crate) flags: u16,
    pub(crate) boot_ns: u64,
    pub(crate) duration_ns: u64,
    pub(crate) old: u8,
    pub(crate) new: u8,
    pub(crate) wanted: Wanted,
}

/// Puts `count` wanted transitions into one ring record. None: it only settles an earlier one.
#[inline(always)]
pub(crate) fn emit<H: Hook>(
    record: Option<&SocketRecord>,
    emission: &Emission<'_>,
    wanted: Wanted,
    pending: &Pending,
    stories: TraceSet,
    count: u64,
    counters: Counters,
) {
    let has_room = if (wanted.traces | wanted.maybe) & stories == 0 {
        match reserve::<TransitionRecord>(emission, count, counters) {
            Some(mut entry) => {
                let out = entry.as_mut_ptr();
                // SAFETY: every field of the reserved record is written before it is submitted.
                unsafe { fill(&mut *out, record, emission, wanted, pending) };
                entry.submit(BPF_RB_NO_WAKEUP.into());
                true
            }
            None => false,
        }
    } else {
        match reserve::<ConnectionRecord>(emission, count, counters) {
            Some(mut entry) => {
                let out = entry.as_mut_ptr();
                // SAFETY: as above.
                unsafe {
                    fill(&mut (*out).transition, record, emission, wanted, pending);
                    figures::fill::<H>(&mut (*out).figures, record, emission.socket);
                }
                entry.submit(BPF_RB_NO_WAKEUP.into());
                true
            }
            None => false,
        }
    };
    if has_room {
        counters.add(Counter::Emitted, count);
        let looks = counters.value(Counter::Emitted) % FILL_CHECK_EVERY < count;
        let waiting = if looks { share::waiting() } else { 0 };
        if looks {
            share::look(waiting, counters);
        }
        wake_reader(counters, waiting);
        return;
    }
    counters.set_scarce(true);
    counters.add(Counter::RingFull, count);
    if !wanted.is_empty() {
        ring_full_by_traces(wanted.traces | wanted.maybe, counters);
    }
    if !pending.wanted.is_empty() {
        ring_full_by_traces(pending.wanted.traces | pending.wanted.maybe, counters);
    }
}

/// Room for a record, if there is any for this socket's container.
#[inline(always)]
fn reserve<T: 'static>(emission: &Emission<'_>, count: u64, counters: Counters) -> Option<RingBufEntry<T>> {
    if !share::admits::<T>(emission.place, count, counters) {
        return None;
    }
    EVENTS.reserve_untyped::<T>(0)
}

#[inline(always)]
fn fill(
    out: &mut TransitionRecord,
    record: Option<&SocketRecord>,
    emission: &Emission<'_>,
    wanted: Wanted,
    pending: &Pending,
) {
    out.boot_ns = emission.now;
    out.duration_ns = emission.duration_ns;
    out.socket = emission.socket as u64;
    out.cookie = emission.cookie;
    out.cgroup_id = emission.place.cgroup_id;
    out.netns_cookie = emission.place.netns_cookie;
    out.traces = wanted.traces;
    out.maybe = wanted.maybe;
    out.pending_boot_ns = pending.boot_ns;
    out.pending_duration_ns = pending.duration_ns;
    out.pending_traces = pending.wanted.traces;
    out.pending_maybe = pending.wanted.maybe;
    out.generation = emission.generation;
    out.netns = emission.place.netns;
    out.socket_error = emission.error;
    out.local_port = emission.tuple.local_port;
    out.peer_port = emission.tuple.peer_port;
    out.local = emission.tuple.local;
    out.peer = emission.tuple.peer;
    out.flags = emission.flags | pending.flags;
    out.family = emission.tuple.family;
    out.old_state = emission.step.old;
    out.new_state = emission.step.new;
    out.pending_old_state = pending.old;
    out.pending_new_state = pending.new;
    for byte in &mut out.padding {
        // SAFETY: a plain field. Volatile, or the compiler makes a call of it (see `copy_comm`).
        unsafe { (&raw mut *byte).write_volatile(0) };
    }
    out.interface = emission.interface;
    out.role = emission.role;
    if let Some(record) = record {
        out.birth_ns = record.birth_ns;
        out.owner_pid = record.owner_pid;
        copy_comm(&mut out.owner_comm, &record.owner_comm);
        out.owner_source = record.owner_source;
        out.owner_ns = record.owner_ns;
        out.task_cgroup = record.task_cgroup;
    } else {
        out.birth_ns = emission.now;
        out.owner_pid = 0;
        clear_comm(&mut out.owner_comm);
        out.owner_source = owner::NONE;
        out.owner_ns = 0;
        out.task_cgroup = 0;
    }
    if setting!(want_on_cpu) != 0 {
        out.on_cpu_pid = (bpf_get_current_pid_tgid() >> 32) as u32;
        // SAFETY: the helper writes at most the length it is given.
        unsafe { bpf_get_current_comm(out.on_cpu_comm.as_mut_ptr().cast(), COMM_LEN as u32) };
    } else {
        out.on_cpu_pid = 0;
        clear_comm(&mut out.on_cpu_comm);
    }
}

/// Wakes the reader if it sleeps, or if it rests while the ring fills.
///
/// `waiting`: bytes in the ring, or 0 where nobody has looked.
///
/// The record above is committed first, with a full barrier (`xchg` in `bpf_ringbuf_commit`, since 5.8), and only
/// then is the flag read: a reader that sets the flag and then finds nothing is sure to be woken. The wake-up
/// itself rides on a small discarded record, which the reader never sees. It goes into the other ring: this one may
/// have filled since the record above, and then nobody would ever wake the reader. That one wakes it by itself before
/// it fills.
#[inline(always)]
fn wake_reader(counters: Counters, waiting: u64) {
    let Some(control) = CONTROL.get_ptr_mut(0) else { return };
    let is_half_full = waiting > u64::from(setting!(ring_bytes)) / 2;
    // SAFETY: the map's only element, shared with user space; two producers that both find the flag set only
    // wake the reader twice.
    unsafe {
        let sleeping = &raw mut (*control).sleeping;
        let resting = &raw mut (*control).resting;
        if sleeping.read_volatile() != 0 {
            sleeping.write_volatile(0);
        } else if is_half_full && resting.read_volatile() != 0 {
            resting.write_volatile(0);
        } else {
            return;
        }
    }
    counters.add(Counter::Wakeup, 1);
    if let Some(nudge) = CGROUP_EVENTS.reserve_untyped::<u64>(0) {
        nudge.discard(BPF_RB_FORCE_WAKEUP.into());
    }
}
