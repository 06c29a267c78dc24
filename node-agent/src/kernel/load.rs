//! Loading the programs.

mod adopt;
mod attach;
mod earlier;
mod link;
mod programs;

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use aya::{
    Btf as AyaBtf, Ebpf, EbpfLoader, Endianness,
    maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray, RingBuf},
};
use bytemuck::Zeroable as _;
use kube_tcpstates_common::{
    counter::Counter,
    offsets::{ABSENT, ClassicOffsets, FigureOffsets, Offsets, Settings, WalkOffsets},
    pinned::FORMAT,
};
use kube_tcpstates_events::{Hook, Storage};

use self::{
    adopt::Pins,
    link::Link,
    programs::{Programs, Taken, load_cgroup_programs, load_hook},
};
pub use self::{
    adopt::{GoesOn, Inherited},
    earlier::Earlier,
};
use super::{
    btf::Btf,
    classic,
    clock::jiffy_ns,
    control::ControlPage,
    counters::Counters,
    error::{BoxError, LoadError},
    hashes, object, offsets,
    pinned::{Directory, Page},
    pod::Plain,
    records,
    ring::Rings,
    rules::Rules,
    shares::RingShares,
    walk::Layout,
};

/// Where the kernel shows its types.
pub(super) const BTF: &str = "/sys/kernel/btf/vmlinux";
/// They tell of cgroups; each is named as its tracepoint.
const CGROUP_PROGRAMS: [&str; 2] = ["cgroup_mkdir", "cgroup_rmdir"];
const NO_TYPES: &str = "the kernel shows no type information (BTF)";

/// What to load.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A certain hook, or the best this kernel has.
    pub hook: Option<Hook>,
    /// Size of the ring buffer in bytes; a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Record the task on the CPU as well.
    pub want_on_cpu: bool,
    /// Where tasks are told apart beside cgroup2.
    pub tasks: Option<TaskHierarchy>,
}

/// How tracing is to go on when this process ends.
#[derive(Debug)]
pub struct Pinning {
    /// Where.
    pub directory: Directory,
    /// How long without a reader.
    pub lease: Duration,
    /// What is traced, in words: another process takes over only what it would do itself.
    pub purpose: String,
}

/// The hierarchy of cgroup v1 by which containers are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskHierarchy {
    /// One of its controllers, as the kernel calls it.
    pub controller: &'static str,
    /// As /proc/PID/cgroup numbers it.
    pub number: u32,
}

/// The programs in the kernel. Dropping it detaches and frees everything.
pub struct Loaded {
    pub(super) ebpf: Ebpf,
    /// Which hook is in use.
    pub hook: Hook,
    /// Where socket records are.
    pub storage: Storage,
    /// Whether accepted sockets get the accepting task as owner.
    pub accept_owner: bool,
    /// Whether a close that no program got shows at the socket's end, or why not.
    pub ends: Result<(), String>,
    /// Whether the kernel tells of the peers' resets, or why not.
    pub resets: Result<(), String>,
    /// Whether cgroups are followed as they come and go.
    pub cgroup_events: bool,
    /// Whether sockets open before the start were found, or why not.
    pub open_sockets: Result<(), String>,
    /// Reads counters.
    pub counters: Counters,
    /// Who brought too much.
    pub shares: RingShares,
    /// Size of the ring of transitions.
    pub ring_bytes: u64,
    /// Both rings; taken by the reader.
    pub rings: Option<Rings>,
    /// The filter.
    pub rules: Rules,
    /// Where programs attach, in aya's form; some megabytes, so only until everything is attached.
    btf: Option<AyaBtf>,
    programs: Programs,
    /// The second of them, if the kernel took it.
    second: Option<&'static str>,
    accept_arguments: u32,
    /// How to walk over open sockets, or why that cannot be.
    layout: Result<Layout, String>,
    /// How many the program was told of, less those that it did not take over before the last detach.
    found: u64,
    /// Records of connections in the hash that an attachment has cleared away.
    cleared: u64,
    /// The program that counts socket records is loaded.
    counts_records: bool,
    offsets: Offsets,
    links: Vec<Link>,
    /// What the next run must know, and what this one must know of the last.
    pub(super) page: Arc<Page>,
    pins: Option<Pins>,
}

