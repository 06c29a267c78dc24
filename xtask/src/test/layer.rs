//! The layers: what each needs of the machine, and the `cargo test` runs it is made of.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::e2e;
use super::libtest::{self, Counts};
use crate::programs::{
    self, CHROMIUM, DIFF, IP, NFT, Program, RSYSLOG, RSYSLOG_ELASTICSEARCH, SS, TCPSTATES, UNSHARE, XZ,
};
use crate::workspace::{
    self, AGENT_PACKAGE, APIS_TESTS_PACKAGE, DEPLOY_TESTS_PACKAGE, E2E_TESTS_PACKAGE, KERNEL_TESTS_PACKAGE,
    PAGES_TESTS_PACKAGE, STORES_TESTS_PACKAGE, Workspace,
};
use crate::{agent, apis, bpf, deploy, kernels, step, victorialogs};

/// One layer of tests.
pub(crate) struct Layer {
    /// As it is asked for.
    pub name: &'static str,
    /// Said when it starts.
    pub what: &'static str,
    /// What it runs that is not built here.
    pub programs: &'static [&'static [Program]],
    /// Says why this machine cannot run it, or builds what it needs.
    prepare: fn(&Workspace) -> Result<()>,
    /// Runs all of it, or the tests whose name contains what is given, and adds up what ran.
    run: fn(&Workspace, Option<&str>, &mut Counts) -> Result<()>,
    /// It runs when no layer is named. The others take long, or need what few machines have.
    pub by_default: bool,
}

/// In the order they run: what is quick and says most comes first.
pub(crate) const LAYERS: &[Layer] = &[
    Layer {
        name: "unit",
        what: "the pure parts, in user space",
        programs: &[],
        // The agent's crate does not compile without the kernel side.
        prepare: |workspace| bpf::build(workspace).map(drop),
        run: |workspace, name, counts| cargo_runs(unit(workspace), &[], name, counts),
        by_default: true,
    },
    Layer {
        name: "kernel",
        what: "the agent on this machine's kernel",
        programs: &[PROGRAMS],
        prepare: |workspace| {
            can_trace()?;
            agent::build(workspace).map(drop)
        },
        // The tests share one kernel: each counts every transition there is.
        run: |workspace, name, counts| cargo_runs(kernel(workspace), &["--test-threads=1"], name, counts),
        by_default: true,
    },
    Layer {
        name: "e2e",
        what: "the agent on a Kubernetes of two nodes",
        programs: &[e2e::PROGRAMS],
        prepare: cluster,
        run: |workspace, name, counts| {
            // Whoever asks for a test by its name gets it, however long it takes and whatever it needs.
            let also: &[&str] = if name.is_some() { &["--include-ignored"] } else { &[] };
            name.map(|_| deploy::tools(workspace)).transpose()?;
            cargo_runs(vec![e2e::tests(workspace, cargo_test(workspace))], also, name, counts)
        },
        by_default: true,
    },
    Layer {
        name: "e2e-long",
        what: "the agent on a Kubernetes of two nodes, the tests that take a minute or more",
        programs: &[e2e::PROGRAMS, deploy::PROGRAMS],
        prepare: |workspace| {
            deploy::tools(workspace)?;
            cluster(workspace)
        },
        run: |workspace, name, counts| {
            cargo_runs(vec![e2e::tests(workspace, cargo_test(workspace))], &["--ignored"], name, counts)
        },
        by_default: false,
    },
    Layer {
        name: "fleet",
        what: "what hundreds of agents cost an API server",
        programs: &[e2e::PROGRAMS],
        prepare: |workspace| {
            cluster(workspace)?;
            e2e::prepare_fleet(workspace)
        },
        run: |workspace, name, counts| {
            cargo_runs(vec![e2e::fleet(workspace, cargo_test(workspace))], &[], name, counts)
        },
        by_default: false,
    },
    Layer {
        name: "kernels",
        what: "the agent on other kernels, emulated",
        programs: &[kernels::TOOLS, kernels::PROGRAMS],
        prepare: |_| Ok(()),
        run: kernels::run,
        by_default: false,
    },
    Layer {
        name: "pages",
        what: "the HTML pages in a browser",
        programs: &[&[CHROMIUM]],
        prepare: |_| Ok(()),
        run: |workspace, name, counts| {
            let mut tests = cargo_test(workspace);
            tests.args(["--package", PAGES_TESTS_PACKAGE]);
            cargo_runs(vec![tests], &[], name, counts)
        },
        by_default: false,
    },
    Layer {
        name: "deploy",
        what: "the chart, overlays, rules and dashboards, with the tools that read them",
        programs: &[deploy::PROGRAMS],
        prepare: |workspace| deploy::tools(workspace).map(drop),
        run: |workspace, name, counts| {
            let mut tests = cargo_test(workspace);
            tests.args(["--package", DEPLOY_TESTS_PACKAGE]);
            tests.env("KUBE_TCPSTATES_TOOLS", deploy::place(workspace));
            cargo_runs(vec![tests], &[], name, counts)
        },
        by_default: false,
    },
    Layer {
        name: "stores",
        what: "what a log store makes of the lines, by each way there",
        programs: &[PROGRAMS, &[RSYSLOG, RSYSLOG_ELASTICSEARCH, XZ]],
        prepare: |workspace| {
            can_trace()?;
            victorialogs::program(workspace)?;
            agent::build(workspace).map(drop)
        },
        run: stores,
        by_default: false,
    },
    Layer {
        name: "apis",
        what: "the definitions, the examples and the policy on an API server of today",
        programs: &[&[DIFF]],
        prepare: |_| Ok(()),
        run: |workspace, name, counts| {
            let mut tests = cargo_test(workspace);
            tests.args(["--package", APIS_TESTS_PACKAGE]);
            tests.env("KUBE_TCPSTATES_APIS", apis::home(workspace)?);
            cargo_runs(vec![tests], &[], name, counts)
        },
        by_default: false,
    },
];

