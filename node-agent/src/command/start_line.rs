//! The first line of a run, of `trace` and `agent` alike.

use kube_tcpstates_events::{CgroupMode, CgroupSetup, K8s, Kernel, Line, Ring, SchemaId, Start};

use crate::{
    cgroupfs::Layout,
    kernel::{self, Clock, Loaded, boot_ns},
    outlet::RunId,
    pipeline::StartLine,
    preflight,
    render::time::rfc3339,
};

/// What the line says beside what the loaded programs tell.
pub(super) struct StartFacts {
    pub(super) run: RunId,
    /// The arguments, for a reader.
    pub(super) command_line: String,
    /// What is asked for in words.
    pub(super) filters: Option<String>,
    pub(super) ring_bytes: u32,
    /// How cgroups are mounted, where they are.
    pub(super) layout: Option<Layout>,
    pub(super) k8s: Option<K8s>,
}

/// Writes the line, with a header above it where the format has one.
pub(super) fn start_line(facts: StartFacts) -> StartLine {
    Box::new(move |kernel, queue, serialiser| {
        // Nothing but diagnostics is in the queue yet, so there is room.
        let _ = queue.control(|out, seq| {
            serialiser.header(out);
            serialiser.line(out, &Line::Start(Box::new(of(&facts, kernel, seq))));
        });
    })
}

fn of(facts: &StartFacts, kernel: &Loaded, seq: u64) -> Start {
    Start {
        time: rfc3339(Clock::new().unix_ns(boot_ns())),
        schema: SchemaId::V1,
        run: facts.run.to_string(),
        seq,
        version: crate::VERSION.to_owned(),
        k8s: facts.k8s.clone().map(Box::new),
        kernel: Kernel { release: kernel::kernel_release() },
        hook: kernel.hook,
        cgroup: CgroupSetup { mode: cgroup_mode(facts.layout) },
        ring: Ring { bytes: facts.ring_bytes.into() },
        storage: kernel.storage,
        options: Some(facts.command_line.clone()),
        filters: facts.filters.clone(),
        preflight: preflight::of_run(kernel),
    }
}

/// How cgroups are mounted, as lines say it.
pub(super) const fn cgroup_mode(layout: Option<Layout>) -> CgroupMode {
    match layout {
        Some(Layout::Unified) => CgroupMode::V2,
        Some(Layout::Hybrid) => CgroupMode::Hybrid,
        Some(Layout::Legacy) => CgroupMode::V1,
        None => CgroupMode::None,
    }
}
