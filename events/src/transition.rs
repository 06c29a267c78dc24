//! `tcpstates.type` `transition`: one TCP state transition of one socket, with its owner.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::Kind;
use crate::{Peer, SchemaId, is_false};

/// One TCP state transition of one socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transition {
    /// Wall-clock time of the transition, RFC 3339 in UTC with nanoseconds. The order of a connection's lines is that
    /// of `seq`, not of `time`.
    pub time: String,
    /// What has a name of our own.
    pub tcpstates: TransitionAttributes,
    /// Both ends and the connection.
    pub network: Network,
    /// The error the socket closed with; absent when there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
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

/// The attributes of a transition that are our own: what happened to the TCP state, and what has no name elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "transition")]
#[schemars(rename = "TransitionAttributes", transform = Kind("transition"))]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each absent unless true")]
pub struct TransitionAttributes {
    /// Name and version of the format.
    pub schema: SchemaId,
    /// 8 hex digits, new for each process.
    pub run: String,
    /// Number of the line within the run, without a gap; lines of type `log` are not counted.
    pub seq: u64,
    /// State left, by the kernel's name (`SYN_SENT`); a number the tracer does not know, as the number.
    pub old_state: String,
    /// State entered, by the kernel's name (`ESTABLISHED`); a number the tracer does not know, as the number.
    pub new_state: String,
    /// Time spent in the state left, microseconds, rounded down; absent when not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_duration_us: Option<u64>,
    /// `state_duration_us` counts from the tracer's start, so it is a lower bound: the socket is older.
    #[serde(default, skip_serializing_if = "is_false")]
    pub state_duration_since_attach: bool,
    /// Side of the connection; absent when not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The state left is not the one the tracer last saw this socket enter: a transition in between is missing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub gap: bool,
    /// The tracer missed the transition; it follows from the states that the socket had before and after. `time` is the
    /// latest it can have been.
    #[serde(default, skip_serializing_if = "is_false")]
    pub inferred: bool,
    /// Why a connect failed, where no error tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// A subflow of an MPTCP connection.
    #[serde(default, skip_serializing_if = "is_false")]
    pub mptcp: bool,
    /// The socket is `AF_INET6` and speaks IPv4; its addresses are shown as IPv4.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dual_stack: bool,
    /// The connection.
    pub connection: Connection,
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
    /// The cgroup that made the socket; absent where the kernel or the hook does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Cgroup>,
    /// Who the other end is, where a trace of this line asks for it (`peerNames`) and the cluster knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Box<Peer>>,
    /// The interface to which the link-local addresses of the socket belong; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
    /// The socket's network namespace; absent where the kernel or the hook does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<Netns>,
    /// How the owner was found.
    pub attribution: Attribution,
    /// Namespaced traces that asked for this line, `namespace/name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<String>,
    /// Cluster-scoped traces that asked for this line. Apart from `traces`, so that a pipeline can drop them for
    /// tenants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_traces: Vec<String>,
    /// How many further traces asked for this line but are not named, because the line would become too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traces_omitted: Option<u32>,
}

/// Both ends and the connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Network {
    /// Always `tcp`.
    pub transport: Transport,
    /// IP version, after IPv4-mapped addresses became IPv4.
    #[serde(rename = "type")]
    pub kind: NetworkType,
    /// This socket's end.
    pub local: Endpoint,
    /// The other end as the socket holds it, before NAT: behind kube-proxy the Service's address. Absent for a
    /// listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Endpoint>,
    /// The connection; absent when the state entered has no OpenTelemetry name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionState>,
}

/// Always `tcp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
}

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkType {
    /// IPv4, also on an `AF_INET6` socket (then `tcpstates.dual_stack` is true).
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// One end of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// Numeric address. All zeros (`0.0.0.0`, `::`) for a listener on every address; absent when not known yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Port, 1 to 65535; absent when not known yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// The state of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionState {
    /// The state entered, by its OpenTelemetry name: `closed listen syn_sent syn_received established fin_wait_1
    /// fin_wait_2 close_wait closing last_ack time_wait`.
    pub state: String,
}

/// The connection a transition belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Connection {
    /// 16 hex digits, the same on every line of one connection and on no line of another.
    pub id: String,
    /// Community ID, version 1: the same at both ends of the connection, where no NAT lies between them, and in other tools.
    /// On lines of connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub community_id: Option<String>,
    /// The kernel's socket cookie (`SO_COOKIE`), decimal; absent while the kernel has given none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// The connection's birth was not seen: `id` counts from when the socket was first seen.
    #[serde(default, skip_serializing_if = "is_false")]
    pub partial: bool,
}

/// Side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It sent the first SYN.
    Client,
    /// A listener, or a socket that came out of one.
    Server,
}

