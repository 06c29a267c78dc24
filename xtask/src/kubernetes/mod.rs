//! The Kubernetes that the e2e tests run on: made from Debian's packages and source packages, kept in the cache.
//!
//! Nothing is installed. A directory holds one complete set of programs and carries in its name what it was made
//! by; it is made beside its place and renamed into it, so that an interrupted build is never used.

mod build;

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::debian::Archive;
use crate::step;
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
    workspace.cache.join(name())
}

/// The directory with `bin/` and `cni/`, made first if it is not there: some four minutes.
pub(crate) fn home(workspace: &Workspace) -> Result<PathBuf> {
    let home = place(workspace);
    remove_others(&workspace.cache, &home);
    if home.is_dir() {
        return Ok(home);
    }
    step::say(
        "Kubernetes for the tests is not there yet: building it from Debian's source (four minutes on two cores)",
    );
    let start = Instant::now();
    let building = workspace.cache.join(format!("{}.building.{}", name(), std::process::id()));
    let outcome = make(&building, &home);
    // Go leaves its module and build caches read-only in places; nothing of a build is worth an error.
    drop(fs::remove_dir_all(&building));
    outcome.context("build Kubernetes for the tests")?;
    step::say(&format!("Kubernetes is in {} after {} s", home.display(), start.elapsed().as_secs()));
    Ok(home)
}

fn make(building: &Path, home: &Path) -> Result<()> {
    let (work, kept) = (building.join("work"), building.join("kept"));
    for directory in [&work, &kept.join("bin"), &kept.join("cni")] {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    }
    let archive = Archive::open(&work, RELEASE)?;
    take_ready_made(&archive, &kept)?;
    build::build(&archive, &work, &kept.join("bin"))?;
    match fs::rename(&kept, home) {
        // Another run was quicker: its directory is as good.
        Err(_) if home.is_dir() => Ok(()),
        outcome => outcome.with_context(|| format!("rename {} to {}", kept.display(), home.display())),
    }
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

fn name() -> String {
    let mut hasher = DefaultHasher::new();
    (RECIPE, RELEASE, READY_MADE).hash(&mut hasher);
    format!("kubernetes-{:016x}", hasher.finish())
}

/// Takes away what earlier recipes made and builds that were killed have left; each is hundreds of megabytes.
fn remove_others(cache: &Path, home: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let path = entry.path();
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str().filter(|name| name.starts_with("kubernetes-")) else { continue };
        if path != *home && !is_at_work(name) {
            drop(fs::remove_dir_all(path));
        }
    }
}

/// Whether a directory's name ends in the id of a process that still runs.
fn is_at_work(name: &str) -> bool {
    let process = name.rsplit_once(".building.").map(|(_, process)| process);
    process.is_some_and(|process| Path::new("/proc").join(process).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_goes_and_what_is_being_built_stays() {
        let cache = std::env::temp_dir().join(format!("xtask-kubernetes-{}", std::process::id()));
        let running = format!("kubernetes-3.building.{}", std::process::id());
        for name in
            ["kubernetes-1", "kubernetes-2", "kubernetes-2.building.0", running.as_str(), "bpf-linker"]
        {
            fs::create_dir_all(cache.join(name)).unwrap();
        }
        remove_others(&cache, &cache.join("kubernetes-1"));
        let mut left: Vec<_> = fs::read_dir(&cache)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        fs::remove_dir_all(&cache).unwrap();
        assert_eq!(left, ["bpf-linker", "kubernetes-1", &running]);
    }
}
