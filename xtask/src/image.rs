//! The image of agent and operator, with no registry and no container tool: two static programs, FROM scratch.
//!
//! The archive goes into a node with `ctr -n k8s.io images import`, and the installer names the very reference it is
//! tagged with. The Dockerfile builds the same for those who have a registry.

pub(crate) mod archive;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::arch::Arch;
use crate::workspace::{AGENT_PACKAGE, OPERATOR_PACKAGE, Workspace};
use crate::{bpf, elf, reproducible, step};
use archive::Image;

/// The workspace's version, as a tag.
macro_rules! tag {
    () => {
        concat!("v", env!("CARGO_PKG_VERSION"))
    };
}

/// What the image is called, in its own archive and in the manifests. Nobody can own a name below `.invalid` (RFC 2606), and
/// so nobody can publish another image under it.
pub(crate) const REFERENCE: &str = concat!("kube-tcpstates.invalid/kube-tcpstates:", tag!());
/// Every node of a cluster pulls it.
const BYTES_AT_MOST: u64 = 40_000_000;
const LABELS: [(&str, &str); 4] = [
    ("org.opencontainers.image.title", AGENT_PACKAGE),
    (
        "org.opencontainers.image.description",
        "Every TCP state transition of a node, with the pod it belongs to",
    ),
    ("org.opencontainers.image.version", tag!()),
    ("org.opencontainers.image.licenses", "Apache-2.0 OR GPL-2.0-only"),
];

/// How the programs inside are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// What is shipped: optimised across crates, without symbols, slow to build.
    Dist,
    /// What the tests use: shares everything but the last link with `./x build`.
    Release,
}

impl Profile {
    /// Cargo for what is built so.
    pub(crate) fn cargo(self, workspace: &Workspace, subcommand: &str) -> Command {
        let mut cargo = workspace.cargo(subcommand);
        cargo.args(["--profile", self.name()]);
        if self == Self::Dist {
            cargo.env("CARGO_ENCODED_RUSTFLAGS", reproducible::flags(workspace));
        }
        cargo
    }

    /// As cargo knows it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dist => "dist",
            Self::Release => "release",
        }
    }

    /// For the tests the names of functions stay, for backtraces; line tables would be most of what a node imports.
    fn link_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Dist => &[],
            Self::Release => &["-C", "strip=debuginfo"],
        }
    }

    /// Each in a place of its own: a test's image must never be shipped by mistake.
    pub(crate) fn archive(self, target: &Path, arch: Arch) -> PathBuf {
        let place = match self {
            Self::Dist => "image",
            Self::Release => "image/release",
        };
        target.join(format!("{}.tar", of_arch(place, arch)))
    }
}

/// `./x image`, by its options.
pub(crate) fn run(workspace: &Workspace, options: &[&str]) -> Result<()> {
    let (mut profile, mut arch, mut is_twice) = (Profile::Dist, Arch::native(), false);
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match *option {
            "--fast" => profile = Profile::Release,
            "--arch" => arch = Arch::named(options.next().context("--arch: amd64 or arm64")?)?,
            "--twice" => is_twice = true,
            other => bail!("image {other}: there are --fast, --arch ARCHITECTURE and --twice"),
        }
    }
    ensure!(
        !is_twice || profile == Profile::Dist,
        "--twice is for what is shipped: symbols of the tests' image tell its directory"
    );
    if is_twice {
        reproducible::twice(workspace, profile, arch)
    } else {
        build(workspace, profile, arch).map(drop)
    }
}

/// A name, with the architecture where that is not this machine's.
fn of_arch(name: &str, arch: Arch) -> String {
    if arch.is_foreign() { format!("{name}-{}", arch.name()) } else { name.to_owned() }
}

/// Builds the programs and their image for this machine, and returns the archive's path.
pub(crate) fn agent(workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    build(workspace, profile, Arch::native())
}

