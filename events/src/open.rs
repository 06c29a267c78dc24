//! What is open at a moment: `tcpstates.type` `socket`, `listener` and `time_wait`, and `snapshot`, which ends them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::Kind;
use crate::{
    Attribution, Cgroup, Container, ContainerRuntime, Host, Interface, K8s, Netns, Network, Ownership, Peer,
    Process, Role, SchemaId, Thread, is_false,
};

/// A connection that was open when a snapshot was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Socket {
    /// Wall-clock time at which it was looked at, RFC 3339 in UTC with nanoseconds.
    pub time: String,
    /// What has a name of our own.
    pub tcpstates: SocketAttributes,
    /// Both ends and the connection.
    pub network: Network,
    /// The Kubernetes objects that own the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s: Option<Box<K8s>>,
    /// The container that owns the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The process that owns the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The thread that owns the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<Thread>,
}

/// The attributes of an open connection that are our own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "socket")]
#[schemars(rename = "SocketAttributes", transform = Kind("socket"))]
pub struct SocketAttributes {
    /// Name and version of the format.
    pub schema: SchemaId,
    /// 8 hex digits, new for each process.
    pub run: String,
    /// Number of the line within the run, without a gap; lines of type `log` are not counted.
    pub seq: u64,
    /// State that it is in, by the kernel's name (`CLOSE_WAIT`).
    pub state: String,
    /// How long it has been in that state, microseconds, rounded down; absent where nobody saw it enter the state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_age_us: Option<u64>,
    /// `state_age_us` counts from the tracer's start, so it is a lower bound: the state is older.
    #[serde(default, skip_serializing_if = "is_false")]
    pub state_age_since_attach: bool,
    /// Time since data was last sent or received, microseconds, as exact as the kernel's ticks; since the connection was
    /// opened where none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_us: Option<u64>,
    /// Bytes that have come and that the program has not read; the peer's FIN is none of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread_bytes: Option<u32>,
    /// Bytes that the program has written and the peer has not acknowledged, sent or not; SYN and FIN are none of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsent_bytes: Option<u32>,
    /// Retransmissions by timeout that nothing has answered yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmits_pending: Option<u32>,
    /// Who the other end is, where a trace of this line asks for it (`peerNames`) and the cluster knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Box<Peer>>,
    /// What any open socket has.
    #[serde(flatten)]
    pub open: OpenAttributes,
}

/// A listener that was open when a snapshot was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Listener {
    /// Wall-clock time at which it was looked at, RFC 3339 in UTC with nanoseconds.
    pub time: String,
    /// What has a name of our own.
    pub tcpstates: ListenerAttributes,
    /// Its address.
    pub network: Network,
    /// The Kubernetes objects that own the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s: Option<Box<K8s>>,
    /// The container that owns the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The process that owns the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The thread that owns the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<Thread>,
}

/// The attributes of a listener that are our own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "listener")]
#[schemars(rename = "ListenerAttributes", transform = Kind("listener"))]
pub struct ListenerAttributes {
    /// Name and version of the format.
    pub schema: SchemaId,
    /// 8 hex digits, new for each process.
    pub run: String,
    /// Number of the line within the run, without a gap; lines of type `log` are not counted.
    pub seq: u64,
    /// How long it has listened, microseconds, rounded down; absent where nobody saw it begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_age_us: Option<u64>,
    /// `state_age_us` counts from the tracer's start, so it is a lower bound.
    #[serde(default, skip_serializing_if = "is_false")]
    pub state_age_since_attach: bool,
    /// Connections that wait to be accepted.
    pub accept_queue: AcceptQueue,
    /// Connections that are being opened.
    pub half_open: HalfOpen,
    /// What any open socket has.
    #[serde(flatten)]
    pub open: OpenAttributes,
}

/// Connections that wait for the program to accept them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AcceptQueue {
    /// How many wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u32>,
    /// How many may wait: one more than this before anything is dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// SYNs and handshakes that it has dropped since it began to listen: a SYN counts one, a last ACK that found the queue
    /// full two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drops: Option<u32>,
}

/// Connections that are being opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HalfOpen {
    /// How many there are; absent where the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Those of them whose last ACK has come and found the accept queue full: their clients take them for open. Absent
    /// where the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<u32>,
}

