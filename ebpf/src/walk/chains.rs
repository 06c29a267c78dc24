//! The chains of a hash table of sockets.
//!
//! A socket may leave its chain at any time, and its memory may become another socket's in another chain
//! (`SLAB_TYPESAFE_BY_RCU`). As the kernel's own readers do (`__inet_lookup_established`): a chain's end says whose end
//! it is, and where that is another bucket's the chain is walked again. Whoever collects drops what was told twice.

use kube_tcpstates_common::{
    offsets::ABSENT,
    state::State,
    verifier::masked,
    walk::{OpenSocket, SOCKETS, TRIES, WORDS, Walk},
};

use super::{Next, pointer, room, shared, steps, word};
use crate::{
    globals::{offset, walk_offset},
    hook::{TCP, Tuple, tuple_of_socket},
    memory::{Memory, Probed},
    place::{self, Place},
};

/// Tells of the sockets in those buckets that `words` asks for.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/walk")]
extern "C" fn walk_chains(_: *const u64) -> i32 {
    let Some(walk) = shared() else { return Next::Lost as i32 };
    let node = walk.cursor.at;
    if node != 0 && node & 1 == 0 && !is_in(walk, socket_of(node), bucket(walk)) {
        // It has left the chain since the last slice.
        walk.cursor.at = 0;
    }
    steps(walk_node)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_node() -> u32 {
    let Some(walk) = shared() else { return Next::Lost.number() };
    if walk.cursor.next >= walk.cursor.asked {
        return Next::Done.number();
    }
    let bucket = bucket(walk);
    if walk.cursor.at == 0 {
        walk.cursor.tries += 1;
        if walk.cursor.tries > TRIES {
            walk.cursor.given_up += 1;
            leave(walk);
            return Next::Step.number();
        }
        walk.cursor.at = word(walk.cursor.base + u64::from(bucket) * u64::from(walk.cursor.stride));
    }
    let node = walk.cursor.at;
    if node & 1 != 0 {
        if node >> 1 == u64::from(walk.cursor.mark) + u64::from(bucket) {
            leave(walk);
        } else {
            walk.cursor.at = 0;
        }
        return Next::Step.number();
    }
    let socket = socket_of(node);
    let next = word(node);
    if !is_in(walk, socket, bucket) {
        walk.cursor.at = 0;
        return Next::Step.number();
    }
    let Some(told) = room::<OpenSocket, { SOCKETS - 1 }>(walk) else { return Next::Full.number() };
    // SAFETY: as `room` says.
    let told = unsafe { &mut *told };
    if tell(socket, told, walk.cursor.passing) && is_in(walk, socket, bucket) {
        walk.cursor.count += 1;
    }
    walk.cursor.at = next;
    Next::Step.number()
}

#[inline(always)]
fn bucket(walk: &Walk) -> u32 {
    walk.words[masked::<{ WORDS - 1 }>(walk.cursor.next as usize)] as u32
}

#[inline(always)]
fn leave(walk: &mut Walk) {
    walk.cursor.next += 1;
    walk.cursor.tries = 0;
    walk.cursor.at = 0;
}

#[inline(always)]
fn socket_of(node: u64) -> *const u8 {
    (node - u64::from(walk_offset!(socket_node))) as *const u8
}

/// Whether a socket is alive.
#[inline(always)]
pub(super) fn is_alive(socket: *const u8) -> bool {
    Probed::field::<u32>(socket, walk_offset!(socket_references)) != 0
}

/// Whether a socket is alive and in this bucket.
#[inline(always)]
fn is_in(walk: &Walk, socket: *const u8, bucket: u32) -> bool {
    let hash: u32 = Probed::field(socket, walk_offset!(socket_hash));
    is_alive(socket) && (hash ^ bucket) & walk.cursor.mask == 0
}

/// Reads a socket. Returns whether it is one of TCP's, whole, and the same at the end as at the beginning; `passing` asks
/// for `TIME_WAIT` and requests as well, which are smaller: of a cgroup they know nothing.
#[inline(always)]
pub(super) fn tell(socket: *const u8, told: &mut OpenSocket, passing: u32) -> bool {
    let state: u8 = Probed::field(socket, offset!(state));
    let net = pointer(socket as u64, offset!(net));
    let tuple = tuple_of_socket::<Probed>(socket, false);
    let place = Place::beside::<Probed>(place::cgroup_id::<Probed>(socket, 0), socket);
    let protocol: u16 = Probed::field(socket, offset!(protocol));
    told.socket = socket as u64;
    told.mptcp = mptcp(socket);
    told.cookie = Probed::field(socket, offset!(cookie));
    told.cgroup_id = place.cgroup_id;
    told.netns_cookie = place.netns_cookie;
    told.listener = 0;
    told.local = tuple.local;
    told.peer = tuple.peer;
    told.netns = place.netns;
    told.local_port = tuple.local_port;
    told.peer_port = tuple.peer_port;
    told.family = tuple.family;
    told.state = state;
    told.v6_only = Probed::field::<u8>(socket, walk_offset!(v6_only)) >> (walk_offset!(v6_only_bit) & 7) & 1;
    told.substate = 0;
    told.acked = 0;
    told.padding = [0; 3];
    let again = tuple_of_socket::<Probed>(socket, false);
    let is_same = tuple.family != 0 && same(&tuple, &again) && net == pointer(socket as u64, offset!(net));
    if state != State::TIME_WAIT.0 && state != State::NEW_SYN_RECV.0 {
        return protocol == TCP && is_same;
    }
    told.mptcp = 0;
    told.cgroup_id = 0;
    told.listener = Probed::field(socket, walk_offset!(request_listener));
    told.substate = Probed::field(socket, walk_offset!(timewait_substate));
    told.acked =
        Probed::field::<u8>(socket, walk_offset!(request_acked)) >> (walk_offset!(request_acked_bit) & 7) & 1;
    passing != 0 && is_same
}

#[inline(always)]
fn same(one: &Tuple, other: &Tuple) -> bool {
    let mut differs = u32::from(one.family ^ other.family)
        | u32::from(one.local_port ^ other.local_port)
        | u32::from(one.peer_port ^ other.peer_port);
    let mut at = 0;
    while at < 4 {
        differs |= (one.local[at] ^ other.local[at]) | (one.peer[at] ^ other.peer[at]);
        at += 1;
    }
    differs == 0
}

/// The MPTCP socket behind a subflow, 0 where there is none.
#[inline(always)]
fn mptcp(socket: *const u8) -> u64 {
    if walk_offset!(socket_ulp) == ABSENT
        || walk_offset!(subflow_socket) == ABSENT
        || Probed::field::<u8>(socket, offset!(is_mptcp)) & 1 == 0
    {
        return 0;
    }
    pointer(pointer(socket as u64, walk_offset!(socket_ulp)), walk_offset!(subflow_socket))
}
