//! `./x miri`: the agent's own memory that programs in the kernel share with it, as Miri sees it.
//!
//! Miri runs neither system calls of BPF nor eBPF. What is left of `unsafe` are views of a mapped page, which tests put on
//! memory of no map.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::bpf;
use crate::step;
use crate::toolchain::clean;
use crate::workspace::Workspace;

/// Tests of modules that look at memory of a map.
const TESTS: [&str; 3] = ["kernel::control::", "kernel::pinned::page::", "kernel::counters::"];
/// Of any date: Miri comes with none of rustup's stable toolchains.
const TOOLCHAIN: &str = "nightly";

/// Runs them, by a nightly of rustup's that it installs.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    // The agent's crate does not compile without the kernel side.
    let kernel_side = bpf::build(workspace)?;
    install()?;
    let mut cargo = clean("rustup");
    cargo.args(["run", TOOLCHAIN, "cargo", "miri", "test", "--package", "kube-tcpstates", "--lib", "--"]);
    cargo.args(TESTS).current_dir(&workspace.root);
    cargo
        .env("KUBE_TCPSTATES_BPF_OBJECT", kernel_side)
        .env("CARGO_TARGET_DIR", workspace.target.join("miri"));
    step::say(&format!("running {} in Miri", TESTS.join(", ")));
    step::run(&mut cargo)
}

fn install() -> Result<()> {
    let mut miri = Command::new("rustup");
    if step::output(miri.args(["run", TOOLCHAIN, "cargo", "miri", "--version"])).is_ok() {
        return Ok(());
    }
    step::say(&format!("installing {TOOLCHAIN} with Miri by rustup"));
    let mut rustup = Command::new("rustup");
    rustup.args(["toolchain", "install", TOOLCHAIN, "--profile", "minimal", "--component", "miri,rust-src"]);
    step::run(&mut rustup).context("Miri needs a nightly of rustup's")
}
