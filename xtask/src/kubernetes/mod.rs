//! The Kubernetes that the e2e tests run on: made from Debian's packages and source packages, kept in the cache.
//!
//! Nothing is installed.

mod build;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::debian::Archive;
use crate::kept::Kept;
use crate::workspace::Workspace;

/// The release whose Kubernetes has a kubelet's whole source; later ones hold kubectl alone.
const RELEASE: &str = "bookworm";
/// Whatever decides what a build gives. A change to either file makes another directory.
const RECIPE: [&str; 2] = [include_str!("build.rs"), include_str!("../debian.rs")];

/// Ready-made programs: the package, the file in it, and the directory it goes to.
const READY_MADE: &[(&str, &str, &str)] = &[
    ("containerd", "usr/bin/containerd", "bin"),
    ("containerd", "usr/bin/containerd-shim-runc-v2", "bin"),
    ("containerd", "usr/bin/ctr", "bin"),
    ("runc", "usr/sbin/runc", "bin"),
    ("etcd-server", "usr/bin/etcd", "bin"),
    ("kubernetes-client", "usr/bin/kubectl", "bin"),
    ("containernetworking-plugins", "usr/lib/cni/bridge", "cni"),
    ("containernetworking-plugins", "usr/lib/cni/host-local", "cni"),
    ("containernetworking-plugins", "usr/lib/cni/loopback", "cni"),
];

/// Where it is, once it has been made.
pub(crate) fn place(workspace: &Workspace) -> PathBuf {
    kept().place(workspace)
}

/// The directory with `bin/` and `cni/`, made first if it is not there: some four minutes.
pub(crate) fn home(workspace: &Workspace) -> Result<PathBuf> {
    kept().home(workspace, make)
}

fn kept() -> Kept {
    Kept::new("kubernetes", "four minutes on two cores", (RECIPE, RELEASE, READY_MADE))
}

fn make(work: &Path, kept: &Path) -> Result<()> {
    for directory in ["bin", "cni"] {
        fs::create_dir_all(kept.join(directory)).with_context(|| format!("create {directory}"))?;
    }
    let archive = Archive::open(work, RELEASE)?;
    take_ready_made(&archive, kept)?;
    build::build(&archive, work, &kept.join("bin"))
}

fn take_ready_made(archive: &Archive, kept: &Path) -> Result<()> {
    let mut packages: Vec<_> = READY_MADE.iter().map(|(package, _, _)| *package).collect();
    packages.dedup();
    let unpacked = archive.unpack(&packages)?;
    for (package, file, directory) in READY_MADE {
        let from = unpacked.join(file);
        let to = kept.join(directory).join(from.file_name().context("a file has a name")?);
        fs::copy(&from, &to).with_context(|| format!("take {file} from the package {package}"))?;
    }
    Ok(())
}
