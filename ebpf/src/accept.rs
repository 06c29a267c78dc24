//! fexit on `inet_csk_accept`: the task that accepts a connection owns it. Not every kernel allows fexit; without
//! it the child keeps the owner of its listener.

use aya_ebpf::{helpers::generated::bpf_ktime_get_boot_ns, macros::fexit, programs::FExitContext};
use kube_tcpstates_common::record::owner;

use crate::{
    owner as socket_owner,
    socket::{InStorage, Records},
};

/// `inet_csk_accept(sk, arg)`, since 6.10.
#[fexit(function = "inet_csk_accept")]
pub(crate) fn accepted_2(context: FExitContext) -> i32 {
    accepted(context.arg(2))
}

/// `inet_csk_accept(sk, flags, err, kern)`, before.
#[fexit(function = "inet_csk_accept")]
pub(crate) fn accepted_4(context: FExitContext) -> i32 {
    accepted(context.arg(4))
}

#[inline(always)]
fn accepted(socket: *const u8) -> i32 {
    if !socket.is_null()
        && let Some(record) = InStorage::get(socket)
    {
        // SAFETY: the helper has no preconditions.
        let now = unsafe { bpf_ktime_get_boot_ns() };
        let listener = record.task_cgroup;
        socket_owner::set_current(record, owner::ACCEPT, now);
        // It stays with its listener's container, as its own cgroup does.
        if listener != 0 {
            record.task_cgroup = listener;
        }
    }
    0
}
