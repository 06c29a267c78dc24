//! The kernel side: built, checked to be whole, and put where node-agent/build.rs finds it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::arch::Arch;
use crate::elf::{self, Section};
use crate::step;
use crate::toolchain::{self, Subcommand, TARGET, Toolchain};
use crate::workspace::{BENCH_EBPF_PACKAGE, EBPF_PACKAGE, Workspace};

/// What an object must hold, none of it empty: type information, which a linker of another LLVM leaves out without a
/// word, and a program for each hook.
const EXPECTED: &[&str] = &[
    ".BTF",
    ".BTF.ext",
    ".maps",
    "license",
    "tp_btf/inet_sock_set_state",
    "raw_tp/inet_sock_set_state",
    "tracepoint/sock/inet_sock_set_state",
    "kprobe/tcp_set_state",
    "fexit/inet_csk_accept",
    "tp_btf/cgroup_mkdir",
    "tp_btf/cgroup_rmdir",
    "raw_tp/walk",
    "iter/bpf_sk_storage_map",
];

/// The same of what the benchmarks compare with.
const EXPECTED_FOR_BENCH: &[&str] = &[".BTF", ".maps", "license", "tp_btf/inet_sock_set_state"];

/// Builds the object for this machine and returns its path: `bpf/kube-tcpstates.bpf.o` under the target directory.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    build_for(workspace, Arch::native())
}

/// Builds it for kernels of one architecture. The programs are the same but for the registers that kprobes read.
pub(crate) fn build_for(workspace: &Workspace, arch: Arch) -> Result<PathBuf> {
    step::say("building the kernel side");
    package(workspace, EBPF_PACKAGE, EXPECTED, "kube-tcpstates.bpf.o", arch)
}

/// Where the kernel side is built.
pub(crate) fn place(workspace: &Workspace, arch: Arch) -> PathBuf {
    let bpf = workspace.target.join("bpf");
    if arch.is_foreign() { bpf.join(arch.name()) } else { bpf }
}

/// Builds what the benchmarks compare with: `bpf/bench.bpf.o` under the target directory.
pub(crate) fn build_for_bench(workspace: &Workspace) -> Result<PathBuf> {
    package(workspace, BENCH_EBPF_PACKAGE, EXPECTED_FOR_BENCH, "bench.bpf.o", Arch::native())
}

fn package(
    workspace: &Workspace,
    package: &str,
    expected: &[&str],
    name: &str,
    arch: Arch,
) -> Result<PathBuf> {
    let toolchain = Toolchain::find()?;
    let linker = toolchain::linker(workspace)?;
    let mut cargo = toolchain.cargo(workspace, &linker, Subcommand::Build, arch);
    step::run(step::quiet_unless_terminal(cargo.args(["--package", package])))?;

    let directory = place(workspace, arch);
    let built = directory.join(TARGET).join("release").join(package);
    let stripped = built.with_extension("stripped");
    toolchain::strip_debug(&built, &stripped)?;
    let object = fs::read(&stripped).with_context(|| format!("read {}", stripped.display()))?;
    check(&object, expected).with_context(|| format!("{} is not whole", built.display()))?;
    let place = directory.join(name);
    put(&object, &place)?;
    Ok(place)
}

/// Lints the kernel side for its own target.
pub(crate) fn clippy(workspace: &Workspace) -> Result<()> {
    let toolchain = Toolchain::find()?;
    let linker = toolchain::linker(workspace)?;
    let mut cargo = toolchain.cargo(workspace, &linker, Subcommand::Clippy, Arch::native());
    cargo.args(["--package", EBPF_PACKAGE, "--package", BENCH_EBPF_PACKAGE]);
    step::run(step::quiet_unless_terminal(&mut cargo).args(["--", "-D", "warnings"]))
}

fn check(object: &[u8], expected: &[&str]) -> Result<()> {
    let sections = elf::sections(object)?;
    let missing = missing(&sections, expected);
    ensure!(missing.is_empty(), "missing or empty: {}", missing.join(", "));
    Ok(())
}

fn missing<'a>(sections: &[Section<'_>], expected: &[&'a str]) -> Vec<&'a str> {
    let holds = |name: &str| sections.iter().any(|section| section.name == name && section.size > 0);
    expected.iter().copied().filter(|name| !holds(name)).collect()
}

/// Renamed into place, and only when it differs: an unchanged file makes cargo build nothing.
fn put(object: &[u8], place: &Path) -> Result<()> {
    if fs::read(place).is_ok_and(|present| present == object) {
        return Ok(());
    }
    let beside = place.with_extension(format!("{}.new", std::process::id()));
    fs::write(&beside, object).with_context(|| format!("write {}", beside.display()))?;
    fs::rename(&beside, place).with_context(|| format!("rename {} to {}", beside.display(), place.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::object;

    #[test]
    fn an_object_with_all_its_sections_is_whole() {
        let sections: Vec<_> = EXPECTED.iter().map(|name| (*name, 8)).collect();
        check(&object(&sections), EXPECTED).unwrap();
    }

    #[test]
    fn each_missing_or_empty_section_is_named() {
        let error = check(&object(&[(".BTF", 0), ("license", 4)]), EXPECTED).unwrap_err().to_string();
        assert!(error.contains(".BTF, .BTF.ext"), "{error}");
        assert!(!error.contains("license"), "{error}");
    }
}
