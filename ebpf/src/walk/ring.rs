//! Lists without an end: network namespaces, and processes. Each begins at our own, which is there as long as we are.

use aya_ebpf::helpers::generated::bpf_get_current_task;
use kube_tcpstates_common::{
    offsets::ABSENT,
    walk::{TABLES, TASKS, Task},
};

use super::{Next, pointer, room, shared, steps, word};
use crate::{
    globals::{offset, walk_offset},
    memory::{Memory, Probed},
    place,
};

/// `list_head.prev`.
const PREVIOUS: u32 = 8;

/// Tells of the hash tables that network namespaces use, as often as the one differs from the one before: all use the
/// same unless they were told otherwise (`tcp_child_ehash_entries`, 6.1).
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/walk")]
extern "C" fn walk_namespaces(_: *const u64) -> i32 {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    let own = pointer(pointer(task, walk_offset!(task_nsproxy)), walk_offset!(nsproxy_net));
    if !begin(own, walk_offset!(net_list)) {
        return Next::Lost as i32;
    }
    steps(walk_namespace)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_namespace() -> u32 {
    let Some(walk) = shared() else { return Next::Lost.number() };
    let net = walk.cursor.at;
    // The list's head is no namespace.
    if pointer(net, walk_offset!(net_ops)) == pointer(walk.cursor.first, walk_offset!(net_ops)) {
        let row = walk_offset!(net_death_row);
        let owner = if row == ABSENT { net } else { pointer(net, row) };
        let tables = pointer(owner, walk_offset!(net_tables));
        if tables != 0 && tables != walk.cursor.last_table {
            let Some(told) = room::<u64, { TABLES - 1 }>(walk) else { return Next::Full.number() };
            // SAFETY: as `room` says.
            unsafe { *told = tables };
            walk.cursor.count += 1;
            walk.cursor.last_table = tables;
        }
    }
    on(walk_offset!(net_list))
}

/// Tells of the processes that have files.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/walk")]
extern "C" fn walk_tasks(_: *const u64) -> i32 {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    if !begin(pointer(task, walk_offset!(task_leader)), walk_offset!(task_list)) {
        return Next::Lost as i32;
    }
    steps(walk_task)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_task() -> u32 {
    let Some(walk) = shared() else { return Next::Lost.number() };
    let task = walk.cursor.at as *const u8;
    if pointer(walk.cursor.at, walk_offset!(task_files)) != 0 {
        let Some(told) = room::<Task, { TASKS - 1 }>(walk) else { return Next::Full.number() };
        // SAFETY: as `room` says.
        let told = unsafe { &mut *told };
        told.task = task as u64;
        told.started = Probed::field(task, walk_offset!(task_started));
        told.comm = Probed::field(task, offset!(task_comm));
        told.pid = Probed::field(task, offset!(task_tgid));
        told.cgroup = place::task_cgroup(task);
        walk.cursor.count += 1;
    }
    on(walk_offset!(task_list))
}

/// Begins at `own`, or goes on where the slice before stopped. Returns whether that is still in the list: what has left
/// it is no longer its successor's predecessor.
#[inline(always)]
fn begin(own: u64, list: u32) -> bool {
    let Some(walk) = shared() else { return false };
    if walk.cursor.at == 0 {
        walk.cursor.at = own;
        walk.cursor.first = own;
    }
    let node = walk.cursor.at + u64::from(list);
    own != 0 && pointer(word(node), PREVIOUS) == node
}

/// The next one.
#[inline(always)]
fn on(list: u32) -> u32 {
    let Some(walk) = shared() else { return Next::Lost.number() };
    let next = pointer(walk.cursor.at, list);
    if next == 0 {
        return Next::Lost.number();
    }
    walk.cursor.at = next - u64::from(list);
    if walk.cursor.at == walk.cursor.first { Next::Done.number() } else { Next::Step.number() }
}
