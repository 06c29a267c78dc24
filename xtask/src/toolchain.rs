//! The toolchain of the kernel side: rustc, its core library for bpfel, and the bpf-linker of the same LLVM.
//!
//! Two are known. Debian's packages bring core for bpfel ready-made. Elsewhere a dated nightly builds core from
//! its own source. Either way rustc and bpf-linker must be of one LLVM: another one reads the bitcode well
//! enough to link it and drops the type information, so the major version is checked.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::arch::Arch;
use crate::tool::Tool;
use crate::workspace::Workspace;
use crate::{bpf, reproducible, step};

/// The target that 64-bit little-endian kernels take.
pub(crate) const TARGET: &str = "bpfel-unknown-none";
/// bpf-linker, LLVM and nightly belong together; raise them together.
const BPF_LINKER: &str = "0.13.0";
const LLVM: u32 = 22;
/// rustc 1.97 with LLVM 22. Not tested: the machines of this project cannot fetch rust-src for it.
const NIGHTLY: &str = "nightly-2026-05-19";
const OVERRIDE: &str = "KUBE_TCPSTATES_BPF_TOOLCHAIN";

/// Which rustc builds the kernel side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// `rustc-web`, `cargo-web` and `libstd-rust-web-dev-bpf`, under /usr.
    Debian,
    /// rustup's nightly of a fixed date, with rust-src.
    Nightly,
}

impl Toolchain {
    /// The one that is asked for, else the one that is there; it is complete when this returns.
    pub(crate) fn find() -> Result<Self> {
        let asked = env::var(OVERRIDE).unwrap_or_default();
        let toolchain = match asked.as_str() {
            "debian" => Self::Debian,
            "" if Self::Debian.has_core() => Self::Debian,
            "" | "nightly" => Self::Nightly,
            other => bail!("{OVERRIDE}={other}: it is `debian` or `nightly`"),
        };
        match toolchain {
            Self::Debian => ensure!(
                toolchain.has_core(),
                "no core library for {TARGET} under /usr/lib/rustlib: install libstd-rust-web-dev-bpf"
            ),
            Self::Nightly if !toolchain.has_core() => install_nightly()?,
            Self::Nightly => {}
        }
        let version = step::output(toolchain.rustc().arg("-vV"))?;
        let llvm = llvm_major(&version).context("rustc -vV names no LLVM version")?;
        ensure!(
            llvm == LLVM,
            "the kernel side's rustc is of LLVM {llvm}, and bpf-linker is pinned to LLVM {LLVM}: raise BPF_LINKER and \
             LLVM in xtask/src/toolchain.rs and llvm in ./x together"
        );
        Ok(toolchain)
    }

    fn has_core(self) -> bool {
        match self {
            Self::Debian => {
                Path::new("/usr/bin/rustc").exists()
                    && Path::new("/usr/bin/cargo").exists()
                    && Path::new("/usr/lib/rustlib").join(TARGET).join("lib").is_dir()
            }
            Self::Nightly => step::output(self.rustc().args(["--print", "sysroot"])).is_ok_and(|sysroot| {
                Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml").exists()
            }),
        }
    }

    fn rustc(self) -> Command {
        match self {
            Self::Debian => clean("/usr/bin/rustc"),
            Self::Nightly => rustup_run("rustc"),
        }
    }

    /// Cargo for the kernel side, in an environment that carries nothing over from the build around it.
    pub(crate) fn cargo(
        self,
        workspace: &Workspace,
        linker: &Path,
        subcommand: Subcommand,
        arch: Arch,
    ) -> Command {
        let mut cargo = match (self, subcommand) {
            (Self::Debian, Subcommand::Build) => clean("/usr/bin/cargo"),
            (Self::Debian, Subcommand::Clippy) => clean("/usr/bin/cargo-clippy"),
            (Self::Nightly, _) => rustup_run("cargo"),
        };
        if self == Self::Debian {
            // RUSTC_BOOTSTRAP: aya-ebpf and the target need unstable features of this stable compiler.
            cargo.envs([("RUSTC", "/usr/bin/rustc"), ("RUSTC_BOOTSTRAP", "1"), ("CARGO", "/usr/bin/cargo")]);
        }
        cargo.arg(match subcommand {
            Subcommand::Build => "build",
            Subcommand::Clippy => "clippy",
        });
        if self == Self::Nightly {
            cargo.args(["-Z", "build-std=core"]);
        }
        if env::var_os("CI").is_some() {
            cargo.arg("--locked");
        }
        cargo.args(["--release", "--target", TARGET, "--target-dir"]).arg(bpf::place(workspace, arch));
        // An empty wrapper overrules one from a configuration file.
        cargo.envs([
            ("RUSTC_WRAPPER", ""),
            ("RUSTC_WORKSPACE_WRAPPER", ""),
            ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
        ]);
        cargo.env("CARGO_ENCODED_RUSTFLAGS", rustflags(linker, arch, &reproducible::remapped(workspace)));
        cargo.current_dir(&workspace.root);
        cargo
    }
}

