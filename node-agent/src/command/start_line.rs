//! The first line of a run, of `trace` and `agent` alike.

use kube_tcpstates_events::{
    CgroupMode, CgroupSetup, K8s, Kernel, Line, Ring, RunBefore, SchemaId, Start, StartAttributes,
};

use crate::{
    cgroupfs::Layout,
    kernel::{self, Clock, Continues, Loaded, boot_ns},
    outlet::RunId,
    pipeline::{StartLine, Whereabouts},
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
    pub(super) whereabouts: Whereabouts,
    /// The run whose tracing this one has taken over.
    pub(super) continues: Option<Continues>,
}

/// Makes the line.
pub(super) fn start_line(facts: StartFacts) -> StartLine {
    Box::new(move |kernel| Line::Start(Box::new(of(&facts, kernel))))
}

fn of(facts: &StartFacts, kernel: &Loaded) -> Start {
    let Whereabouts { cluster, node, pod: _ } = facts.whereabouts.clone();
    let tcpstates = StartAttributes {
        schema: SchemaId::V1,
        run: facts.run.to_string(),
        // The outlet numbers it.
        seq: 0,
        continues: facts
            .continues
            .as_ref()
            .map(|before| RunBefore { run: before.run.clone(), seq: before.seq }),
        version: crate::VERSION.to_owned(),
        kernel: Kernel { release: kernel::kernel_release() },
        hook: kernel.hook,
        cgroup: CgroupSetup { mode: cgroup_mode(facts.layout) },
        ring: Ring { bytes: facts.ring_bytes.into() },
        storage: kernel.storage,
        options: Some(facts.command_line.clone()),
        filters: facts.filters.clone(),
        preflight: preflight::of_run(kernel),
    };
    let time = rfc3339(Clock::new().unix_ns(boot_ns()));
    Start { time, tcpstates, k8s: K8s::at(cluster, node).map(Box::new) }
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
