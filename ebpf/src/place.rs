//! Where a socket belongs: its cgroup and its network namespace.

use kube_tcpstates_common::{offsets::ABSENT, verifier::forget};

use crate::{
    globals::offset,
    memory::{Memory, Probed},
};

/// Id of the root of the unified hierarchy (`kernfs_create_root`, `fs/kernfs/dir.c`).
const ROOT_CGROUP: u64 = 1;

/// Where a socket belongs.
pub(crate) struct Place {
    pub(crate) cgroup_id: u64,
    pub(crate) netns: u32,
    pub(crate) netns_cookie: u64,
}

impl Place {
    /// Reads the socket's network namespace, where the cgroup that made it has been read. Right in every context,
    /// softirq too.
    ///
    /// No pointer is compared with null: what is read through a null pointer is 0, in both ways of reading.
    #[inline(always)]
    pub(crate) fn beside<M: Memory>(cgroup_id: u64, socket: *const u8) -> Self {
        let (mut netns, mut netns_cookie) = (0, 0);
        if offset!(net) != ABSENT {
            let net = M::pointer(socket, offset!(net));
            netns = M::field(net, offset!(net_inum));
            netns_cookie = M::field(net, offset!(net_cookie));
        }
        Self { cgroup_id, netns, netns_cookie }
    }
}

/// The network namespace's inode number alone, 0 where it cannot be read.
#[inline(always)]
pub(crate) fn netns<M: Memory>(socket: *const u8) -> u32 {
    if offset!(net) == ABSENT { 0 } else { M::field(M::pointer(socket, offset!(net)), offset!(net_inum)) }
}

/// Between which two ports the kernel chooses a socket's own, both 0 where that cannot be read. A socket's own option
/// (`IP_LOCAL_PORT_RANGE`) only narrows it.
#[inline(always)]
pub(crate) fn port_range<M: Memory>(socket: *const u8) -> [u32; 2] {
    if offset!(net) == ABSENT || offset!(port_range) == ABSENT {
        return [0, 0];
    }
    let net = M::pointer(socket, offset!(net));
    let first = M::field::<u32>(net, offset!(port_range));
    if offset!(port_range_is_two) == 0 {
        return [first & 0xffff, first >> 16];
    }
    [first, M::field::<u32>(net, offset!(port_range).wrapping_add(4))]
}

/// The id of a task's cgroup in the hierarchy of cgroup v1 that tells containers apart, 0 where there is none.
#[inline(always)]
pub(crate) fn task_cgroup(task: *const u8) -> u64 {
    if offset!(task_state) == ABSENT {
        return 0;
    }
    let state = Probed::pointer(Probed::pointer(task, offset!(task_cgroups)), offset!(task_state));
    let node = Probed::pointer(Probed::pointer(state, offset!(state_cgroup)), offset!(cgroup_kn));
    Probed::field(node, offset!(kernfs_id))
}

/// The cgroup2 id, 0 where it cannot be read.
#[inline(always)]
pub(crate) fn cgroup_id<M: Memory>(socket: *const u8, zero: u64) -> u64 {
    if offset!(cgroup_kn) == ABSENT || offset!(kernfs_id) == ABSENT {
        return 0;
    }
    if offset!(cgroup) != ABSENT {
        let cgroup = M::pointer(socket, offset!(cgroup));
        let node = M::pointer(cgroup, offset!(cgroup_kn));
        return M::field(node, offset!(kernfs_id));
    }
    if offset!(cgroup_val) == ABSENT {
        return 0;
    }
    // Before 5.15 one word is a pointer, or has a low bit set and then carries cgroup v1 data. Where it is no pointer
    // the socket is the root's (`sock_cgroup_ptr`, `include/linux/cgroup.h`).
    let word = M::field::<u64>(socket, offset!(cgroup_val));
    let id = if word == 0 || word & 3 != 0 {
        ROOT_CGROUP
    } else {
        let node = Probed::pointer(word as *const u8, offset!(cgroup_kn));
        Probed::field(node, offset!(kernfs_id))
    };
    forget(id, zero)
}