/// Loads everything. The rules are still empty and nothing is attached, unless there is something to take over: see
/// [`Loaded::inherited`].
pub fn load(options: Options, pinning: Option<Pinning>) -> Result<Loaded, LoadError> {
    raise_memlock();
    // aya reads the kernel's types for itself, and cannot be kept from it: meanwhile they are read here.
    let (types, btf, aya) = thread::scope(|scope| {
        let aya = scope.spawn(EbpfLoader::new);
        let types = Btf::read(Path::new(BTF));
        let btf = types.as_ref().ok().and_then(attach_points);
        (types, btf, aya.join())
    });
    let mut aya =
        aya.map_err(|_| LoadError::Maps { reason: "the loader panicked over the kernel's types".into() })?;
    let hook = options.hook.unwrap_or(if types.is_ok() { Hook::TpBtf } else { Hook::Tracepoint });
    let (offsets, accept_arguments) = match (&types, hook) {
        (Ok(types), _) => {
            let controller = options.tasks.map(|tasks| tasks.controller);
            let offsets = offsets::resolve(types, controller)
                .map_err(|source| LoadError::NoTypes { hook, reason: source.into() })?;
            (offsets, types.parameters("inet_csk_accept").unwrap_or(0))
        }
        (Err(_), Hook::Tracepoint) => (Offsets::NONE, 0),
        (Err(source), _) => return Err(LoadError::NoTypes { hook, reason: source.to_string().into() }),
    };
    let classic = match hook {
        Hook::Tracepoint => classic::read().map_err(|source| LoadError::Program {
            program: "classic",
            hint: hint(hook),
            reason: source.into(),
        })?,
        _ => ClassicOffsets::zeroed(),
    };
    let layout = match &types {
        Ok(types) => Layout::resolve(types).map_err(|missing| missing.to_string()),
        Err(_) => Err(NO_TYPES.to_owned()),
    };
    let figures =
        types.as_ref().map_or(FigureOffsets::NONE, |types| offsets::resolve_figures(types, &offsets));
    let walk_offsets = layout.as_ref().map_or(WalkOffsets::NONE, |layout| layout.offsets);
    let settings = Settings {
        want_on_cpu: options.want_on_cpu.into(),
        ring_bytes: options.ring_bytes,
        task_hierarchy: options.tasks.map_or(0, |tasks| tasks.number),
        lease_jiffies: pinning.as_ref().map_or(0, |pinning| jiffies(pinning.lease)),
    };
    let words = object::for_hook(hook);
    if pinning.is_some() && !matches!(hook, Hook::TpBtf | Hook::RawTp) {
        return Err(LoadError::Pinned { reason: format!("hook {hook} cannot be pinned").into() });
    }
    let pins = pinning.map(|Pinning { directory, lease, purpose }| {
        let told_apart_by: [&[u8]; 8] = [
            &FORMAT.to_ne_bytes(),
            bytemuck::cast_slice(&words),
            // Most kernels take one object for each.
            hook.as_str().as_bytes(),
            bytemuck::bytes_of(&offsets),
            bytemuck::bytes_of(&figures),
            bytemuck::bytes_of(&walk_offsets),
            bytemuck::bytes_of(&settings),
            purpose.as_bytes(),
        ];
        Pins::look(directory, lease, &told_apart_by)
    });
    let pins = pins.transpose()?;
    if let Some(pins) = &pins {
        pins.place(&mut aya);
    }
    let mut ebpf = aya
        .btf(btf.as_ref())
        .allow_unsupported_maps()
        .override_global("OFFSETS", &Plain(offsets), true)
        .override_global("FIGURE_OFFSETS", &Plain(figures), true)
        .override_global("WALK_OFFSETS", &Plain(walk_offsets), true)
        .override_global("CLASSIC", &Plain(classic), true)
        .override_global("SETTINGS", &Plain(settings), true)
        .map_max_entries("EVENTS", options.ring_bytes)
        .map_max_entries("FOUND", object::max_found(hook))
        .load(bytemuck::cast_slice(&words))
        .map_err(|source| LoadError::Maps { reason: source.into() })?;
    let taken = load_hook(&mut ebpf, hook, btf.as_ref())?;
    let cgroup_events = offsets.cgroup_root != ABSENT
        && offsets.kernfs_id != ABSENT
        && btf.as_ref().is_some_and(|btf| load_cgroup_programs(&mut ebpf, btf).is_ok());
    let mut loaded = assemble(ebpf, hook, taken, btf)?;
    loaded.cgroup_events = cgroup_events;
    loaded.accept_arguments = accept_arguments;
    loaded.ring_bytes = options.ring_bytes.into();
    loaded.offsets = offsets;
    loaded.layout = layout;
    loaded.pins = pins;
    Ok(loaded)
}