/// What `socket` and `listener` lines have in common: the same as a `transition` line has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenAttributes {
    /// Side of the connection; absent when not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// A subflow of an MPTCP connection.
    #[serde(default, skip_serializing_if = "is_false")]
    pub mptcp: bool,
    /// The socket is `AF_INET6` and speaks IPv4; its addresses are shown as IPv4.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dual_stack: bool,
    /// The connection; absent where nothing is known of it by a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<OpenConnection>,
    /// How the owning process was learned; absent when it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Ownership>,
    /// Quality of service class of the pod, as the cgroup path tells it: `Guaranteed`, `Burstable` or `BestEffort`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// How many labels were asked for but left out: the line would become too long, or two keys became the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels_omitted: Option<u32>,
    /// What runs the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerRuntime>,
    /// The systemd unit that owns the socket, for a process of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
    /// The cgroup that made the socket; absent where the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Cgroup>,
    /// The interface to which the link-local addresses of the socket belong; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
    /// The socket's network namespace; absent where the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<Netns>,
    /// How the owner was found.
    pub attribution: Attribution,
    /// Namespaced traces that asked for this line, `namespace/name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<String>,
    /// Cluster-scoped traces that asked for this line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_traces: Vec<String>,
    /// How many further traces asked for this line but are not named, because the line would become too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traces_omitted: Option<u32>,
}

/// What names an open connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenConnection {
    /// 16 hex digits, the same on every line of one connection and on no line of another; absent where no tracer has a
    /// record of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The kernel's socket cookie (`SO_COOKIE`), decimal; absent while the kernel has given none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
}

/// How many connections of one network namespace were in `TIME_WAIT` when a snapshot was taken. The kernel keeps no owner
/// of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimeWait {
    /// Wall-clock time of the snapshot, RFC 3339 in UTC with nanoseconds.
    pub time: String,
    /// What has a name of our own.
    pub tcpstates: TimeWaitAttributes,
    /// The pod that owns every other socket of that namespace of which an owner is known; absent where several do, or the
    /// host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s: Option<Box<K8s>>,
    /// The container that owns them; absent where several do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
}

/// The attributes of a `time_wait` line that are our own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "time_wait")]
#[schemars(rename = "TimeWaitAttributes", transform = Kind("time_wait"))]
pub struct TimeWaitAttributes {
    /// Name and version of the format.
    pub schema: SchemaId,
    /// 8 hex digits, new for each process.
    pub run: String,
    /// Number of the line within the run, without a gap; lines of type `log` are not counted.
    pub seq: u64,
    /// How many.
    pub count: u64,
    /// How many more have closed and still wait for the peer's FIN (`FIN_WAIT2`): the kernel keeps them in the same way.
    pub fin_wait2: u64,
    /// The network namespace; absent where the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<Netns>,
    /// Namespaced traces that asked for this line, `namespace/name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<String>,
    /// Cluster-scoped traces that asked for this line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_traces: Vec<String>,
    /// How many further traces asked for this line but are not named, because the line would become too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traces_omitted: Option<u32>,
}

/// The end of a snapshot of what is open: how much there was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// Wall-clock time at which the snapshot began, RFC 3339 in UTC with nanoseconds.
    pub time: String,
    /// What has a name of our own.
    pub tcpstates: SnapshotAttributes,
    /// The cluster and the node; absent without Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s: Option<Box<K8s>>,
}

/// The attributes of a `snapshot` line that are our own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "snapshot")]
#[schemars(rename = "SnapshotAttributes", transform = Kind("snapshot"))]
pub struct SnapshotAttributes {
    /// Name and version of the format.
    pub schema: SchemaId,
    /// 8 hex digits, new for each process.
    pub run: String,
    /// Number of the line within the run, without a gap; lines of type `log` are not counted.
    pub seq: u64,
    /// Open connections that were asked for.
    pub sockets: Shown,
    /// Listeners that were asked for.
    pub listeners: Shown,
    /// Connections in `TIME_WAIT` that were asked for.
    pub time_wait: u64,
    /// Parts of the kernel's tables changed too fast to be read to their end: sockets may be missing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub incomplete: bool,
    /// The namespaced trace whose snapshot it was, `namespace/name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<String>,
    /// The cluster-scoped trace whose snapshot it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_traces: Vec<String>,
}

/// How many there were, and how many of them have a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shown {
    /// How many were open. The sum of the other two.
    pub open: u64,
    /// How many have a line in this snapshot.
    pub shown: u64,
    /// How many have none, because of the limit.
    pub left_out: u64,
}