/// bpf-linker, linked with the LLVM that rustc has.
pub(crate) fn linker(workspace: &Workspace) -> Result<PathBuf> {
    let mut environment = Vec::new();
    if env::var_os("LLVM_PREFIX").is_none()
        && let Some(prefix) = llvm_prefix()
    {
        environment.push(("LLVM_PREFIX", prefix));
    }
    let tool = Tool {
        name: "bpf-linker",
        version: BPF_LINKER,
        variant: format!("llvm{LLVM}"),
        arguments: ["--no-default-features".to_owned(), format!("--features=llvm-{LLVM}")].into(),
        environment,
        expect: "a minute or two",
    };
    tool.path(workspace)
        .with_context(|| format!("bpf-linker needs LLVM {LLVM} with its headers: llvm-{LLVM}-dev"))
}

/// Debian's packages and apt.llvm.org, then Fedora's.
fn llvm_prefix() -> Option<String> {
    let places = [format!("/usr/lib/llvm-{LLVM}"), format!("/usr/lib64/llvm{LLVM}")];
    places.into_iter().find(|place| Path::new(place).is_dir())
}

/// Takes from an object what only debuggers read. The kernel's types and line numbers (`.BTF`, `.BTF.ext`) stay.
pub(crate) fn strip_debug(object: &Path, to: &Path) -> Result<()> {
    // A user's own LLVM_PREFIX goes before the usual places.
    let prefix = env::var("LLVM_PREFIX").ok().or_else(llvm_prefix);
    let tool =
        prefix.map_or_else(|| "llvm-objcopy".to_owned(), |prefix| format!("{prefix}/bin/llvm-objcopy"));
    step::run(Command::new(tool).arg("--strip-debug").arg(object).arg(to))
}

/// What cargo is asked to do with the kernel side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subcommand {
    /// Build the object.
    Build,
    /// Lint its source.
    Clippy,
}

fn install_nightly() -> Result<()> {
    step::say(&format!("installing {NIGHTLY} with rust-src by rustup"));
    let mut rustup = Command::new("rustup");
    rustup.args(["toolchain", "install", NIGHTLY, "--profile", "minimal", "--component", "rust-src,clippy"]);
    step::run(&mut rustup)
        .context("the kernel side needs Debian 12's Rust packages, or rustup with this nightly")
}

fn rustup_run(program: &str) -> Command {
    let mut rustup = clean("rustup");
    rustup.args(["run", NIGHTLY, program]);
    rustup
}

/// A command without the variables that a cargo around this process, or a user, set for user space.
pub(crate) fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_of_another_build) {
            command.env_remove(name);
        }
    }
    command
}

/// Variables that choose a compiler, its flags or a profile. Those that say how to reach a registry stay.
fn is_of_another_build(name: &str) -> bool {
    const KEPT: [&str; 5] =
        ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRY_", "CARGO_REGISTRIES_"];
    let ours = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN"];
    ours.iter().any(|prefix| name.starts_with(prefix)) && !KEPT.iter().any(|prefix| name.starts_with(prefix))
}

/// Without debug information and `--btf` the build succeeds with an object that has no type information. What is said of
/// lines there names files.
fn rustflags(linker: &Path, arch: Arch, remapped: &[OsString]) -> OsString {
    // The architecture whose registers a program sees.
    let mut flags = OsString::from(format!("--cfg=bpf_target_arch=\"{}\"", arch.rust()));
    let always = ["-Cdebuginfo=2", "-Clink-arg=--btf"].map(OsString::from);
    for flag in always.iter().chain(remapped) {
        flags.push("\u{1f}");
        flags.push(flag);
    }
    flags.push("\u{1f}-Clinker=");
    flags.push(linker);
    flags
}

/// The major version in the line `LLVM version: 22.1.8` of `rustc -vV`.
fn llvm_major(version: &str) -> Option<u32> {
    let full = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    full.split('.').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_is_read_from_rustc() {
        assert_eq!(llvm_major("rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22.1.8\n"), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0\n"), None);
    }

    #[test]
    fn nothing_of_the_build_around_reaches_the_kernel_side() {
        for name in
            ["RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "RUSTFLAGS", "CARGO", "CARGO_ENCODED_RUSTFLAGS", "RUSTC"]
        {
            assert!(is_of_another_build(name), "{name}");
        }
        assert!(is_of_another_build("CARGO_TARGET_DIR") && is_of_another_build("CARGO_PROFILE_RELEASE_LTO"));
    }

    #[test]
    fn how_to_reach_a_registry_stays() {
        for name in ["CARGO_HOME", "CARGO_HTTP_CAINFO", "CARGO_NET_OFFLINE", "RUSTUP_HOME", "PATH", "HOME"] {
            assert!(!is_of_another_build(name), "{name}");
        }
    }

    #[test]
    fn the_flags_that_keep_type_information_are_always_there() {
        let remapped = [OsString::from("--remap-path-prefix=/home/somebody=/x")];
        let flags = rustflags(Path::new("/cache/bpf-linker"), Arch::Arm64, &remapped).into_string().unwrap();
        let flags: Vec<_> = flags.split('\u{1f}').collect();
        assert!(flags.contains(&"-Cdebuginfo=2") && flags.contains(&"-Clink-arg=--btf"), "{flags:?}");
        for flag in [
            "-Clinker=/cache/bpf-linker",
            "--cfg=bpf_target_arch=\"aarch64\"",
            "--remap-path-prefix=/home/somebody=/x",
        ] {
            assert!(flags.contains(&flag), "{flags:?}");
        }
    }
}
