//! What one component of a cgroup path is: a pod, a container, both, or neither.

use super::model::{Qos, Runtime};
use super::named::{self, Named};

/// A component, read with the ones above it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Pod {
        uid: String,
        qos: Option<Qos>,
    },
    Container {
        id: String,
        runtime: Option<Runtime>,
        /// What it may be called as well.
        or: Option<String>,
    },
    /// `<slice>:<runtime>:<id>`: a systemd-style parent given to a runtime that uses the cgroupfs driver.
    PodWithContainer {
        uid: String,
        qos: Option<Qos>,
        id: String,
        runtime: Option<Runtime>,
    },
    Other,
}

/// Reads the last of `way` (root first); `below` is the next component towards the leaf.
pub(super) fn read(way: &[&str], below: Option<&str>) -> Segment {
    let Some((&name, above)) = way.split_last() else {
        return Segment::Other;
    };
    if let Some((uid, qos)) = pod(name, above) {
        return Segment::Pod { uid, qos };
    }
    if let Some((slice, rest)) = name.split_once(".slice:")
        && let Some((prefix, id)) = rest.split_once(':')
    {
        return unsplit(slice, prefix, id);
    }
    if let Some((id, runtime)) = container(name, above) {
        return Segment::Container { id, runtime, or: None };
    }
    match named::read(name, above, below) {
        Some(Named { id, runtime, or }) => Segment::Container { id, runtime, or },
        None => Segment::Other,
    }
}

fn unsplit(slice: &str, prefix: &str, id: &str) -> Segment {
    // `x-conmon:<id>` is the monitor; an id is whatever the caller of the runtime chose, so it is not checked.
    if id.is_empty() || prefix.ends_with("conmon") {
        return Segment::Other;
    }
    let id = id.to_owned();
    let runtime = runtime_of_prefix(prefix);
    match pod_of_slice(slice) {
        Some((uid, qos)) => Segment::PodWithContainer { uid, qos, id, runtime },
        None => Segment::Container { id, runtime, or: None },
    }
}

fn pod(name: &str, above: &[&str]) -> Option<(String, Option<Qos>)> {
    if let Some(slice) = name.strip_suffix(".slice") {
        return pod_of_slice(slice);
    }
    let uid = name.strip_prefix("pod")?;
    let qos = match above {
        [.., "kubepods"] => Some(Qos::Guaranteed),
        [.., "kubepods", "burstable"] => Some(Qos::Burstable),
        [.., "kubepods", "besteffort"] => Some(Qos::BestEffort),
        // From inside a cgroup namespace `kubepods/burstable` may be hidden behind `..`.
        _ if is_uuid(uid) || is_hex(uid, 32) => None,
        _ => return None,
    };
    // A static pod's manifest may set any UID, so the form is not checked below `kubepods`.
    (!uid.is_empty()).then(|| (uid.to_owned(), qos))
}

/// `[<cgroup root>-]kubepods[-<class>]-pod<uid>`, the name of a slice without its suffix. systemd reads `-` as nesting,
/// so the kubelet writes the dashes of the UID as `_`.
fn pod_of_slice(slice: &str) -> Option<(String, Option<Qos>)> {
    let (root, rest) = slice.rsplit_once("kubepods-")?;
    if !root.is_empty() && !root.ends_with('-') {
        return None;
    }
    let (qos, rest) = if let Some(rest) = rest.strip_prefix("burstable-") {
        (Qos::Burstable, rest)
    } else if let Some(rest) = rest.strip_prefix("besteffort-") {
        (Qos::BestEffort, rest)
    } else {
        (Qos::Guaranteed, rest)
    };
    let uid = rest.strip_prefix("pod").filter(|uid| !uid.is_empty())?;
    Some((uid.replace('_', "-"), Some(qos)))
}

/// One with 64 hex digits.
fn container(name: &str, above: &[&str]) -> Option<(String, Option<Runtime>)> {
    if is_hex(name, 64) {
        return bare(name, above);
    }
    let (stem, is_scope) = match name.strip_suffix(".scope") {
        Some(stem) => (stem, true),
        None => (name, false),
    };
    let (prefix, id) = stem.rsplit_once(['-', '_']).filter(|(_, id)| is_hex(id, 64))?;
    let runtime = runtime_of_prefix(prefix);
    // A scope that some other runtime named is a container; a directory could be anything.
    let is_container = !prefix.ends_with("conmon") && (runtime.is_some() || is_scope);
    is_container.then(|| (id.to_owned(), runtime))
}

/// 64 hex digits alone: the cgroupfs driver. What stands above tells who wrote it.
fn bare(id: &str, above: &[&str]) -> Option<(String, Option<Runtime>)> {
    let runtime = match above {
        // `podman pod` with the cgroupfs driver: the pod's cgroup, with the containers' below.
        [.., "libpod_parent"] => return None,
        [.., "docker" | "moby"] | [.., "docker", "buildx"] | [.., "ecs", _] | [.., "ecs", _, _] => {
            Some(Runtime::Docker)
        }
        // Namespaces of containerd: of CRI, `ctr` and nerdctl, Finch.
        [.., "k8s.io" | "default" | "finch"] => Some(Runtime::Containerd),
        [.., "kata_overhead"] => Some(Runtime::Kata),
        _ => None,
    };
    Some((id.to_owned(), runtime))
}

fn runtime_of_prefix(prefix: &str) -> Option<Runtime> {
    Some(match prefix {
        "cri-containerd" | "containerd" | "nerdctl" => Runtime::Containerd,
        "crio" => Runtime::Crio,
        "docker" => Runtime::Docker,
        // `payload`: `podman --cgroups=split`, inside the unit that started it.
        "libpod" | "libpod-payload" => Runtime::Podman,
        "kata" => Runtime::Kata,
        _ => return None,
    })
}

pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) fn is_uuid(text: &str) -> bool {
    has_groups(text, &[8, 4, 4, 4, 12])
}

pub(super) fn has_groups(text: &str, digits: &[usize]) -> bool {
    let mut groups = text.split('-');
    digits.iter().all(|&digits| groups.next().is_some_and(|group| is_hex(group, digits)))
        && groups.next().is_none()
}

/// Undoes systemd's escaping of unit names: `\x2d` is a dash.
pub(super) fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if let [b'\\', b'x', high, low, tail @ ..] = rest
            && let (Some(high), Some(low)) = (char::from(*high).to_digit(16), char::from(*low).to_digit(16))
            && let Ok(unescaped) = u8::try_from(high * 16 + low)
        {
            bytes.push(unescaped);
            rest = tail;
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn unit_names_are_unescaped_and_anything_else_left_alone() {
        assert_eq!(unescape(r"lxc\x2d42\x2dweb"), "lxc-42-web");
        assert_eq!(unescape(r"a\x2"), r"a\x2");
        assert_eq!(unescape(r"\xzz\"), r"\xzz\");
        assert_eq!(unescape("\\x2\u{e9}"), "\\x2\u{e9}");
    }
}
