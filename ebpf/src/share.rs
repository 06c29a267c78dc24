//! A share of the ring for each who fills it, while there is little of it left: see `kube_tcpstates_common::share`.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_RB_AVAIL_DATA, BPF_RB_CONS_POS},
    helpers::generated::bpf_ringbuf_query,
};
use kube_tcpstates_common::share::{Share, allowance, is_scarce, slice_of};

use crate::{
    counters::{Counters, add},
    globals::setting,
    maps::{EVENTS, RING_SHARES},
    place::Place,
};

/// `BPF_RINGBUF_HDR_SZ`, `include/uapi/linux/bpf.h`.
const HEADER: usize = 8;

/// Bytes that wait in the ring.
#[inline(always)]
pub(crate) fn waiting() -> u64 {
    query(BPF_RB_AVAIL_DATA)
}

/// Whether the ring is to be shared out from now on.
#[inline(always)]
pub(crate) fn look(waiting: u64, counters: Counters) {
    counters.set_scarce(is_scarce(waiting, u64::from(setting!(ring_bytes))));
}

/// Whether another record of `T` is within the share of a socket's container. Counted as brought if it is.
#[inline(always)]
pub(crate) fn admits<T>(place: &Place, count: u64, counters: Counters) -> bool {
    !counters.is_scarce()
        || is_within(place.cgroup_id, place.netns, (size_of::<T>() + HEADER) as u64, count) != 0
}

/// Not inlined: rare, and of no use to the verifier on each path that leads here. Two programs at once may each bring the
/// last record of a share, or begin it anew.
#[inline(never)]
fn is_within(cgroup_id: u64, netns: u32, bytes: u64, count: u64) -> u64 {
    let ring_bytes = u64::from(setting!(ring_bytes));
    let waiting = waiting();
    if !is_scarce(waiting, ring_bytes) {
        return 1;
    }
    let sharer = [cgroup_id, u64::from(netns)];
    let slice = slice_of(query(BPF_RB_CONS_POS), ring_bytes);
    let Some(share) = RING_SHARES.get_ptr_mut(sharer) else {
        // Where not even this has room, nobody is held back.
        let _ = RING_SHARES.insert(sharer, Share { slice, bytes, refused: 0 }, BPF_ANY.into());
        return 1;
    };
    // SAFETY: an entry of the map, which may be another's meanwhile: then that one has a wrong share for a slice.
    unsafe {
        if (*share).slice != slice {
            (*share).slice = slice;
            (*share).bytes = 0;
        }
        if (*share).bytes >= allowance(waiting, ring_bytes) {
            add(&raw mut (*share).refused, count);
            return 0;
        }
        add(&raw mut (*share).bytes, bytes);
    }
    1
}

#[inline(always)]
fn query(what: u32) -> u64 {
    // SAFETY: the map is a ring buffer.
    unsafe { bpf_ringbuf_query((&raw const EVENTS).cast_mut().cast(), what.into()) }
}
