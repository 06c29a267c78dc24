//! What is built for another architecture than this machine's: by Debian's cross compiler, with rustup's standard library.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::programs::{self, Program};
use crate::step;

/// An architecture that there is an image for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arch {
    /// Intel's and AMD's, 64 bits.
    Amd64,
    /// Arm's, 64 bits.
    Arm64,
}

/// What a machine of another architecture needs to build for arm64, and to try what it built.
pub(crate) const PROGRAMS: &[Program] = &[
    (&["/usr/bin/aarch64-linux-gnu-gcc"], "gcc-aarch64-linux-gnu"),
    (&["/usr/aarch64-linux-gnu/lib/libc.a"], "libc6-dev-arm64-cross"),
    QEMU,
];
const QEMU: Program = (&["/usr/bin/qemu-aarch64-static"], "qemu-user-static");

impl Arch {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// This machine's. On one that is neither, both are foreign.
    pub(crate) const fn native() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 }
    }

    /// By the name that images and Kubernetes have for it.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|arch| arch.name() == name);
        found.with_context(|| format!("--arch {name}: it is amd64 or arm64"))
    }

    /// That name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// As Rust calls it, and aya.
    pub(crate) const fn rust(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// For another machine than this one.
    pub(crate) fn is_foreign(self) -> bool {
        self.rust() != env::consts::ARCH
    }

    /// Has cargo build for it, once all that this takes is there. Returns where under the target directory the profiles are.
    pub(crate) fn set(self, cargo: &mut Command) -> Result<&'static str> {
        if !self.is_foreign() {
            return Ok("");
        }
        ensure!(
            self == Self::Arm64,
            "on this machine an image of arm64 can be built, and none of {}",
            self.name()
        );
        programs::are_there(PROGRAMS)?;
        need_standard_library()?;
        cargo.args(["--target", TARGET]).env(LINKER, "aarch64-linux-gnu-gcc");
        Ok(TARGET)
    }

    /// Whether a program starts: on another machine as far as an emulator of its processor tells.
    pub(crate) fn try_program(self, program: &Path) -> Result<()> {
        let mut command = if self.is_foreign() {
            let mut qemu = Command::new(QEMU.0[0]);
            qemu.arg(program);
            qemu
        } else {
            Command::new(program)
        };
        let told = step::output(command.arg("--version")).context("try what was built")?;
        ensure!(told.contains(env!("CARGO_PKG_VERSION")), "{} says it is {told:?}", program.display());
        Ok(())
    }
}

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER";

fn need_standard_library() -> Result<()> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let libraries = step::output(Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]))?;
    if Path::new(libraries.trim()).is_dir() {
        return Ok(());
    }
    step::say(&format!("installing the standard library for {TARGET} by rustup"));
    if let Err(error) = step::run(Command::new("rustup").args(["target", "add", TARGET])) {
        bail!("{error:#}: building for arm64 takes a rustc of rustup's; Debian's has no library for it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_architecture_has_one_name_for_each_who_asks() {
        assert_eq!(Arch::ALL.map(|arch| Arch::named(arch.name()).unwrap()), Arch::ALL);
        let error = Arch::named("aarch64").unwrap_err().to_string();
        assert_eq!(error, "--arch aarch64: it is amd64 or arm64");
    }

    #[test]
    fn for_this_machine_nothing_is_set() {
        let mut cargo = Command::new("cargo");
        assert_eq!(Arch::native().set(&mut cargo).unwrap(), "");
        assert_eq!(cargo.get_args().count() + cargo.get_envs().count(), 0);
    }
}
