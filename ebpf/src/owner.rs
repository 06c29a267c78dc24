//! Who owns a socket: the task that connects, listens, accepts or, failing those, closes it.

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid,
    generated::{bpf_get_current_comm, bpf_get_current_task},
};
use kube_tcpstates_common::{
    record::{COMM_LEN, owner},
    walk::Listener,
};

use crate::{
    globals::offset,
    maps::LISTENERS,
    memory::{Memory, Probed, copy_comm},
    socket::SocketRecord,
};

/// `PF_KTHREAD`, `include/linux/sched.h`, the same since 2.6.27.
const PF_KTHREAD: u32 = 0x0020_0000;

/// Whether the current task is a kernel thread.
#[inline(always)]
fn in_kernel_thread() -> bool {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    Probed::field::<u32>(task, offset!(task_flags)) & PF_KTHREAD != 0
}

/// Makes the current task the owner.
#[inline(always)]
pub(crate) fn set_current(record: &mut SocketRecord, source: u8) {
    let kernel = in_kernel_thread();
    if kernel && source == owner::CLOSE {
        return;
    }
    record.owner_source = if kernel { owner::KERNEL } else { source };
    record.owner_pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: the helper writes at most the length it is given; straight into the record, to spare the stack.
    unsafe { bpf_get_current_comm(record.owner_comm.as_mut_ptr().cast(), COMM_LEN as u32) };
}

/// Keeps a listener's owner for its children.
#[inline(always)]
pub(crate) fn listen(record: &SocketRecord, netns: u32, port: u16) {
    if netns == 0 || port == 0 {
        return;
    }
    let listener = Listener { owner_pid: record.owner_pid, owner_comm: record.owner_comm };
    // Without room the children have no owner until they close.
    let _ = LISTENERS.insert([netns, port.into()], listener, 0);
}

/// Gives a child the owner of the listener on its port. Of several listeners (SO_REUSEPORT) the last one counts.
#[inline(always)]
pub(crate) fn inherit(record: &mut SocketRecord, netns: u32, port: u16) {
    // SAFETY: an entry is replaced whole and freed after a grace period.
    if let Some(listener) = unsafe { LISTENERS.get([netns, port.into()]) } {
        record.owner_pid = listener.owner_pid;
        copy_comm(&mut record.owner_comm, &listener.owner_comm);
        record.owner_source = owner::LISTEN;
    }
}

/// Forgets a listener, unless the port is another process's by now.
#[inline(always)]
pub(crate) fn forget_listener(record: &SocketRecord, netns: u32, port: u16) {
    let key = [netns, port.into()];
    // SAFETY: an entry is replaced whole and freed after a grace period.
    if unsafe { LISTENERS.get(key) }.is_some_and(|listener| listener.owner_pid == record.owner_pid) {
        let _ = LISTENERS.remove(key);
    }
}
