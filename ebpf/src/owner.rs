//! Who owns a socket: the task that connects, listens, accepts or, failing those, closes it.

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid,
    generated::{bpf_get_current_comm, bpf_get_current_task},
};
use kube_tcpstates_common::{
    offsets::ABSENT,
    record::{COMM_LEN, owner},
};

use crate::{
    globals::offset,
    memory::{Memory, Probed, copy_comm},
    place,
    socket::{Listeners, Records, SocketRecord},
};

/// `PF_KTHREAD`, `include/linux/sched.h`, the same since 2.6.27.
const PF_KTHREAD: u32 = 0x0020_0000;

/// Makes the current task the owner.
#[inline(always)]
pub(crate) fn set_current(record: &mut SocketRecord, source: u8, now: u64) {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    let kernel = Probed::field::<u32>(task, offset!(task_flags)) & PF_KTHREAD != 0;
    if kernel && source == owner::CLOSE {
        return;
    }
    record.task_cgroup = place::task_cgroup(task);
    record.owner_ns = now;
    record.owner_source = if kernel { owner::KERNEL } else { source };
    record.owner_pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: the helper writes at most the length it is given; straight into the record, to spare the stack.
    unsafe { bpf_get_current_comm(record.owner_comm.as_mut_ptr().cast(), COMM_LEN as u32) };
}

/// Gives a child the owner of its listener. At LISTEN -> SYN_RECV `tsorted_sent_queue` is still the listener's, bit by
/// bit (`sk_clone`, `net/core/sock.c`), and there it is empty: its first member points to the listener's own list head
/// (since 4.15). `tcp_create_openreq_child` makes it anew right after.
#[inline(always)]
pub(crate) fn inherit(record: &mut SocketRecord, child: *const u8) {
    let offset = offset!(sent_queue);
    if offset == ABSENT {
        return;
    }
    let first: u64 = Probed::read(child, offset);
    // What is no listener's address is not in the map.
    let address = first.wrapping_sub(offset.into());
    let Some(listener) = Listeners::get(address as *const u8) else { return };
    record.listener = address;
    record.listener_birth_ns = listener.birth_ns;
    if listener.owner_source != owner::NONE {
        record.owner_pid = listener.owner_pid;
        copy_comm(&mut record.owner_comm, &listener.owner_comm);
        record.owner_source = owner::LISTEN;
        record.owner_ns = listener.owner_ns;
        record.task_cgroup = listener.task_cgroup;
    }
}
