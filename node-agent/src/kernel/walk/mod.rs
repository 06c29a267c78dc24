//! The walk over the kernel's own tables, driven in slices: every TCP socket of every network namespace, and which
//! process holds which. It knows nothing of filters and records; whoever wants to know what is open builds on it.
//!
//! ```text
//!   tables   namespaces ─► their hash tables ─► which chains hold something
//!   sockets  chains ─► OpenSocket, each once
//!   closely  sockets ─► their figures
//!   holders  processes ─► their descriptors ─► socket -> Task
//! ```

mod closely;
mod holders;
mod layout;
mod shared;
mod sockets;
mod tables;

use aya::{
    Ebpf,
    maps::Map,
    programs::{RawTracePoint, RawTracePointRunOptions, TestRun as _},
};
use kube_tcpstates_common::walk::{Cursor, Walk, end};

use self::shared::Shared;
use super::{
    error::{BoxError, told},
    together::load_together,
};

pub(super) use layout::Layout;
pub(super) use sockets::Seen;

const PROGRAMS: [&str; 6] =
    ["walk_memory", "walk_namespaces", "walk_chains", "walk_closely", "walk_tasks", "walk_descriptors"];

/// How often a list is walked from its beginning again, because what a slice stood on was gone at the next.
const ATTEMPTS: u32 = 16;

/// A walker with its programs in the kernel; they go when it is dropped.
pub(super) struct Walker<'a> {
    ebpf: &'a mut Ebpf,
    layout: Layout,
    shared: Shared,
}

impl<'a> Walker<'a> {
    /// Loads the programs.
    pub(super) fn load(ebpf: &'a mut Ebpf, layout: Layout) -> Result<Self, BoxError> {
        let shared = match ebpf.map("WALK") {
            Some(Map::Array(map)) => Shared::map(std::os::fd::AsFd::as_fd(map.fd()))?,
            _ => return Err("the object has no WALK".into()),
        };
        let walker = Self { ebpf, layout, shared };
        let results = load_together(walker.ebpf, &PROGRAMS, |name, program| {
            let program: &mut RawTracePoint = program.try_into()?;
            program.load().map_err(|error| format!("{name}: {}", told(&error.into())).into())
        });
        results.into_iter().collect::<Result<(), _>>()?;
        Ok(walker)
    }

    /// Begins anew: the next program starts from here.
    fn begin(&mut self, prepare: impl FnOnce(&mut Walk)) {
        let walk = self.shared.get();
        walk.cursor = Cursor::default();
        prepare(walk);
    }

    /// Runs one slice. Returns why it ended.
    fn slice(&mut self, name: &str) -> Result<u32, BoxError> {
        let program: &RawTracePoint = self.ebpf.program(name).ok_or("not in the object")?.try_into()?;
        Ok(program.test_run(RawTracePointRunOptions::new())?.return_value)
    }

    /// Walks a list without an end from its beginning to its end, as often as it takes. `take` is asked after each slice
    /// to take what it has told, which may be told again.
    fn ring(&mut self, name: &str, mut take: impl FnMut(&mut Shared)) -> Result<(), BoxError> {
        for _ in 0..ATTEMPTS {
            self.begin(|_| {});
            loop {
                let ended = self.slice(name)?;
                take(&mut self.shared);
                match ended {
                    end::STEPS | end::FULL => {}
                    end::DONE => return Ok(()),
                    _ => break,
                }
            }
        }
        Err(format!("{name}: what it walks over changes too fast").into())
    }
}

impl Drop for Walker<'_> {
    fn drop(&mut self) {
        for name in PROGRAMS {
            if let Some(Ok(program)) =
                self.ebpf.program_mut(name).map(TryInto::<&mut RawTracePoint>::try_into)
            {
                // One that was refused is not loaded.
                let _ = program.unload();
            }
        }
    }
}
