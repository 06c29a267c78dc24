//! cgroups as they come and go: `tp_btf/cgroup_mkdir` and `tp_btf/cgroup_rmdir`, `(struct cgroup *, const char
//! *path)`. Both run before any process can be in a new cgroup, so even the shortest-lived container is known.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel_str, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use kube_tcpstates_common::{
    counter::Counter,
    record::{CGROUP_PATH_LEN, CgroupRecord},
};

use crate::{
    counters::Counters,
    globals::{offset, setting},
    maps::{CGROUP_EVENTS, CGROUP_SETS},
    memory::{Memory, Probed, Typed},
};

/// `hierarchy_id` of the unified hierarchy: it is made first (`cgroup_init`, `kernel/cgroup/cgroup.c`).
const UNIFIED: u32 = 0;

#[btf_tracepoint(function = "cgroup_mkdir")]
pub(crate) fn cgroup_mkdir(context: BtfTracePointContext) -> i32 {
    let cgroup: *const u8 = context.arg(0);
    if let Some((hierarchy, id)) = followed(cgroup) {
        if hierarchy == UNIFIED {
            inherit_sets(cgroup, id);
        }
        tell(hierarchy, id, context.arg(1), false);
    }
    0
}

#[btf_tracepoint(function = "cgroup_rmdir")]
pub(crate) fn cgroup_rmdir(context: BtfTracePointContext) -> i32 {
    if let Some((hierarchy, id)) = followed(context.arg(0)) {
        tell(hierarchy, id, context.arg(1), true);
    }
    0
}

/// The hierarchy and the id, if the cgroup is of the unified hierarchy or of that one of cgroup v1 that tells containers
/// apart. Each numbers its cgroups for itself.
#[inline(always)]
fn followed(cgroup: *const u8) -> Option<(u32, u64)> {
    let root = Typed::pointer(cgroup, offset!(cgroup_root));
    if root.is_null() {
        return None;
    }
    let hierarchy = Typed::field::<u32>(root, offset!(hierarchy_id));
    // Without such a hierarchy the setting is that of the unified one.
    if hierarchy != UNIFIED && hierarchy != setting!(task_hierarchy) {
        return None;
    }
    let node = Typed::pointer(cgroup, offset!(cgroup_kn));
    if node.is_null() { None } else { Some((hierarchy, Typed::field(node, offset!(kernfs_id)))) }
}

/// A new cgroup is selected by whatever selects, or may yet select, its parent, where the parent's entry says so.
#[inline(always)]
fn inherit_sets(cgroup: *const u8, id: u64) {
    // `cgroup.self` is the first member, so a pointer to the parent's is a pointer to the parent; the verifier
    // sees another type there, hence the probe reads.
    let parent = Typed::pointer(cgroup, offset!(cgroup_parent));
    let node = Probed::pointer(parent, offset!(cgroup_kn));
    let parent_id: u64 = Probed::field(node, offset!(kernfs_id));
    // SAFETY: an entry is replaced whole and freed after a grace period.
    let Some(entry) = (unsafe { CGROUP_SETS.get(parent_id) }) else { return };
    if entry.sets.inherited == 0 {
        return;
    }
    let entry = *entry;
    if CGROUP_SETS.insert(id, entry, 0).is_err()
        && let Some(counters) = Counters::get()
    {
        counters.add(Counter::CgroupEntryFailed, 1);
    }
}

#[inline(always)]
fn tell(hierarchy: u32, id: u64, path: *const u8, removed: bool) {
    let Some(mut entry) = CGROUP_EVENTS.reserve(0) else {
        if let Some(counters) = Counters::get() {
            counters.add(Counter::CgroupRingFull, 1);
        }
        return;
    };
    let out: *mut CgroupRecord = entry.as_mut_ptr();
    // SAFETY: the reserved record, every field of which is written; bytes of `path` behind `path_len` stay as
    // they are and user space does not read them.
    unsafe {
        (*out).id = id;
        (*out).hierarchy = hierarchy;
        (*out).padding = 0;
        (*out).removed = u32::from(removed);
        (*out).path_len =
            bpf_probe_read_kernel_str((&raw mut (*out).path).cast(), CGROUP_PATH_LEN as u32, path.cast())
                as i32;
    }
    entry.submit(0);
}