/// So many of the kernel's ticks; at least one.
fn jiffies(time: Duration) -> u32 {
    let ticks = time.as_nanos() / u128::from(jiffy_ns().max(1));
    u32::try_from(ticks).unwrap_or(u32::MAX).max(1)
}

/// The ids of what programs attach to, as aya looks them up. The object itself needs no types: see `offsets`.
fn attach_points(types: &Btf) -> Option<AyaBtf> {
    const NAMES: &[&str] = &[
        "btf_trace_inet_sock_set_state",
        "btf_trace_tcp_destroy_sock",
        "btf_trace_tcp_receive_reset",
        "btf_trace_cgroup_mkdir",
        "btf_trace_cgroup_rmdir",
        "inet_csk_accept",
        "bpf_iter_bpf_sk_storage_map",
    ];
    AyaBtf::parse(&types.skeleton(NAMES), Endianness::default()).ok()
}

/// Before 5.11 eBPF maps count against RLIMIT_MEMLOCK; since then nothing depends on it. What this process may not
/// raise stays as it is, and a map that is refused for it says so.
pub(super) fn raise_memlock() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    if setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).is_err() {
        let maximum = getrlimit(Resource::Memlock).maximum;
        let _ = setrlimit(Resource::Memlock, Rlimit { current: maximum, maximum });
    }
}

