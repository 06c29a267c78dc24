//! `tcpstates.type` `start`: what traces, and how. Once a run, the first line with a `seq`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::Kind;
use crate::{Hook, K8s, SchemaId};

/// What traces, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Start {
    /// Wall-clock time the line was made, RFC 3339 in UTC with nanoseconds.
    pub time: String,
    /// What has a name of our own.
    pub tcpstates: StartAttributes,
    /// The cluster and the node that are traced; absent without Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s: Option<Box<K8s>>,
}

/// The attributes of a `start` line that are our own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "start")]
#[schemars(rename = "StartAttributes", transform = Kind("start"))]
pub struct StartAttributes {
    /// Name and version of the format.
    pub schema: SchemaId,
    /// 8 hex digits, new for each process.
    pub run: String,
    /// Number of the line within the run, without a gap; lines of type `log` are not counted.
    pub seq: u64,
    /// The run whose tracing this one has taken over without a gap; absent where it began anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continues: Option<RunBefore>,
    /// Version of kube-tcpstates.
    pub version: String,
    /// The kernel that is traced.
    pub kernel: Kernel,
    /// Where in the kernel transitions are observed.
    pub hook: Hook,
    /// How this machine mounts cgroups.
    pub cgroup: CgroupSetup,
    /// The buffer between kernel and tracer.
    pub ring: Ring,
    /// Where the kernel program remembers sockets.
    pub storage: Storage,
    /// The command and its arguments as given, for a reader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<String>,
    /// What is asked for in words, for a reader; absent when everything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filters: Option<String>,
    /// What was checked before tracing, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preflight: Vec<Check>,
}

/// A run that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunBefore {
    /// Its id, 8 hex digits.
    pub run: String,
    /// Number of the last line that it wrote.
    pub seq: u64,
}

/// The kernel that is traced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Kernel {
    /// Release as `uname -r` prints it.
    pub release: String,
}

/// How this machine mounts cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CgroupSetup {
    /// Which hierarchies are mounted.
    pub mode: CgroupMode,
}

/// Which cgroup hierarchies are mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CgroupMode {
    /// Version 1 only.
    V1,
    /// Version 1 controllers, with the unified hierarchy mounted beside them.
    Hybrid,
    /// The unified hierarchy only.
    #[default]
    V2,
    /// None that can be read.
    None,
}

/// The buffer between kernel and tracer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ring {
    /// Size in bytes.
    pub bytes: u64,
}

/// Where the kernel program remembers sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// With the socket itself (kernel 5.11 and later).
    #[default]
    SocketStorage,
    /// In a hash table keyed by the socket.
    Hash,
}

/// One thing that was checked before tracing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// What was checked, for example `CAP_BPF` or `btf`.
    pub name: String,
    /// Whether it is there.
    pub ok: bool,
    /// What it is for, or what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl CgroupMode {
    /// As it stands on a line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::Hybrid => "hybrid",
            Self::V2 => "v2",
            Self::None => "none",
        }
    }
}
