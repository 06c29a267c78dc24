//! A cgroup's path becomes an [`Identity`]. Root to leaf every component is read once; the nearest to the leaf counts,
//! because the first hit from the root is wrong for kind, for Docker in a pod and for every other nesting.

use super::model::{Container, Host, Identity, Pod};
use super::segment::{self, Segment, is_hex};

impl Identity {
    /// Reads a path from the root of a cgroup hierarchy, or relative to a cgroup namespace (`/../..` in front). Any
    /// string is accepted: what is not recognised is the host's.
    pub fn from_path(path: &str) -> Self {
        let way: Vec<&str> = path.split('/').filter(|name| !matches!(*name, "" | "." | "..")).collect();
        let mut containers = Vec::new();
        let mut pods: Vec<Pod> = Vec::new();
        // Containers before this index lie outside the nearest pod.
        let mut inside_pod = 0;
        for depth in 1..=way.len() {
            let (pod, container, or) = match segment::read(&way[..depth], way.get(depth).copied()) {
                Segment::Pod { uid, qos } => (Some(Pod { uid, qos }), None, None),
                Segment::Container { id, runtime, or } => (None, Some((id, runtime)), or),
                Segment::PodWithContainer { uid, qos, id, runtime } => {
                    (Some(Pod { uid, qos }), Some((id, runtime)), None)
                }
                Segment::Other => continue,
            };
            if let Some(pod) = pod {
                pods.push(pod);
                inside_pod = containers.len();
            }
            if let Some((id, runtime)) = container {
                let pod_uid = pods.last().map(|pod| pod.uid.clone());
                let called = |id| Container { id, runtime, pod_uid: pod_uid.clone() };
                containers.extend(or.map(called));
                containers.push(called(id));
            }
        }
        let inner = &containers[inside_pod..];
        // A name is the choice of whoever may make directories; 64 hex digits are a runtime's.
        let named = inner.iter().rev().find(|container| is_hex(&container.id, 64)).or(inner.last());
        let (container_id, runtime) =
            named.map_or((None, None), |named| (Some(named.id.clone()), named.runtime));
        let is_host = containers.is_empty() && pods.is_empty();
        containers.reverse();
        pods.reverse();
        Self {
            path: path.to_owned(),
            container_id,
            runtime,
            pod_uid: pods.first().map(|pod| pod.uid.clone()),
            qos: pods.first().and_then(|pod| pod.qos),
            host: if is_host { host(&way) } else { None },
            containers,
            pods,
        }
    }
}

/// As systemd reads its own tree: the slices come first, then the unit; what lies below is the unit's own affair.
fn host(way: &[&str]) -> Option<Host> {
    let slices = way.iter().take_while(|name| kind(name) == Some("slice")).count();
    let (slice, unit) = match way {
        [] => return None,
        [first, ..] if slices == 0 && is_unit(first) => (None, Some(first)),
        [first, rest @ ..] if slices == 0 => (Some(first), rest.first()),
        _ => (Some(&way[slices - 1]), way.get(slices)),
    };
    Some(Host { slice: slice.map(|name| (*name).to_owned()), unit: unit.map(|name| (*name).to_owned()) })
}

/// Whether systemd would give a cgroup this name, and not for a slice.
pub(super) fn is_unit(name: &str) -> bool {
    matches!(kind(name), Some("service" | "scope" | "socket" | "mount" | "swap"))
}

/// Type of a unit: what follows the last dot of its name.
fn kind(unit: &str) -> Option<&str> {
    unit.rsplit_once('.').map(|(_, kind)| kind)
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