fn hint(hook: Hook) -> String {
    format!("hook {hook}")
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, LoadError> {
    ebpf.take_map(name)
        .ok_or_else(|| LoadError::Maps { reason: format!("the object has no map {name}").into() })
}

fn assemble(mut ebpf: Ebpf, hook: Hook, taken: Taken, btf: Option<AyaBtf>) -> Result<Loaded, LoadError> {
    fn maps(source: impl Into<BoxError>) -> LoadError {
        LoadError::Maps { reason: source.into() }
    }
    fn map<T: TryFrom<Map>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, LoadError>
    where
        T::Error: Into<BoxError>,
    {
        take(ebpf, name)?.try_into().map_err(|source: T::Error| maps(source))
    }
    let control = match take(&mut ebpf, "CONTROL")? {
        Map::Array(data) => ControlPage::map(data),
        _ => Err(std::io::ErrorKind::InvalidData.into()),
    };
    let control =
        Arc::new(control.map_err(|source| LoadError::System { what: "mapping the control page", source })?);
    let events: RingBuf<MapData> = map(&mut ebpf, "EVENTS")?;
    let cgroups: RingBuf<MapData> = map(&mut ebpf, "CGROUP_EVENTS")?;
    let page = Arc::new(adopt::page(&mut ebpf)?);
    let rings = Rings::new(events, cgroups, Arc::clone(&control), Arc::clone(&page))
        .map_err(|source| LoadError::System { what: "watching the ring buffer", source })?;
    let rules = Rules {
        control,
        tables: map::<Array<_, _>>(&mut ebpf, "RULES")?,
        ports: map::<Array<_, _>>(&mut ebpf, "PORT_CLASSES")?,
        cgroups: map::<HashMap<_, _, _>>(&mut ebpf, "CGROUP_SETS")?,
        epoch: 0,
        netns: map::<HashMap<_, _, _>>(&mut ebpf, "NETNS_SETS")?,
        prefixes_v4: [
            map::<LpmTrie<_, _, _>>(&mut ebpf, "PREFIXES_V4_A")?,
            map::<LpmTrie<_, _, _>>(&mut ebpf, "PREFIXES_V4_B")?,
        ],
        prefixes_v6: [
            map::<LpmTrie<_, _, _>>(&mut ebpf, "PREFIXES_V6_A")?,
            map::<LpmTrie<_, _, _>>(&mut ebpf, "PREFIXES_V6_B")?,
        ],
        may_hold: [0; 2],
        some_wait: false,
        lapse_is_known: false,
    };
    let blocks: PerCpuArray<_, _> = map(&mut ebpf, "CPU")?;
    let by_traces: HashMap<_, _, _> = map(&mut ebpf, "RING_FULL_BY_TRACES")?;
    let shares = RingShares::new(map(&mut ebpf, "RING_SHARES")?);
    let fd =
        ebpf.program(taken.programs.first).ok_or_else(|| maps("the program is gone"))?.fd().map_err(maps)?;
    let counters = Counters::new(blocks, by_traces, fd.as_fd().as_raw_fd());
    Ok(Loaded {
        ebpf,
        hook,
        storage: taken.programs.storage,
        accept_owner: false,
        ends: taken.ends,
        resets: taken.resets,
        cgroup_events: false,
        open_sockets: Err("nothing is attached yet".to_owned()),
        ring_bytes: 0,
        found: 0,
        counters,
        shares,
        rings: Some(rings),
        rules,
        btf,
        programs: taken.programs,
        second: taken.second,
        accept_arguments: 0,
        layout: Err(NO_TYPES.to_owned()),
        cleared: 0,
        counts_records: false,
        offsets: Offsets::NONE,
        links: Vec::new(),
        page,
        pins: None,
    })
}

impl Loaded {
    /// Whether anything is attached.
    pub fn is_attached(&self) -> bool {
        !self.links.is_empty()
    }

    /// Whether the program can read which cgroup made a socket.
    pub const fn reads_cgroups(&self) -> bool {
        let Offsets { cgroup, cgroup_val, cgroup_kn, kernfs_id, .. } = self.offsets;
        (cgroup != ABSENT || cgroup_val != ABSENT) && cgroup_kn != ABSENT && kernfs_id != ABSENT
    }

    /// Whether the program can read in which cgroup v1 a task is that connects or listens.
    pub const fn reads_tasks(&self) -> bool {
        let Offsets { task_cgroups, task_state, state_cgroup, cgroup_kn, kernfs_id, .. } = self.offsets;
        task_cgroups != ABSENT
            && task_state != ABSENT
            && state_cgroup != ABSENT
            && cgroup_kn != ABSENT
            && kernfs_id != ABSENT
    }

    /// Whether the program can read a socket's network namespace.
    pub const fn reads_namespaces(&self) -> bool {
        self.offsets.net != ABSENT && self.offsets.net_inum != ABSENT
    }

    /// Socket records that exist: all, and those of closed sockets among them. `None` where it cannot be told.
    pub fn socket_records(&mut self) -> Option<(u64, u64)> {
        let listeners = hashes::LISTENERS.count(&mut self.ebpf).ok()?;
        let counters = self.counters.snapshot();
        let taken_over = counters.get(Counter::TakenOver);
        let (connections, closed) = match self.storage {
            Storage::SocketStorage => records::count_records(&mut self.ebpf).ok()?,
            Storage::Hash => {
                let made = counters.get(Counter::StorageCreated) + taken_over;
                (made.saturating_sub(counters.get(Counter::StorageDeleted) + self.cleared), 0)
            }
        };
        // What waits for a first transition is a record as well.
        Some((listeners + connections + self.found.saturating_sub(taken_over), closed))
    }
}
