//! What the e2e layer is made of: a Kubernetes, three images, and the test program that puts them together.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::arch::Arch;
use crate::image::archive::Image;
use crate::image::{self, Profile};
use crate::programs::{IP, NFT, Program, UNSHARE, XZ};
use crate::workspace::{E2E_FLEET, E2E_TESTS_PACKAGE, E2E_WORKLOAD, Workspace};
use crate::{deploy, kubernetes, plugin, step};

/// What the harness runs and what Kubernetes is made with, apart from its own programs and compiler.
pub(super) const PROGRAMS: &[Program] = &[
    IP,
    UNSHARE,
    (&["/usr/bin/nsenter"], "util-linux"),
    (&["/usr/bin/openssl"], "openssl"),
    (&["/usr/bin/gzip", "/bin/gzip"], "gzip"),
    (&["/usr/bin/cc", "/usr/local/bin/cc"], "gcc"),
    XZ,
    NFT,
];

/// The names that the pods' specifications in the tests use.
const WORKLOAD_REFERENCE: &str = "localhost/e2e-workload:latest";
const PAUSE_REFERENCE: &str = "docker.io/library/pause:3.2";

/// Makes whatever the tests need.
pub(super) fn prepare(workspace: &Workspace) -> Result<()> {
    let kubernetes = kubernetes::home(workspace)?;
    Image::new(PAUSE_REFERENCE)
        .program(&kubernetes.join("bin/pause"), "/pause")?
        .entrypoint(&["/pause"])
        .write(&pause_archive(workspace))?;
    build_workload(workspace)?;
    plugin::build(workspace)?;
    image::agent(workspace, Profile::Release).map(drop)
}

/// And what stands for hundreds of agents.
pub(super) fn prepare_fleet(workspace: &Workspace) -> Result<()> {
    step::say("building agents by the hundred");
    let mut cargo = workspace.cargo("build");
    cargo.args(["--release", "--package", E2E_FLEET.0]);
    step::run(step::quiet_unless_terminal(&mut cargo))
}

/// The run of `cargo test`: the test program is told where everything is.
pub(super) fn tests(workspace: &Workspace, cargo: Command) -> Command {
    program(workspace, cargo, "e2e")
}

/// The same of the test with hundreds of agents.
pub(super) fn fleet(workspace: &Workspace, cargo: Command) -> Command {
    let mut cargo = program(workspace, cargo, "fleet");
    cargo.env("KUBE_TCPSTATES_FLEET", workspace.target.join("release").join(E2E_FLEET.1));
    cargo
}

/// Of one test program.
pub(super) fn program(workspace: &Workspace, mut cargo: Command, name: &str) -> Command {
    cargo.args(["--package", E2E_TESTS_PACKAGE, "--test", name]);
    cargo.env("KUBE_TCPSTATES_KUBERNETES", kubernetes::place(workspace));
    cargo.env("KUBE_TCPSTATES_PAUSE_IMAGE", pause_archive(workspace));
    cargo.env("KUBE_TCPSTATES_WORKLOAD_IMAGE", workload_archive(workspace));
    let image = Profile::Release.archive(&workspace.target, Arch::native());
    cargo.env("KUBE_TCPSTATES_AGENT_IMAGE", image);
    cargo.env("KUBE_TCPSTATES_PLUGIN", workspace.plugin());
    cargo.env("KUBE_TCPSTATES_TOOLS", deploy::place(workspace));
    cargo.env("KUBE_TCPSTATES_CHART", workspace.root.join("charts/kube-tcpstates"));
    cargo.env("KUBE_TCPSTATES_MANIFESTS", workspace.root.join("manifests"));
    cargo
}

/// Linked with libc inside, as an image without anything else needs it.
fn build_workload(workspace: &Workspace) -> Result<()> {
    let (package, program) = E2E_WORKLOAD;
    step::say("building the workload of the e2e tests");
    let mut cargo = workspace.cargo("rustc");
    cargo.args(["--release", "--package", package, "--bin", program]);
    let flags = ["--", "-C", "target-feature=+crt-static", "-C", "strip=symbols"];
    step::run(step::quiet_unless_terminal(&mut cargo).args(flags))?;
    Image::new(WORKLOAD_REFERENCE)
        .program(&workspace.target.join("release").join(program), "/e2e-workload")?
        .entrypoint(&["/e2e-workload"])
        .write(&workload_archive(workspace))
}

fn workload_archive(workspace: &Workspace) -> PathBuf {
    workspace.target.join("e2e-workload.tar")
}

fn pause_archive(workspace: &Workspace) -> PathBuf {
    workspace.target.join("pause.tar")
}
