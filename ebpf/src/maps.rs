//! Every map, by what it is for.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_SK_STORAGE},
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, lpm_trie::Key},
    macros::btf_map,
};
use kube_tcpstates_common::{
    counter::{CpuBlock, LOST_SETS},
    pinned::{LeftKey, LeftPart, Pinned},
    record::{CgroupRecord, TransitionRecord},
    rule::{
        CgroupEntry, Control, HASH_FLAGS, MAX_CGROUPS, MAX_NETNS, MAX_PREFIXES, PortClasses, PrefixSet,
        RULE_TABLES, RuleTable, TraceSet,
    },
    share::{SHARES, Share, Sharer},
    walk::{Found, MAX_FOUND, Walk},
};

use crate::socket::SocketRecord;

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;
/// Of every hash that a hook's program uses: see there.
const HASH: usize = HASH_FLAGS as usize;
const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
const CGROUPS: usize = MAX_CGROUPS as usize;
const NETNS: usize = MAX_NETNS as usize;
const PREFIXES: usize = MAX_PREFIXES as usize;

/// Transitions on their way to user space. User space sets the size at load.
#[btf_map]
pub(crate) static EVENTS: RingBuf<TransitionRecord, { 8 * 1024 * 1024 }, 0> = RingBuf::new();

/// Who brings how much into it while it is nearly full. An LRU, for what it forgets only begins anew.
#[btf_map]
pub(crate) static RING_SHARES: LruHashMap<Sharer, Share, SHARES> = LruHashMap::new();

/// cgroups made and removed, apart from the transitions so that churn of those cannot crowd them out.
#[btf_map]
pub(crate) static CGROUP_EVENTS: RingBuf<CgroupRecord, { 1024 * 1024 }, 0> = RingBuf::new();

/// Shared with user space, which maps it.
#[btf_map]
pub(crate) static CONTROL: Array<Control, 1, MMAPABLE> = Array::new();

/// Generation of the rules, and when the programs were attached.
#[inline(always)]
pub(crate) fn in_force() -> Option<(u32, u64)> {
    let control = CONTROL.get_ptr(0)?;
    // SAFETY: the map's only element; user space changes it while programs run.
    Some(unsafe {
        (
            (&raw const (*control).generation).read_volatile(),
            (&raw const (*control).attached_ns).read_volatile(),
        )
    })
}

/// Written and read by user space alone.
#[btf_map]
pub(crate) static PINNED: Array<Pinned, 1, MMAPABLE> = Array::new();

/// Likewise. User space sets the size at load, where there is to be a next run.
#[btf_map]
pub(crate) static LEFT: HashMap<LeftKey, LeftPart, 1, NO_PREALLOC> = HashMap::new();

/// See `kube_tcpstates_common::counter`.
#[btf_map]
pub(crate) static CPU: PerCpuArray<CpuBlock, 1> = PerCpuArray::new();

/// Transitions that had no room, by the set of traces that wanted them. User space adds up for each trace: 64 additions
/// in the program would be 64 for the verifier on each path that leads there.
#[btf_map]
pub(crate) static RING_FULL_BY_TRACES: HashMap<TraceSet, u64, LOST_SETS, HASH> = HashMap::new();

/// See [`RULE_TABLES`].
#[btf_map]
pub(crate) static RULES: Array<RuleTable, RULE_TABLES> = Array::new();

/// By `port_table_index`.
#[btf_map]
pub(crate) static PORT_CLASSES: Array<PortClasses, 4> = Array::new();

/// cgroup id -> traces.
#[btf_map]
pub(crate) static CGROUP_SETS: HashMap<u64, CgroupEntry, CGROUPS, HASH> = HashMap::new();

/// (network namespace inode, half) -> traces.
#[btf_map]
pub(crate) static NETNS_SETS: HashMap<[u32; 2], TraceSet, NETNS, HASH> = HashMap::new();

/// Peer prefixes, a trie for each family and half.
#[btf_map]
pub(crate) static PREFIXES_V4_A: LpmTrie<[u8; 4], PrefixSet, PREFIXES, NO_PREALLOC> = LpmTrie::new();
#[btf_map]
pub(crate) static PREFIXES_V4_B: LpmTrie<[u8; 4], PrefixSet, PREFIXES, NO_PREALLOC> = LpmTrie::new();
#[btf_map]
pub(crate) static PREFIXES_V6_A: LpmTrie<[u8; 16], PrefixSet, PREFIXES, NO_PREALLOC> = LpmTrie::new();
#[btf_map]
pub(crate) static PREFIXES_V6_B: LpmTrie<[u8; 16], PrefixSet, PREFIXES, NO_PREALLOC> = LpmTrie::new();

/// A trie's key for a whole address.
#[inline(always)]
pub(crate) fn prefix_key<const N: usize>(address: [u8; N]) -> Key<[u8; N]> {
    Key::new(N as u32 * 8, address)
}

/// Records of connections where the kernel has socket storage for this program type. Never on a listener: see
/// `docs/security.md`.
///
/// aya-ebpf's own `SkStorage` has no flags and takes another kind of context. The kernel accepts the map only with
/// `BPF_F_NO_PREALLOC`.
#[repr(C)]
pub(crate) struct SocketStorageMap {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const SocketRecord,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; NO_PREALLOC],
}

// SAFETY: a definition for the loader; nothing reads through its pointers.
unsafe impl Sync for SocketStorageMap {}

#[btf_map]
pub(crate) static SOCKET_STORAGE: SocketStorageMap = SocketStorageMap {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};

/// Records of connections elsewhere, keyed by the socket's address. Never an LRU: that forgets in silence.
#[btf_map]
pub(crate) static SOCKET_HASH: HashMap<u64, SocketRecord, 262_144, HASH> = HashMap::new();

/// Records of listeners, keyed by the socket's address, wherever those of connections are.
#[btf_map]
pub(crate) static LISTENERS: HashMap<u64, SocketRecord, 65_536, HASH> = HashMap::new();

/// Connections that were open before the programs were attached, keyed by their socket's address, until their first
/// transition. Listeners are put into `LISTENERS` at once.
#[btf_map]
pub(crate) static FOUND: HashMap<u64, Found, { MAX_FOUND as usize }, HASH> = HashMap::new();

/// Shared with user space, which maps it: one slice of a walk.
#[btf_map]
pub(crate) static WALK: Array<Walk, 1, MMAPABLE> = Array::new();

/// Slot 0: socket records found by the last count; slot 1: those of closed sockets among them.
#[btf_map]
pub(crate) static RECORD_COUNT: Array<u64, 2> = Array::new();
