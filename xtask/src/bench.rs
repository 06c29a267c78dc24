//! `./x bench`: builds what is measured, as it is shipped unless it must be quick, and the programs that measure it, and
//! runs them.

use std::process::Command;

use anyhow::Result;

use crate::image::Profile;
use crate::programs::{self, IP, Program, SS, STRIP, TCPSTATES, UNSHARE};
use crate::workspace::{AGENT_PACKAGE, BENCH_PACKAGE, Workspace};
use crate::{bpf, step};

/// What runs beside our own programs.
pub(crate) const PROGRAMS: &[Program] = &[
    IP,
    UNSHARE,
    TCPSTATES,
    STRIP,
    SS,
    (&["/usr/bin/bpftrace"], "bpftrace"),
    (&["/usr/bin/perf"], "linux-perf"),
    (&["/usr/bin/taskset"], "util-linux"),
];

/// Builds and measures. `options` are passed on.
pub(crate) fn run(workspace: &Workspace, profile: Profile, options: &[&str]) -> Result<()> {
    programs::are_there(PROGRAMS)?;
    bpf::build(workspace)?;
    let object = bpf::build_for_bench(workspace)?;
    step::say("building what is measured, and what measures it");
    let mut cargo = profile.cargo(workspace, "build");
    cargo.args(["--package", AGENT_PACKAGE, "--package", BENCH_PACKAGE, "--bins"]);
    step::run(step::quiet_unless_terminal(&mut cargo))?;
    let mut bench = Command::new(workspace.target.join(profile.name()).join("bench"));
    let fast = (profile == Profile::Release).then_some("--fast");
    let typed: Vec<_> = ["./x", "bench"].into_iter().chain(fast).chain(options.iter().copied()).collect();
    bench.args(["run", "--command", &typed.join(" "), "--object"]).arg(object).args(options);
    bench.current_dir(&workspace.root);
    step::run(&mut bench)
}
