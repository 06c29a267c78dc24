//! `tcpstates.type` `summary`: the connections between one owner and one other end that have ended in an interval.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::Kind;
use crate::{
    Attribution, Cgroup, Container, ContainerRuntime, Endpoint, Host, Interface, K8s, NetworkType, Outcome,
    Peer, Role, SchemaId, Transport, is_false,
};

/// The connections of one owner, one other end, one port and one side that have ended in an interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SummaryLine {
    /// Wall-clock time of the end of the interval, RFC 3339 in UTC with nanoseconds.
    pub time: String,
    /// What has a name of our own.
    pub tcpstates: SummaryAttributes,
    /// The other end and the port; absent with `tcpstates.summary.other`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<SummaryNetwork>,
    /// The Kubernetes objects that own the sockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s: Option<Box<K8s>>,
    /// The container that owns the sockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
}

/// What the connections have in common. The client's port is never among it: it is another for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SummaryNetwork {
    /// Transport protocol, always `tcp`.
    pub transport: Transport,
    /// Address family.
    #[serde(rename = "type")]
    pub kind: NetworkType,
    /// This end, with its port alone; absent for a client, and where the side is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<Endpoint>,
    /// The other end: its address, and for a client its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Endpoint>,
}

/// The attributes of a summary that are our own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "summary")]
#[schemars(rename = "SummaryAttributes", transform = Kind("summary"))]
pub struct SummaryAttributes {
    /// Name and version of the format.
    pub schema: SchemaId,
    /// 8 hex digits, new for each process.
    pub run: String,
    /// Number of the line within the run, without a gap; lines of type `log` are not counted.
    pub seq: u64,
    /// Side of the connections; absent when not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// What they add up to.
    pub summary: Summary,
    /// Quality of service class of the pod, as the cgroup path tells it: `Guaranteed`, `Burstable` or `BestEffort`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// How many labels were asked for but left out: the line would become too long, or two keys became the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels_omitted: Option<u32>,
    /// What runs the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerRuntime>,
    /// The systemd unit that owns the sockets, for a process of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
    /// The cgroup that made the sockets, where nothing else is known of their owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Cgroup>,
    /// Who the other end is, where the trace asks for it (`peerNames`) and the cluster knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Box<Peer>>,
    /// The interface to which link-local addresses belong; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
    /// How the owner was found; absent with `summary.other`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribution: Option<Attribution>,
    /// The namespaced trace whose summary it is, `namespace/name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<String>,
    /// The cluster-scoped trace whose summary it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_traces: Vec<String>,
}

/// What connections add up to. Times are microseconds, rounded down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Wall-clock time of the beginning of the interval, RFC 3339 in UTC with nanoseconds.
    pub from: String,
    /// The interval that the trace asks for, seconds. From `from` to `time` it is shorter at the end of a run and when the
    /// traces change, longer when there was no room for the line.
    pub interval_s: u64,
    /// Connections of more owners, other ends and ports than are kept apart, together.
    #[serde(default, skip_serializing_if = "is_false")]
    pub other: bool,
    /// Connections that have ended.
    pub connections: u64,
    /// The same by their outcome; only outcomes that there were.
    pub by_outcome: BTreeMap<Outcome, u64>,
    /// What this side sent; absent where the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<Volume>,
    /// What this side received; absent where the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<Volume>,
    /// Segments of data that were sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u64>,
    /// Bytes that the programs wrote and the other end never acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsent_bytes: Option<u64>,
    /// Connections that are not in the four before, as the kernel did not tell of them; absent when there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmeasured: Option<u64>,
    /// SYNs, or answers to one, that were sent again.
    pub syn_retransmits: u64,
    /// Time of the handshakes; absent where none is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake: Option<Times>,
    /// Time from the beginning of the connections to their end; of one older than the tracer from when it was first seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<Times>,
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Volume {
    /// Bytes of payload. Of what was sent, those that the peer acknowledged.
    pub bytes: u64,
}

/// Times of several connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Times {
    /// How many there are.
    pub count: u64,
    /// Their mean.
    pub mean_us: u64,
    /// The longest.
    pub max_us: u64,
    /// What half of them do not exceed, a sixteenth off at most; of handshakes only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// What 99 of 100 do not exceed, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
}