/// Why a connect failed, where no error tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// It cannot be told: the program ended the connect before an answer came, or it had read the error itself.
    Unknown,
}

/// The error a socket closed with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// Symbolic errno (`ECONNREFUSED`, `ETIMEDOUT`); a number without a name, as the number.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Something that has a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Named {
    /// Name.
    pub name: String,
}

/// The Kubernetes objects that own the socket. Without the API server only `pod.uid` is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct K8s {
    /// Cluster, as the agent was told its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Named>,
    /// Node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Named>,
    /// Namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Named>,
    /// Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
    /// Container, by its name in the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Named>,
    /// Deployment that owns the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<Named>,
    /// `ReplicaSet` that owns the pod and is not a Deployment's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicaset: Option<Named>,
    /// `StatefulSet` that owns the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statefulset: Option<Named>,
    /// `DaemonSet` that owns the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daemonset: Option<Named>,
    /// Job that owns the pod and is not a `CronJob`'s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<Named>,
    /// `CronJob` that owns the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cronjob: Option<Named>,
}

impl K8s {
    /// Where a line comes from; `None` when nothing is known of that.
    pub fn at(cluster: Option<String>, node: Option<String>) -> Option<Self> {
        let named = |name: String| Named { name };
        (cluster.is_some() || node.is_some()).then(|| Self {
            cluster: cluster.map(named),
            node: node.map(named),
            ..Self::default()
        })
    }
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pod {
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// UID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The labels that the traces ask for, `.` in a key written as `_`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub label: BTreeMap<String, String>,
}

/// The container that owns the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Container {
    /// Id, 64 hex digits for every common runtime.
    pub id: String,
}

/// What runs the container that owns the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContainerRuntime {
    /// Container runtime as the cgroup path tells it, for example `containerd`.
    pub runtime: String,
}

/// Where a process of the host belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// systemd slice, for example `system.slice`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slice: Option<String>,
    /// systemd unit, for example `sshd.service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// The process that owns the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// Process id in the initial pid namespace.
    pub pid: u32,
}

/// Whose socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ownership {
    /// How the owning process was learned.
    pub source: OwnerSource,
}

/// How the owning process was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OwnerSource {
    /// It called `connect()`.
    Connect,
    /// It called `listen()`; sockets accepted from the listener carry it too.
    Listen,
    /// It called `accept()`.
    Accept,
    /// It closed the socket, and nothing earlier was seen.
    Close,
    /// A kernel thread made the connection.
    Kernel,
    /// It held the socket's descriptor when the tracer started.
    Descriptor,
}

/// The thread that owns the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Thread {
    /// Its name (comm), 15 bytes at most, chosen by the program. Bytes that are not UTF-8 stand as `\xNN`.
    pub name: String,
}

/// The cgroup that made the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cgroup {
    /// cgroup2 id, decimal: the inode number of its directory.
    pub id: String,
}

/// A network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Interface {
    /// Its index in the socket's network namespace.
    pub index: u32,
}

/// A network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Netns {
    /// Inode number; used again once the namespace is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inode: Option<u32>,
    /// Cookie, decimal; never used again. Absent where the kernel has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
}

/// How the owner was found, and whether it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Attribution {
    /// What told the owner.
    pub source: AttributionSource,
    /// Whether the owner is known.
    pub status: AttributionStatus,
}

/// What told the owner of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttributionSource {
    /// The cgroup the kernel recorded when the socket was made.
    SocketCgroup,
    /// The cgroup v1 of the task that connected or listened, as the kernel had it then.
    TaskCgroup,
    /// The socket's network namespace, which is that of one pod only.
    Netns,
    /// The owning process's cgroup, as /proc showed it later.
    Task,
    /// Nothing.
    None,
}

/// Whether the owner of a socket is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttributionStatus {
    /// A container.
    Resolved,
    /// A container whose pod did not become known in time.
    PendingExpired,
    /// A process of the host, in no container.
    Host,
    /// Not known.
    Unknown,
}

impl Role {
    /// As it stands on a line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

impl OwnerSource {
    /// As it stands on a line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Listen => "listen",
            Self::Accept => "accept",
            Self::Close => "close",
            Self::Kernel => "kernel",
            Self::Descriptor => "descriptor",
        }
    }
}

impl AttributionSource {
    /// As it stands on a line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SocketCgroup => "socket_cgroup",
            Self::TaskCgroup => "task_cgroup",
            Self::Netns => "netns",
            Self::Task => "task",
            Self::None => "none",
        }
    }
}

impl AttributionStatus {
    /// As it stands on a line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolved => "resolved",
            Self::PendingExpired => "pending_expired",
            Self::Host => "host",
            Self::Unknown => "unknown",
        }
    }
}
