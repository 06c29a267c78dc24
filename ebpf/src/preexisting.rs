//! Connections that were open before the programs were attached: user space has found them by a walk and says here what
//! they are. A connection's first transition takes that over into its record.

use kube_tcpstates_common::{counter::Counter, walk::Found};

use crate::{
    counters::Counters,
    figures::clear_times,
    hook::Tuple,
    maps::FOUND,
    memory::copy_comm,
    socket::{BIRTH_UNKNOWN, Records, SINCE_ATTACH, SINCE_UNKNOWN, SocketRecord},
    step::Step,
};

/// Makes a record of what the walk found of this socket, if it did and this is still the same connection. An older
/// record, from before the programs were last detached, is overwritten.
#[inline(always)]
pub(crate) fn take_over<R: Records>(
    socket: *const u8,
    tuple: &Tuple,
    netns: u32,
    step: Step,
    attached_ns: u64,
    counters: Counters,
) -> Option<&'static mut SocketRecord> {
    // SAFETY: user space replaces an entry whole; it is freed after a grace period.
    let found = unsafe { FOUND.get(socket as u64) }?;
    let differs = u32::from(found.local_port ^ tuple.local_port)
        | u32::from(found.peer_port ^ tuple.peer_port)
        | (found.netns ^ netns)
        | (found.peer[0] ^ tuple.peer[0])
        | (found.peer[1] ^ tuple.peer[1])
        | (found.peer[2] ^ tuple.peer[2])
        | (found.peer[3] ^ tuple.peer[3]);
    if differs != 0 || found.since_ns < attached_ns {
        return None;
    }
    let record = R::create(socket)?;
    fill(record, found, step);
    counters.add(Counter::TakenOver, 1);
    // It is ours alone: nobody else deletes it, and user space inserts before the next attach only.
    let _ = FOUND.remove(socket as u64);
    Some(record)
}

/// A transition between the walk and the record leaves the time of the present state unknown.
#[inline(always)]
fn fill(record: &mut SocketRecord, found: &Found, step: Step) {
    let moved = u8::from(found.state != step.old);
    record.since_ns = found.since_ns;
    record.birth_ns = found.since_ns;
    record.state = step.old;
    record.role = found.role;
    record.flags = SINCE_ATTACH | BIRTH_UNKNOWN | (moved * SINCE_UNKNOWN);
    record.owner_source = found.owner_source;
    record.owner_pid = found.owner_pid;
    record.owner_ns = found.since_ns;
    record.task_cgroup = found.task_cgroup;
    record.birth_error = 0;
    record.visited = 0;
    record.listener = 0;
    clear_times(&mut record.state_ns);
    copy_comm(&mut record.owner_comm, &found.owner_comm);
}
