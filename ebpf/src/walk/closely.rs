//! The figures of single sockets: what their programs have not read, what their peers have not acknowledged, how long
//! nothing has passed. Apart from the walk over chains, because most of what that finds nobody asks about.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use kube_tcpstates_common::{
    verifier::masked,
    walk::{CLOSE_LOOKS, CloseLook, WORDS},
};

use super::{
    Next,
    chains::{is_alive, tell},
    room, shared, steps,
};
use crate::{
    globals::{offset, walk_offset},
    memory::{Memory, Probed},
};

/// Looks closely at those sockets that `words` asks for. What is no socket any more is left out.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/walk")]
extern "C" fn walk_closely(_: *const u64) -> i32 {
    let Some(walk) = shared() else { return Next::Lost as i32 };
    // SAFETY: the helper has no preconditions.
    walk.cursor.jiffies = unsafe { bpf_jiffies64() };
    steps(walk_figures)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_figures() -> u32 {
    let Some(walk) = shared() else { return Next::Lost.number() };
    if walk.cursor.next >= walk.cursor.asked {
        return Next::Done.number();
    }
    let socket = walk.words[masked::<{ WORDS - 1 }>(walk.cursor.next as usize)] as *const u8;
    let Some(told) = room::<CloseLook, { CLOSE_LOOKS - 1 }>(walk) else { return Next::Full.number() };
    // SAFETY: as `room` says.
    let told = unsafe { &mut *told };
    figures(socket, told);
    told.asked = walk.cursor.next;
    if tell(socket, &mut told.socket, 0) && is_alive(socket) {
        walk.cursor.count += 1;
    }
    walk.cursor.next += 1;
    Next::Step.number()
}

#[inline(always)]
fn figures(socket: *const u8, told: &mut CloseLook) {
    told.interface = Probed::field(socket, offset!(bound_interface));
    told.received = Probed::field(socket, walk_offset!(received));
    told.read = Probed::field(socket, walk_offset!(read));
    told.written = Probed::field(socket, walk_offset!(written));
    told.unacknowledged = Probed::field(socket, walk_offset!(unacknowledged));
    told.last_sent = Probed::field(socket, walk_offset!(last_sent));
    told.last_received = Probed::field(socket, walk_offset!(last_received));
    told.queued = Probed::field(socket, walk_offset!(queued));
    told.queue_limit = Probed::field(socket, walk_offset!(queue_limit));
    told.drops = Probed::field(socket, walk_offset!(drops));
    told.retransmits = Probed::field(socket, walk_offset!(retransmits));
    told.padding = [0; 3];
}
