//! What a cgroup path can say about the processes in it.

use std::fmt;

/// A container runtime, as far as a path betrays it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// containerd, through CRI or nerdctl.
    Containerd,
    /// CRI-O.
    Crio,
    /// Docker Engine, also behind cri-dockerd.
    Docker,
    /// Podman and what else uses libpod.
    Podman,
    /// LXC, LXD, Incus, Proxmox and libvirt-lxc.
    Lxc,
    /// systemd-nspawn.
    Nspawn,
    /// Garden, of Cloud Foundry and Concourse.
    Garden,
    /// Kata Containers' sandbox on the host.
    Kata,
    /// Apptainer.
    Apptainer,
    /// Singularity.
    Singularity,
}

impl Runtime {
    /// The name that goes into a line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Crio => "cri-o",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Lxc => "lxc",
            Self::Nspawn => "systemd-nspawn",
            Self::Garden => "garden",
            Self::Kata => "kata",
            Self::Apptainer => "apptainer",
            Self::Singularity => "singularity",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Kubernetes' quality-of-service class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Qos {
    /// Requests equal limits; its pods sit directly below `kubepods`.
    Guaranteed,
    /// Some request or limit.
    Burstable,
    /// None.
    BestEffort,
}

impl Qos {
    /// The name the Kubernetes API uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

impl fmt::Display for Qos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A pod-level cgroup on the way from the root to the leaf.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    /// The UID with dashes. Of a static pod it is the annotation `kubernetes.io/config.hash`: 32 hex digits without.
    pub uid: String,
    /// Absent where the part of the path that tells it is cut off (a private cgroup namespace).
    pub qos: Option<Qos>,
}

/// A container's cgroup on the way from the root to the leaf.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Container {
    /// 64 hex digits, or the name the runtime uses. Where a name can be read in two ways both are there, the likelier one
    /// behind the other on the way from the root.
    pub id: String,
    /// Absent for a bare id below a pod: every runtime with the cgroupfs driver writes that.
    pub runtime: Option<Runtime>,
    /// UID of the nearest pod around it.
    pub pod_uid: Option<String>,
}

/// A part of the host that is neither container nor pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// The innermost slice (`system.slice`, `user-1000.slice`), or the top-level group where systemd is not in charge
    /// (`podruntime`).
    pub slice: Option<String>,
    /// The service or scope (`sshd.service`, `init.scope`), or the group below the top-level one.
    pub unit: Option<String>,
}

/// What a cgroup's path says. Strings come from directory names that a container with a writable cgroup tree may
/// choose: any character but `/` and NUL is possible, so whoever shows them escapes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The path, from the root of the hierarchy.
    pub path: String,
    /// The container to name when no API says otherwise: the nearest 64-hex id, else the nearest name; never one that
    /// lies outside the nearest pod.
    pub container_id: Option<String>,
    /// Runtime of that container, where the path tells.
    pub runtime: Option<Runtime>,
    /// The nearest pod.
    pub pod_uid: Option<String>,
    /// Class of the nearest pod.
    pub qos: Option<Qos>,
    /// Set when there is neither container nor pod, except for the root.
    pub host: Option<Host>,
    /// Every container on the way, leaf to root.
    pub containers: Vec<Container>,
    /// Every pod on the way, leaf to root.
    pub pods: Vec<Pod>,
}

impl Identity {
    /// The root of the hierarchy: it says nothing about who is in it.
    pub fn is_root(&self) -> bool {
        self.host.is_none() && self.containers.is_empty() && self.pods.is_empty()
    }

    /// In a container or a pod, and not the host's.
    pub fn is_contained(&self) -> bool {
        !self.containers.is_empty() || !self.pods.is_empty()
    }
}
