//! `TcpStateTrace`: which transitions of which pods are wanted.

#![expect(clippy::duplicated_attributes, reason = "a column has the type of another")]
#![expect(unreachable_pub, reason = "KubeSchema repeats each type inside of a function")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::selector::LabelSelector;
use crate::status::TraceStatus;
use crate::text;

/// Which transitions are wanted. Every field narrows the trace, and all of them must hold; within a list one match is
/// enough.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.outcomes) || size(self.outcomes) == 0 || self.mode != 'Transitions'")
    .message("outcomes are of connections: they need mode Connections or Summary").field_path(".outcomes"))]
#[x_kube(validation = Rule::new("!has(self.transitions) || size(self.transitions) == 0 || self.mode == 'Transitions'")
    .message("transitions need mode Transitions; connections are narrowed by outcomes").field_path(".transitions"))]
#[x_kube(validation = Rule::new("!has(self.interval) || self.mode == 'Summary'")
    .message("interval is between summaries: it needs mode Summary").field_path(".interval"))]
#[kube(
    group = "tcpstates.dev",
    version = "v1alpha1",
    kind = "TcpStateTrace",
    plural = "tcpstatetraces",
    shortname = "tst",
    category = "tcpstates",
    namespaced,
    status = "TraceStatus",
    derive = "PartialEq",
    label("app.kubernetes.io/name", "kube-tcpstates"),
    // Removing the chart leaves the definitions, and with them every object.
    annotation("helm.sh/resource-policy", "keep"),
    doc = "Asks for the TCP state transitions of pods in its own namespace. Agents write each as one JSON line on their \
           standard output. It never shows pods of another namespace, whatever it says.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether transitions are being traced"
    ),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.pods", description = "Pods selected"),
    printcolumn(
        name = "Nodes",
        type_ = "string",
        json_path = ".status.nodes.summary",
        description = "Nodes that trace, of nodes with a selected pod"
    ),
    printcolumn(
        name = "Events",
        type_ = "integer",
        json_path = ".status.counts.events",
        description = "Transitions written"
    ),
    printcolumn(
        name = "Lost",
        type_ = "integer",
        json_path = ".status.counts.lost",
        description = "Transitions lost"
    ),
    printcolumn(
        name = "Limited",
        type_ = "integer",
        priority = 1,
        json_path = ".status.counts.limited",
        description = "Transitions left out by the rate limit"
    ),
    printcolumn(
        name = "Expires",
        type_ = "string",
        json_path = ".status.expiresAt",
        description = "When tracing stops by itself"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is Ready or not"
    )
)]
pub struct TcpStateTraceSpec {
    /// Pods to trace, by their labels. {} selects every pod of the namespace; for a `ClusterTcpStateTrace`, every pod of
    /// the namespaces it selects.
    pub pod_selector: LabelSelector,

    /// Names of containers to trace within those pods; init, sidecar and ephemeral containers count as well. Empty:
    /// every container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<text::ContainerName>", length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub containers: Vec<String>,