/// The same for an architecture.
pub(crate) fn build(workspace: &Workspace, profile: Profile, arch: Arch) -> Result<PathBuf> {
    let object = bpf::build_for(workspace, arch)?;
    let mut image = Image::new(REFERENCE).architecture(arch.name()).entrypoint(&["/kube-tcpstates"]);
    for package in [AGENT_PACKAGE, OPERATOR_PACKAGE] {
        let program = static_program(workspace, package, profile, arch, &object)?;
        arch.try_program(&program)?;
        image = image.program(&program, &format!("/{package}"))?;
    }
    for (name, value) in LABELS {
        image = image.label(name, value);
    }
    let archive = profile.archive(&workspace.target, arch);
    image.write(&archive)?;
    let bytes = fs::metadata(&archive).with_context(|| format!("look at {}", archive.display()))?.len();
    ensure!(
        profile == Profile::Release || bytes < BYTES_AT_MOST,
        "{} has {bytes} bytes, and {BYTES_AT_MOST} are allowed",
        archive.display()
    );
    step::say(&format!("{} is {REFERENCE}, {} MB", archive.display(), bytes.div_ceil(1_000_000)));
    Ok(archive)
}

/// A program with libc inside. Only the last link differs from the usual one, so that no dependency is built twice.
fn static_program(
    workspace: &Workspace,
    package: &str,
    profile: Profile,
    arch: Arch,
    kernel_side: &Path,
) -> Result<PathBuf> {
    step::say(&format!("building {package} for the image, profile {}, {}", profile.name(), arch.name()));
    let mut cargo = profile.cargo(workspace, "rustc");
    cargo.args(["--package", package, "--bin", package]);
    let place = arch.set(&mut cargo)?;
    if arch.is_foreign() {
        cargo.env("KUBE_TCPSTATES_BPF_OBJECT", kernel_side);
    }
    step::run(
        step::quiet_unless_terminal(&mut cargo)
            .args(["--", "-C", "target-feature=+crt-static"])
            .args(profile.link_arguments()),
    )?;

    // The next `./x build` puts the dynamic program in the same place.
    let linked = workspace.target.join(place).join(profile.name()).join(package);
    let kept = workspace.target.join("image").join(of_arch(profile.name(), arch)).join(package);
    fs::create_dir_all(kept.parent().unwrap_or(&workspace.target))
        .context("make a directory for the programs")?;
    fs::copy(&linked, &kept).with_context(|| format!("copy {} to {}", linked.display(), kept.display()))?;
    let object = fs::read(&kept).with_context(|| format!("read {}", kept.display()))?;
    ensure!(
        !elf::is_dynamic(&object)?,
        "{} is linked dynamically: an empty root cannot run it",
        kept.display()
    );
    if profile == Profile::Dist {
        reproducible::check(workspace, &object).with_context(|| kept.display().to_string())?;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_dockerfile_gives_the_image_the_same_labels() {
        let dockerfile = fs::read_to_string(Workspace::find().unwrap().root.join("Dockerfile")).unwrap();
        let labels: Vec<_> = dockerfile.lines().filter_map(|line| line.strip_prefix("LABEL ")).collect();
        assert_eq!(labels, LABELS.map(|(name, value)| format!("{name}=\"{value}\"")));
        assert!(dockerfile.ends_with("USER 0:0\nENTRYPOINT [\"/kube-tcpstates\"]\n"), "{dockerfile}");
    }

    #[test]
    fn the_image_of_the_tests_has_a_place_of_its_own() {
        let place = |profile: Profile, arch| profile.archive(Path::new("target"), arch);
        assert_eq!(place(Profile::Dist, Arch::native()), Path::new("target/image.tar"));
        let all = [Profile::Dist, Profile::Release].map(|profile| Arch::ALL.map(|arch| place(profile, arch)));
        assert_eq!(all.as_flattened().iter().collect::<BTreeSet<_>>().len(), 4, "{all:?}");
    }
}
