//! Names of both ends, as short as they are clear.

use std::collections::HashMap;

use crate::line::{K8s, Line};

/// Addresses whose owner is remembered, to name them where they are another's peer.
const ADDRESSES_AT_MOST: usize = 65_536;

/// Which side of its connection the owner of a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Side {
    /// It connected.
    Client,
    /// It accepted.
    Server,
    /// It is not known.
    Unknown,
}

impl Side {
    pub(crate) fn of(role: Option<&str>) -> Self {
        match role {
            Some("client") => Self::Client,
            Some("server") => Self::Server,
            _ => Self::Unknown,
        }
    }
}

/// The owner of a line's socket: its workload, else its pod, container, thread, unit. Empty where nothing is known.
pub(crate) fn owner(line: &Line<'_>, name: &mut String) {
    name.clear();
    if line.k8s.as_ref().is_some_and(|k8s| object(k8s, name)) {
        return;
    }
    if let Some(container) = &line.container {
        push(name, "container ", short(&container.id));
    } else if let Some(thread) = &line.thread {
        name.push_str(&thread.name);
    } else if let Some(unit) = line.tcpstates.host.as_ref().and_then(|host| host.unit.as_deref()) {
        push(name, "unit ", unit);
    }
}

/// The other end by its name. False where the line does not name it.
pub(crate) fn peer(line: &Line<'_>, name: &mut String) -> bool {
    name.clear();
    line.tcpstates.peer.as_ref().is_some_and(|peer| object(&peer.k8s, name))
}

/// `namespace/kind/name` of a Service or a workload, else of a pod. False: neither is there.
fn object(k8s: &K8s<'_>, into: &mut String) -> bool {
    let named = [
        ("service/", &k8s.service),
        ("deployment/", &k8s.deployment),
        ("statefulset/", &k8s.statefulset),
        ("daemonset/", &k8s.daemonset),
        ("cronjob/", &k8s.cronjob),
        ("job/", &k8s.job),
        ("replicaset/", &k8s.replicaset),
    ];
    let workload =
        named.iter().find_map(|(kind, object)| object.as_ref().map(|object| (*kind, &*object.name)));
    let pod = || k8s.pod.as_ref().and_then(|pod| pod.name.as_deref()).map(|name| ("pod/", name));
    let uid = || k8s.pod.as_ref().and_then(|pod| pod.uid.as_deref()).map(|uid| ("pod ", uid));
    let Some((kind, name)) = workload.or_else(pod).or_else(uid) else { return false };
    if let Some(namespace) = &k8s.namespace {
        push(into, &namespace.name, "/");
    }
    push(into, kind, name);
    true
}

fn push(into: &mut String, first: &str, second: &str) {
    into.push_str(first);
    into.push_str(second);
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Who has which address, learned from lines of their owners.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    /// `None`: several have it, such as pods on the network of their node.
    owners: HashMap<String, Option<String>>,
}

impl Addresses {
    /// The owner of a line has its local address. Only pods are learned: processes of one machine share its addresses.
    pub(crate) fn learn(&mut self, line: &Line<'_>, owner: &str) {
        let is_pod = line.k8s.as_ref().is_some_and(|k8s| k8s.pod.is_some());
        let address = line.network.local.as_ref().and_then(|local| local.address.as_deref());
        let (true, Some(address)) = (is_pod && !owner.is_empty(), address) else { return };
        if is_shared(address) {
            return;
        }
        let has_room = self.owners.len() < ADDRESSES_AT_MOST;
        match self.owners.get_mut(address) {
            Some(known) if known.as_deref() != Some(owner) => *known = None,
            None if has_room => {
                self.owners.insert(address.to_owned(), Some(owner.to_owned()));
            }
            Some(_) | None => {}
        }
    }

    /// Whose address it is, if one owner alone has had it.
    pub(crate) fn owner(&self, address: &str) -> Option<&str> {
        self.owners.get(address)?.as_deref()
    }
}

/// Every pod has these.
fn is_shared(address: &str) -> bool {
    address.starts_with("127.")
        || address == "::1"
        || address == "0.0.0.0"
        || address == "::"
        || address.starts_with("fe80:")
}