    /// Labels that the node of a pod must have, each with exactly this value. Empty: every node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, text::LabelValue>",
        extend("maxProperties" = 16, "x-kubernetes-map-type" = "atomic"))]
    #[x_kube(validation = Rule::new("self.all(key, size(key) <= 317)")
        .message("the key of a label has at most 317 characters"))]
    pub node_selector: BTreeMap<String, String>,

    /// Address family of the connection: Any, IPv4 or IPv6. An IPv4 connection of an IPv6 socket (an IPv4-mapped
    /// address) is IPv4.
    #[serde(default)]
    pub family: Family,

    /// Side of the connection the socket is on: Any, Client (it connected) or Server (it listens or was accepted). A
    /// socket whose side is not known matches Any alone.
    #[serde(default)]
    pub role: Role,

    /// Ports on this side of the connection. Empty: every port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub local_ports: Vec<PortRange>,

    /// Ports on the other side of the connection. Empty: every port. A listening socket has no other side, so it
    /// matches only when this is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub peer_ports: Vec<PortRange>,

    /// Address prefixes of the other side of the connection, such as 10.0.0.0/8 or `2001:db8::/32`. Empty: every address.
    /// Bits behind the prefix length must be zero. A listening socket matches only when this is empty.
    #[serde(default, rename = "peerCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<text::Cidr>", length(max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub peer_cidrs: Vec<String>,

    /// With mode Transitions: those wanted; one that any item describes is written. Empty: every transition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub transitions: Vec<Transition>,

    /// Least time the connection must have spent in the state it leaves (with the other modes: from its beginning to its
    /// end), such as 100ms or 1m30s: whole numbers with the units h, m, s, ms, us, more than 0s and at most 720h. Absent:
    /// everything. With it, a transition whose time is not known is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "text::MinStateDuration")]
    pub min_state_duration: Option<String>,

    /// What is written for a match. Transitions: one line for each transition. Connections: one line for each connection,
    /// when it ends, with how it ended, why, how long it took and how many bytes went each way. Summary: now and then
    /// one line for each owner, other end, port and side, with what the connections that have ended add up to.
    #[serde(default)]
    pub mode: Mode,

    /// With mode Connections or Summary: only connections that ended so; failed is every outcome but closed. Empty: every
    /// connection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12), extend("x-kubernetes-list-type" = "set"))]
    pub outcomes: Vec<Outcome>,

    /// With mode Summary: time between two summaries, such as 30s: whole numbers with the units h, m, s, from 10s to 1h.
    /// Absent: 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "text::SummaryInterval")]
    pub interval: Option<String>,

    /// Beside mode, snapshots of the connections and listeners that are open in the pods selected, those older than the
    /// trace included: a line for each, and one at the end that says how many there were. The fields above that say what
    /// a socket must be like hold here too; transitions and minStateDuration do not. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_sockets: Option<OpenSockets>,

    /// How many lines each node may write for this trace. What is left out is counted as limited, never as lost.
    #[serde(default)]
    pub rate_limit: RateLimit,

    /// How long the trace runs, counted from its creation: whole numbers with the units h, m, s, from 10s to 720h.
    /// Afterwards agents stop tracing; the object stays, with Ready=False and reason Expired. Absent: until it is
    /// deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "text::Ttl")]
    pub ttl: Option<String>,

    /// Keys of pod labels to copy onto each line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<text::LabelKey>", length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub pod_labels: Vec<String>,

    /// Whether lines name the other end where the cluster knows it: the Service or the pod that had its address when
    /// the connection began. While a trace on a node asks for it, the agent there watches Services and `EndpointSlices`
    /// of the whole cluster.
    #[serde(default, skip_serializing_if = "is_false")]
    pub peer_names: bool,
}

/// For `skip_serializing_if`: what is not asked for is absent.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands the field over by reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Family {
    /// Both.
    #[default]
    Any,
    /// IPv4, also on an IPv6 socket.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
}

/// Side of the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Role {
    /// Both, and sockets whose side is not known.
    #[default]
    Any,
    /// It connected.
    Client,
    /// It listens or was accepted.
    Server,
}

/// What is written for a match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// One line for each transition.
    #[default]
    Transitions,
    /// One line for each connection, when it ends.
    Connections,
    /// One line for each owner, other end, port and side, now and then.
    Summary,
}

/// How a connection ended, by the words that lines have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every outcome but closed.
    Failed,
    /// In good order.
    Closed,
    /// A reset answered the SYN.
    Refused,
    /// An ICMP message answered the SYN.
    Rejected,
    /// Nothing answered the SYN.
    Unanswered,
    /// No local port was free.
    NoLocalPort,
    /// The peer reset it.
    ResetByPeer,
    /// This side reset it.
    ResetByUs,
    /// The peer did not answer any more.
    TimedOut,
    /// No program accepted it before its listener was closed.
    NeverAccepted,
    /// The program gave up the connect.
    Cancelled,
    /// It cannot be told.
    Unknown,
}

/// One port, or a range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.endPort) || self.endPort >= self.port")
    .message("the range ends before it starts").field_path(".endPort"))]
pub struct PortRange {
    /// The port, or the first of a range: 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,

    /// Last port of the range, itself included; not less than port. Absent: the one port alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub end_port: Option<u16>,
}

impl PortRange {
    /// First and last port.
    pub fn bounds(self) -> (u16, u16) {
        (self.port, self.end_port.unwrap_or(self.port))
    }
}

/// Transitions from one of some states to one of others. At least one side must name a state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
        "(has(self.from) && size(self.from) > 0) || (has(self.to) && size(self.to) > 0)")
    .message("name a state in from or in to; a trace that wants every transition has no transitions field"))]
