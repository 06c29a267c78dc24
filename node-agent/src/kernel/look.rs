//! What is open now, for whoever asks, without tracing: programs and maps of its own, of which nothing is attached.

use std::{collections::HashMap, path::Path};

use aya::{Ebpf, EbpfLoader};
use kube_tcpstates_common::{state::State, walk::OpenSocket};
use kube_tcpstates_events::Hook;

use super::{
    btf::Btf,
    clock::{boot_ns, jiffy_ns},
    error::{BoxError, LoadError, told},
    heap,
    load::{BTF, TaskHierarchy, raise_memlock},
    object, offsets,
    pod::Plain,
    walk::{Layout, Walker},
};
use crate::open::Sight;

/// No transition is ever written there; as small as the kernel allows on every page size.
const RING_BYTES: u32 = 64 << 10;

/// Looks at what is open, as often as it is asked.
pub struct Looker {
    ebpf: Ebpf,
    layout: Layout,
}

impl Looker {
    /// Finds out how this kernel keeps its sockets.
    pub fn load(tasks: Option<TaskHierarchy>) -> Result<Self, LoadError> {
        raise_memlock();
        let fail = |reason: BoxError| LoadError::Walk { reason };
        let types = Btf::read(Path::new(BTF)).map_err(|source| fail(source.into()))?;
        let controller = tasks.map(|tasks| tasks.controller);
        let offsets = offsets::resolve(&types, controller).map_err(|missing| fail(missing.into()))?;
        let layout = Layout::resolve(&types).map_err(|missing| fail(missing.into()))?;
        drop(types);
        let mut loader = EbpfLoader::new();
        let ebpf = loader
            .btf(None)
            .allow_unsupported_maps()
            .override_global("OFFSETS", &Plain(offsets), true)
            .override_global("WALK_OFFSETS", &Plain(layout.offsets), true)
            .map_max_entries("EVENTS", RING_BYTES)
            .map_max_entries("CGROUP_EVENTS", RING_BYTES)
            .map_max_entries("FOUND", 1)
            // Nothing is attached, so no hash needs to allocate ahead.
            .load(bytemuck::cast_slice(&object::for_hook(Hook::TpBtf)))
            .map_err(|source| LoadError::Maps { reason: source.into() })?;
        heap::give_back();
        Ok(Self { ebpf, layout })
    }

    /// Looks around once, closely at what `wanted` says.
    pub fn look(&mut self, wanted: impl Fn(&OpenSocket) -> bool) -> Result<Sight, LoadError> {
        let layout = self.layout;
        look(&mut self.ebpf, layout, wanted).map_err(|reason| LoadError::Walk { reason })
    }
}

fn look(ebpf: &mut Ebpf, layout: Layout, wanted: impl Fn(&OpenSocket) -> bool) -> Result<Sight, BoxError> {
    let boot_ns = boot_ns();
    let mut walker = Walker::load(ebpf, layout)?;
    let found = walker.sockets_and_passing()?;
    let sockets: Vec<OpenSocket> = found.by_address.into_values().map(|seen| seen.socket).collect();
    let is_whole =
        |socket: &&OpenSocket| !matches!(State(socket.state), State::TIME_WAIT | State::NEW_SYN_RECV);
    let asked: Vec<OpenSocket> =
        sockets.iter().filter(is_whole).filter(|socket| wanted(socket)).copied().collect();
    let figures = walker.closely(&asked)?;
    let holders = walker.holders().unwrap_or_else(|error| {
        tracing::warn!("which process holds which socket is not known: {}", told(&error));
        HashMap::new()
    });
    Ok(Sight {
        sockets,
        looks: figures.looks,
        holders,
        offsets: layout.offsets,
        jiffy_ns: jiffy_ns(),
        boot_ns,
        given_up: found.given_up,
    })
}
