//! The cluster's own subtree in every cgroup hierarchy of the machine.
//!
//! All of the cluster's processes are under it in cgroup2, containers included, so that one write ends them all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::place;
use crate::wait;

/// The layout these tests know: controllers of version 1, and cgroup2 beside them.
pub(super) fn require_hybrid() -> Result<()> {
    for part in ["memory", "cpuset", "unified/cgroup.procs"] {
        let path = Path::new(place::CGROUPS).join(part);
        ensure!(
            path.exists(),
            "the cgroup layout is not the hybrid one: {} is missing, and Kubernetes 1.20 is run with limits through \
             version 1",
            path.display()
        );
    }
    Ok(())
}

/// Makes the subtree, with a root for each node's pods and a place for the programs of the cluster itself.
pub(super) fn make(nodes: &[&str]) -> Result<()> {
    for hierarchy in hierarchies()? {
        let ours = hierarchy.join(place::NAME);
        for directory in
            [&ours, &ours.join("system")].into_iter().cloned().chain(nodes.iter().map(|node| ours.join(node)))
        {
            fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
            // A cpuset is born empty, and no process may enter an empty one.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let parent = directory.parent().context("a cgroup has a parent")?.join(file);
                if hierarchy.ends_with("cpuset") {
                    fs::copy(&parent, directory.join(file))
                        .with_context(|| format!("copy {}", parent.display()))?;
                }
            }
        }
    }
    Ok(())
}

/// The cgroup2 file that takes the ids of the cluster's own programs.
pub(super) fn system() -> PathBuf {
    place::cgroup().join("system/cgroup.procs")
}

/// Kills every process under the subtree and waits until none is left (Linux 5.14).
pub(super) fn kill_all() -> Result<()> {
    let ours = place::cgroup();
    if !ours.exists() {
        return Ok(());
    }
    fs::write(ours.join("cgroup.kill"), "1").context("kill the cluster's cgroup")?;
    wait::until("the cluster's processes are gone", Duration::from_secs(20), || {
        let events = fs::read_to_string(ours.join("cgroup.events")).context("read cgroup.events")?;
        Ok(if events.contains("populated 0") { Ok(()) } else { Err(events.replace('\n', ", ")) })
    })
}

/// Removes the subtree from every hierarchy.
pub(super) fn remove() -> Result<()> {
    for hierarchy in hierarchies()? {
        remove_tree(&hierarchy.join(place::NAME))?;
    }
    Ok(())
}

fn hierarchies() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(place::CGROUPS).with_context(|| format!("list {}", place::CGROUPS))?;
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("cgroup.procs").exists())
        .collect())
}

/// Leaves first, as the kernel wants it.
fn remove_tree(directory: &Path) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("list {}", directory.display()))?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    // Version 1 lets go of a killed process a moment later than version 2.
    for _ in 0..50 {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                thread::sleep(Duration::from_millis(20));
            }
            outcome => return outcome.with_context(|| format!("remove {}", directory.display())),
        }
    }
    fs::remove_dir(directory).with_context(|| format!("remove {}", directory.display()))
}
