//! The image of agent and operator, with no registry and no container tool: two static programs, FROM scratch.
//!
//! The archive goes into a node with `ctr -n k8s.io images import`, and the installer names the very reference it is
//! tagged with. The Dockerfile builds the same for those who have a registry.

pub(crate) mod archive;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::workspace::{AGENT_PACKAGE, OPERATOR_PACKAGE, Workspace};
use crate::{bpf, elf, step};
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
    pub(crate) fn archive(self, target: &Path) -> PathBuf {
        match self {
            Self::Dist => target.join("image.tar"),
            Self::Release => target.join("image/release.tar"),
        }
    }
}

/// Builds the programs and their image, and returns the archive's path.
pub(crate) fn agent(workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    bpf::build(workspace)?;
    let mut image = Image::new(REFERENCE).entrypoint(&["/kube-tcpstates"]);
    for package in [AGENT_PACKAGE, OPERATOR_PACKAGE] {
        image = image.program(&static_program(workspace, package, profile)?, &format!("/{package}"))?;
    }
    for (name, value) in LABELS {
        image = image.label(name, value);
    }
    let archive = profile.archive(&workspace.target);
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
fn static_program(workspace: &Workspace, package: &str, profile: Profile) -> Result<PathBuf> {
    step::say(&format!("building {package} for the image, profile {}", profile.name()));
    let mut cargo = workspace.cargo("rustc");
    cargo.args(["--profile", profile.name(), "--package", package, "--bin", package]);
    step::run(
        step::quiet_unless_terminal(&mut cargo)
            .args(["--", "-C", "target-feature=+crt-static"])
            .args(profile.link_arguments()),
    )?;

    // The next `./x build` puts the dynamic program in the same place.
    let linked = workspace.target.join(profile.name()).join(package);
    let kept = workspace.target.join("image").join(profile.name()).join(package);
    fs::create_dir_all(kept.parent().unwrap_or(&workspace.target))
        .context("make a directory for the programs")?;
    fs::copy(&linked, &kept).with_context(|| format!("copy {} to {}", linked.display(), kept.display()))?;
    let object = fs::read(&kept).with_context(|| format!("read {}", kept.display()))?;
    ensure!(
        !elf::is_dynamic(&object)?,
        "{} is linked dynamically: an empty root cannot run it",
        kept.display()
    );
    Ok(kept)
}

#[cfg(test)]
mod tests {
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
        let target = Path::new("target");
        assert_eq!(Profile::Dist.archive(target), Path::new("target/image.tar"));
        assert_ne!(Profile::Release.archive(target), Profile::Dist.archive(target));
    }
}
