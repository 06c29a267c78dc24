//! Where the load runs: CPU, cgroup, network namespaces.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use kube_tcpstates_kernel_tests::workload::enter::NETNS_FOLDER;
use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_setaffinity};

use super::Options;

/// Enters cgroup and CPU, before any thread starts; and the clients' network namespace.
pub(super) fn enter(options: &Options) -> Result<()> {
    if let Some(folder) = &options.cgroup {
        let file = folder.join("cgroup.procs");
        fs::write(&file, std::process::id().to_string())
            .with_context(|| format!("write {}", file.display()))?;
    }
    if let Some(cpu) = options.cpu {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set).with_context(|| format!("run on CPU {cpu}"))?;
    }
    if let Some(name) = &options.client_netns {
        move_to(name)?;
    }
    Ok(())
}

/// Does something in the servers' network namespace. A socket stays in the one it was made in.
pub(super) fn in_server_netns<T>(options: &Options, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(name) = &options.server_netns else { return act() };
    let here = File::open("/proc/thread-self/ns/net").context("open the network namespace of this thread")?;
    move_to(name)?;
    let outcome = act();
    move_into_link_name_space(here.as_fd(), Some(LinkNameSpaceType::Network))
        .context("return to the clients' network namespace")?;
    outcome
}

fn move_to(name: &str) -> Result<()> {
    let path = Path::new(NETNS_FOLDER).join(name);
    let namespace = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("enter the network namespace {name}"))
}
