//! What this kernel and this process can do, found out by looking and, where looking is not enough, by trying.
//!
//! An edge: it reads /proc and /sys. `kube-tcpstates check` prints it, the `start` line carries it.

mod system;

use std::path::Path;

use kube_tcpstates_events::{Check, Hook, Storage};

use crate::{
    cgroupfs::{ById, Hierarchy, Layout, Mount},
    kernel::{Capability, Loaded, effective_capabilities},
};

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// Whether it is as one would wish.
    pub ok: bool,
    /// Tracing does not work without it.
    pub required: bool,
    /// What was found, what it is for, and what to do when it is missing.
    pub detail: String,
}

/// Everything that can be found out without loading anything.
pub fn findings(hook: Option<Hook>) -> Vec<Finding> {
    let mut findings = vec![system::kernel(), system::btf(hook)];
    let effective = effective_capabilities();
    findings.extend(Capability::ALL.into_iter().map(|capability| Finding {
        name: capability.name,
        ok: capability.is_in(effective),
        required: capability.required,
        detail: format!("to {}", capability.purpose),
    }));
    let mount = Mount::find(None);
    findings.extend([
        system::tracefs(hook),
        cgroups(&mount),
        by_id(mount.ok().and_then(|mount| mount.cgroup2).as_deref()),
        system::lockdown(),
        system::memlock(),
        system::seccomp(),
        system::selinux(),
        system::journal(),
    ]);
    findings
}

fn cgroups(mount: &Result<Mount, crate::cgroupfs::MountError>) -> Finding {
    let (ok, detail) = match mount {
        Ok(Mount { layout, cgroup2, is_whole, tasks }) => {
            let at = cgroup2.as_ref().map_or_else(String::new, |path| format!(" at {}", path.display()));
            let (ok, layout) = match layout {
                Layout::Unified => (true, "v2"),
                Layout::Hybrid => (true, "hybrid, cgroup2"),
                Layout::Legacy => {
                    (false, "v1 only: sockets do not know their cgroup, that of their task stands in")
                }
            };
            let part = if *is_whole || cgroup2.is_none() {
                ""
            } else {
                "; only a part of the hierarchy is visible: mount the host's"
            };
            let told_by = match tasks {
                Some(Hierarchy { controller, mount: Some(at), .. }) => {
                    format!("; tasks by {controller} at {}", at.display())
                }
                Some(Hierarchy { controller, mount: None, .. }) => {
                    format!("; tasks by {controller}, not to be seen as a whole: mount the host's")
                }
                None => String::new(),
            };
            (ok && *is_whole, format!("{layout}{at}{part}{told_by}"))
        }
        Err(error) => (false, error.to_string()),
    };
    Finding { name: "cgroup", ok, required: false, detail }
}

/// Tried, not concluded from capabilities: a user namespace or seccomp may refuse all the same.
fn by_id(cgroup2: Option<&Path>) -> Finding {
    let tried = cgroup2.map(|path| ById::new(path).and_then(|by_id| by_id.probe()));
    let (ok, detail) = match tried {
        Some(Ok(())) => (true, "a cgroup is found by its id, whenever its event was missed".to_owned()),
        Some(Err(error)) => (false, error.to_string()),
        None => (false, "no cgroup2 is mounted".to_owned()),
    };
    Finding { name: "cgroup_by_id", ok, required: false, detail }
}

/// What turned out once the programs were loaded and attached.
pub fn attached(kernel: &Loaded) -> Vec<Finding> {
    let mut findings = loaded(kernel);
    findings.extend([
        found(
            "accept_owner",
            kernel.accept_owner,
            "fexit on inet_csk_accept gives accepted sockets the accepting task; else the listener's",
        ),
        found(
            "open_sockets",
            kernel.open_sockets.is_ok(),
            kernel
                .open_sockets
                .as_ref()
                .err()
                .map_or("sockets open before the start have role and owner", String::as_str),
        ),
    ]);
    findings
}

fn found(name: &'static str, ok: bool, detail: &str) -> Finding {
    Finding { name, ok, required: false, detail: detail.to_owned() }
}

/// What turned out once the programs were loaded.
pub fn loaded(kernel: &Loaded) -> Vec<Finding> {
    let mut findings = of_programs(kernel);
    if kernel.is_pinned() {
        findings.push(found("pinned", true, "tracing goes on while this process restarts"));
    }
    findings
}

fn of_programs(kernel: &Loaded) -> Vec<Finding> {
    let exact = kernel.hook.counts_exactly();
    vec![
        Finding {
            name: "hook",
            ok: true,
            required: true,
            detail: match kernel.hook.blind_spots() {
                Some(blind) => format!("{}: {blind}", kernel.hook),
                None => kernel.hook.to_string(),
            },
        },
        found("exact_loss", exact, "the kernel counts the hits on which it skipped the program"),
        found(
            "socket_storage",
            kernel.storage == Storage::SocketStorage,
            "records of connections live and die with their socket (from 5.11); else in a hash",
        ),
        found(
            "socket_ends",
            kernel.ends.is_ok(),
            kernel
                .ends
                .as_ref()
                .err()
                .map_or("a close that no program got is told at the socket's end", String::as_str),
        ),
        found(
            "cgroup_events",
            kernel.cgroup_events,
            "containers are named from their first moment; else by id or walk",
        ),
    ]
}

/// For the `start` line.
pub fn of_run(kernel: &Loaded) -> Vec<Check> {
    attached(kernel)
        .into_iter()
        .map(|finding| Check {
            name: finding.name.to_owned(),
            ok: finding.ok,
            detail: Some(short(&finding.detail)),
        })
        .collect()
}

/// The first line of a text: what a verifier has to say is long.
pub fn short(detail: &str) -> String {
    detail.lines().next().unwrap_or_default().chars().take(200).collect()
}
