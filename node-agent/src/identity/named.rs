//! Runtimes whose containers have names, or ids of another form than 64 hex digits.

use super::model::Runtime;
use super::path::is_unit;
use super::segment::{has_groups, is_hex, is_uuid, unescape};

/// What one component names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) id: String,
    pub(super) runtime: Option<Runtime>,
    /// What it may be called as well.
    pub(super) or: Option<String>,
}

impl Named {
    /// Nobody is called nothing.
    fn new(id: &str, runtime: impl Into<Option<Runtime>>) -> Option<Self> {
        (!id.is_empty()).then(|| Self { id: id.to_owned(), runtime: runtime.into(), or: None })
    }
}

/// `above` stands from the root on, `below` is the next component towards the leaf.
pub(super) fn read(name: &str, above: &[&str], below: Option<&str>) -> Option<Named> {
    if let Some(id) = name.strip_prefix("lxc.payload.") {
        return lxc(id);
    }
    directory(name, above).or_else(|| match name.rsplit_once('.')? {
        (unit, "service") => service(unit, above, below),
        (unit, "scope") => scope(unit, above, below),
        _ => None,
    })
}

/// Below directories of a runtime's own.
fn directory(name: &str, above: &[&str]) -> Option<Named> {
    match above {
        [.., "lxc" | "lxc.payload"] => lxc(name),
        [.., "garden"] | [.., "garden", "good" | "bad"] if is_garden_handle(name) => {
            Named::new(name, Runtime::Garden)
        }
        [.., "docker", "buildkit"] if is_buildkit_id(name) => Named::new(name, Runtime::Docker),
        [.., "buildkit"] if is_buildkit_id(name) => Named::new(name, None),
        // `/<namespace of containerd>/<id>`: `ctr` writes there, with an id of the caller's choice.
        ["default"] if !is_unit(name) => Named::new(name, Runtime::Containerd),
        ["apptainer"] if is_number(name) => Named::new(name, Runtime::Apptainer),
        ["singularity"] if is_number(name) => Named::new(name, Runtime::Singularity),
        ["nomad"] | ["nomad", "share" | "reserve"] if is_nomad_task(name) => Named::new(name, None),
        // Fargate: `/ecs/<task>-<number>`, also with the cluster or the task in between.
        [.., "ecs"] | [.., "ecs", _] | [.., "ecs", _, _] if is_fargate_id(name) => Named::new(name, None),
        _ => None,
    }
}

/// LXC appends a number to the name of a cgroup that is there already, up to `-999`. A container may be called so itself.
fn lxc(name: &str) -> Option<Named> {
    let is_retry = |number: &str| number.len() <= 3 && !number.starts_with('0') && is_number(number);
    match name.rsplit_once('-').filter(|(container, number)| !container.is_empty() && is_retry(number)) {
        Some((container, _)) => {
            let or = Some(name.to_owned());
            Named::new(container, Runtime::Lxc).map(|named| Named { or, ..named })
        }
        None => Named::new(name, Runtime::Lxc),
    }
}

/// `unit` is a service, without its suffix: of nspawn, or one of somebody's own in which nspawn keeps its container.
fn service(unit: &str, above: &[&str], below: Option<&str>) -> Option<Named> {
    // Such a unit holds the container in `payload` and the host's own process in `supervisor`.
    if below == Some("supervisor") {
        return None;
    }
    let machine = match unit.split_once('@') {
        Some(("systemd-nspawn", machine)) => machine,
        _ if above.last() != Some(&"machine.slice") => return None,
        // Templates there are also those of virtual machines (`systemd-vmspawn@`).
        Some((_, machine)) if below == Some("payload") => machine,
        Some(_) => return None,
        None => unit,
    };
    Named::new(&unescape(machine), Runtime::Nspawn)
}

/// `unit` is a scope, without its suffix.
fn scope(unit: &str, above: &[&str], below: Option<&str>) -> Option<Named> {
    if let Some(machine) = unit.strip_prefix("machine-") {
        let machine = unescape(machine);
        return match below {
            _ if machine.starts_with("lxc-") => Named::new(&machine, Runtime::Lxc),
            // Below cgroup v1 the container's own systemd begins right there.
            Some("payload" | "init.scope" | "system.slice" | "user.slice") => {
                Named::new(&machine, Runtime::Nspawn)
            }
            // A virtual machine: its process is the host's.
            _ => None,
        };
    }
    match above {
        // Tasks of the driver for containerd. Other drivers have theirs one slice deeper, and do not tell.
        [.., "nomad.slice"] if is_nomad_task(unit) => return Named::new(unit, Runtime::Containerd),
        [.., "nomad.slice", "share.slice" | "reserve.slice"] if is_nomad_task(unit) => {
            return Named::new(unit, None);
        }
        _ => {}
    }
    match unit.split_once('-')? {
        // Started by hand: the id is the caller's.
        ("crun" | "runc" | "youki", id) => Named::new(id, None),
        ("docker", id) if is_buildkit_id(id) => Named::new(id, Runtime::Docker),
        ("apptainer", id) if is_number(id) => Named::new(id, Runtime::Apptainer),
        ("singularity", id) if is_number(id) => Named::new(id, Runtime::Singularity),
        _ => None,
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// 25 digits of base 36.
fn is_buildkit_id(text: &str) -> bool {
    text.len() == 25 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z'))
}

/// `<allocation>.<task>`.
fn is_nomad_task(text: &str) -> bool {
    text.split_once('.').is_some_and(|(allocation, task)| is_uuid(allocation) && !task.is_empty())
}

fn is_fargate_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(task, number)| is_hex(task, 32) && is_number(number))
}

/// A UUID, or the shorter form Cloud Foundry gives to the instances of an application.
fn is_garden_handle(text: &str) -> bool {
    is_uuid(text) || has_groups(text, &[8, 4, 4, 4, 4])
}