pub struct Transition {
    /// States left. Empty: any state. TIME_WAIT and NEW_SYN_RECV are not states of a socket that can be traced: the
    /// kernel hands a connection in TIME_WAIT to a smaller socket and moves this one to CLOSE, and a request in
    /// NEW_SYN_RECV has no socket yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "set"))]
    pub from: Vec<StateName>,

    /// States entered. Empty: any state. TIME_WAIT and NEW_SYN_RECV are not states of a socket that can be traced; a
    /// connection on its way to TIME_WAIT enters CLOSE from FIN_WAIT2 or CLOSING.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "set"))]
    pub to: Vec<StateName>,
}

/// A TCP state by the kernel's name. `TIME_WAIT` and `NEW_SYN_RECV` are left out: no transition shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StateName {
    /// The connection is open.
    Established,
    /// A client's SYN is out.
    SynSent,
    /// A server's socket exists, the handshake is being finished.
    SynRecv,
    /// This side closed first.
    #[serde(rename = "FIN_WAIT1")]
    FinWait1,
    /// This side's FIN is acknowledged.
    #[serde(rename = "FIN_WAIT2")]
    FinWait2,
    /// Closed, or not yet open.
    Close,
    /// The peer closed first.
    CloseWait,
    /// This side's FIN answers the peer's.
    LastAck,
    /// Listening.
    Listen,
    /// Both sides closed at once.
    Closing,
}

impl StateName {
    /// Every state, in the kernel's order.
    pub const ALL: [Self; 10] = [
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait1,
        Self::FinWait2,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::Closing,
    ];
}

/// Snapshots of what is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenSockets {
    /// Time between two snapshots: whole numbers with the units h, m, s, from 10s to 1h.
    #[schemars(with = "text::SnapshotInterval")]
    pub every: String,

    /// States of the sockets to show. Empty: every state. TIME_WAIT is counted by network namespace, LISTEN stands for
    /// listeners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "set"))]
    pub states: Vec<OpenState>,

    /// Least time a connection must have been in its state, such as 60s: whole numbers with the units h, m, s, ms, us,
    /// more than 0s and at most 720h. What is older than the trace counts from when it was first seen. Listeners are
    /// shown whatever their age. Absent: every age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "text::MinStateDuration")]
    pub min_age: Option<String>,

    /// Most connections, and most listeners, that each node shows in one snapshot: 1 to 1000. Those longest without data,
    /// and those with the longest accept queue, come first; what is left out is counted.
    #[serde(default = "default_open")]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: u32,
}

const fn default_open() -> u32 {
    100
}

/// A state that an open socket can be in, by the kernel's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OpenState {
    /// The connection is open.
    Established,
    /// A client's SYN is out.
    SynSent,
    /// A server's socket exists, the handshake is being finished.
    SynRecv,
    /// This side closed first.
    #[serde(rename = "FIN_WAIT1")]
    FinWait1,
    /// This side's FIN is acknowledged.
    #[serde(rename = "FIN_WAIT2")]
    FinWait2,
    /// Both sides have closed; the kernel keeps the addresses for a minute.
    TimeWait,
    /// The peer closed first.
    CloseWait,
    /// This side's FIN answers the peer's.
    LastAck,
    /// Listening.
    Listen,
    /// Both sides closed at once.
    Closing,
}

impl OpenState {
    /// The kernel's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait1 => "FIN_WAIT1",
            Self::FinWait2 => "FIN_WAIT2",
            Self::TimeWait => "TIME_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
        }
    }
}

/// A token bucket on each node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Lines a second on each node, over time: 1 to 100000. A `ClusterTcpStateTrace` may say 0, for no limit of its own.
    #[serde(default = "default_lines")]
    #[schemars(range(min = 1, max = 100_000))]
    pub lines_per_second_per_node: u32,

    /// Lines at once after a quiet time: 1 to 200000.
    #[serde(default = "default_burst")]
    #[schemars(range(min = 1, max = 200_000))]
    pub burst: u32,
}

const fn default_lines() -> u32 {
    1000
}

const fn default_burst() -> u32 {
    2000
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { lines_per_second_per_node: default_lines(), burst: default_burst() }
    }
}