impl Layer {
    /// Runs all of it, or the tests whose name contains `name`, and adds up what ran. Goes on after a failure.
    pub(crate) fn run(&self, workspace: &Workspace, name: Option<&str>, counts: &mut Counts) -> Result<()> {
        self.programs.iter().try_for_each(|programs| programs::are_there(programs))?;
        (self.prepare)(workspace)?;
        (self.run)(workspace, name, counts)
    }
}

/// What every layer with a Kubernetes needs.
fn cluster(workspace: &Workspace) -> Result<()> {
    is_root()?;
    e2e::prepare(workspace)
}

fn cargo_runs(
    runs: Vec<Command>,
    test_arguments: &[&str],
    name: Option<&str>,
    counts: &mut Counts,
) -> Result<()> {
    let mut outcome = Ok(());
    for mut cargo in runs {
        cargo.args(name).arg("--").args(test_arguments);
        outcome = outcome.and(libtest::run(&mut cargo, counts));
    }
    outcome
}

fn cargo_test(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo("test");
    cargo.arg("--no-fail-fast");
    cargo
}

fn unit(workspace: &Workspace) -> Vec<Command> {
    let mut libraries = cargo_test(workspace);
    libraries.args(workspace::user_space_but(&[
        AGENT_PACKAGE,
        KERNEL_TESTS_PACKAGE,
        E2E_TESTS_PACKAGE,
        PAGES_TESTS_PACKAGE,
        DEPLOY_TESTS_PACKAGE,
        STORES_TESTS_PACKAGE,
        APIS_TESTS_PACKAGE,
    ]));
    // Its test program brings up a cluster.
    let mut harness = cargo_test(workspace);
    harness.args(["--package", E2E_TESTS_PACKAGE, "--lib"]);
    // The agent's tests/ need root and run in the layer below.
    let mut agent = cargo_test(workspace);
    agent.args(["--package", AGENT_PACKAGE, "--lib", "--bins"]);
    let mut examples = cargo_test(workspace);
    examples.args(["--package", AGENT_PACKAGE, "--doc"]);
    vec![libraries, harness, agent, examples]
}

fn kernel(workspace: &Workspace) -> Vec<Command> {
    let mut tests = cargo_test(workspace);
    tests.args(["--package", KERNEL_TESTS_PACKAGE]);
    let mut runs = vec![tests];
    if has_rust_files(&workspace.root.join("node-agent/tests")) {
        let mut agent = cargo_test(workspace);
        agent.args(["--package", AGENT_PACKAGE, "--test", "*"]);
        runs.push(agent);
    }
    for cargo in &mut runs {
        cargo.env("KUBE_TCPSTATES_BIN", workspace.agent());
    }
    runs
}

/// They trace what the workload of the kernel's tests does.
fn stores(workspace: &Workspace, name: Option<&str>, counts: &mut Counts) -> Result<()> {
    let mut workload = workspace.cargo("build");
    workload.args(["--package", KERNEL_TESTS_PACKAGE, "--bin", "tcp-workload"]);
    step::run(step::quiet_unless_terminal(&mut workload))?;
    let mut tests = cargo_test(workspace);
    tests.args(["--package", STORES_TESTS_PACKAGE]);
    tests.env("KUBE_TCPSTATES_BIN", workspace.agent());
    tests.env("VICTORIA_LOGS_BIN", victorialogs::program(workspace)?);
    cargo_runs(vec![tests], &["--test-threads=1"], name, counts)
}

fn has_rust_files(directory: &Path) -> bool {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    files.into_iter().any(|file| file.path().extension().is_some_and(|extension| extension == "rs"))
}

/// What the tests against the kernel need; each that is missing has a reason of its own.
pub(super) fn can_trace() -> Result<()> {
    is_root()?;
    ensure!(
        Path::new("/sys/kernel/btf/vmlinux").exists(),
        "this kernel has no BTF: /sys/kernel/btf/vmlinux is missing"
    );
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    ensure!(mounts.lines().any(is_cgroup2), "no cgroup2 file system is mounted");
    Ok(())
}

fn is_root() -> Result<()> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    ensure!(
        effective_user(&status) == Some(0),
        "it needs root: programs, network namespaces and cgroups are made"
    );
    Ok(())
}

/// What the tests against the kernel run.
pub(super) const PROGRAMS: &[Program] = &[
    IP,
    UNSHARE,
    TCPSTATES,
    NFT,
    SS,
    (&["/usr/lib/systemd/systemd-journald", "/lib/systemd/systemd-journald"], "systemd"),
    (&["/usr/bin/setpriv"], "util-linux"),
];

fn effective_user(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?.parse().ok()
}

fn is_cgroup2(mount: &str) -> bool {
    mount.split(' ').nth(2) == Some("cgroup2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_user_is_the_second_number() {
        assert_eq!(effective_user("Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t0\t0\t0\t0\n"), Some(0));
        assert_eq!(effective_user("Name:\tx\n"), None);
    }

    #[test]
    fn cgroup_version_2_is_told_by_its_type() {
        assert!(is_cgroup2("cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nosuid 0 0"));
        assert!(!is_cgroup2("cgroup2 /sys/fs/cgroup/memory cgroup rw,memory 0 0"));
    }
}
