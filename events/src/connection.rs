//! `tcpstates.type` `connection`: one connection that has ended, from its beginning, with its owner.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::Kind;
use crate::{
    Attribution, Cgroup, Connection, Container, ContainerRuntime, Failure, Host, Interface, K8s, Netns,
    Network, Ownership, Peer, Process, Role, SchemaId, Thread, is_false,
};

/// One connection that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionLine {
    /// Wall-clock time of its end (the transition to CLOSE), RFC 3339 in UTC with nanoseconds.
    pub time: String,
    /// What has a name of our own.
    pub tcpstates: ConnectionAttributes,
    /// Both ends.
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

/// The attributes of a connection that are our own. Times are microseconds, rounded down. What the kernel does not tell is
/// absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "connection")]
#[schemars(rename = "ConnectionAttributes", transform = Kind("connection"))]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each absent unless true")]
pub struct ConnectionAttributes {
    /// Name and version of the format.
    pub schema: SchemaId,
    /// 8 hex digits, new for each process.
    pub run: String,
    /// Number of the line within the run, without a gap; lines of type `log` are not counted.
    pub seq: u64,
    /// How the connection ended.
    pub outcome: Outcome,
    /// Why, where the outcome alone does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<EndCause>,
    /// Who ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<ClosedBy>,
    /// Side of the connection; absent when not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Wall-clock time of its beginning, RFC 3339 in UTC with nanoseconds: the SYN of a client; of a server the final ACK of
    /// the handshake. With `since_attach`, when the tracer first saw it.
    pub start: String,
    /// Time from `start` to the end.
    pub duration_us: u64,
    /// The connection is older than the tracer: `start`, `duration_us` and `states` count from when it was first seen.
    #[serde(default, skip_serializing_if = "is_false")]
    pub since_attach: bool,
    /// Time the handshake took: of a client from its SYN to ESTABLISHED, of a server the round trip of its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake_us: Option<u64>,
    /// SYNs (of a server: answers to one) that were sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syn_retransmits: Option<u32>,
    /// Time since data was last sent or received; absent when there never was any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_us: Option<u64>,
    /// What this side sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<Direction>,
    /// What this side received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<Direction>,
    /// Segments of data that were sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u32>,
    /// Segments that arrived out of order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_of_order: Option<u32>,
    /// Bytes that arrived and that the program closed without reading. Absent where it may still read them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread_bytes: Option<u64>,
    /// Bytes that the program wrote and the peer never acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsent_bytes: Option<u64>,
    /// Smoothed round-trip time at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub srtt_us: Option<u32>,
    /// Least round-trip time in the last minutes (sysctl `net.ipv4.tcp_min_rtt_wlen`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_rtt_us: Option<u32>,
    /// How long something held up what was to be sent; absent when nothing did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limited: Option<Limited>,
    /// Time in each state that the connection was in, by the kernel's name and `_us` (`ESTABLISHED_us`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub states: BTreeMap<String, u64>,
    /// The tracer missed the end; it follows from the end of the socket. `time` is the latest it can have been.
    #[serde(default, skip_serializing_if = "is_false")]
    pub inferred: bool,
    /// A subflow of an MPTCP connection.
    #[serde(default, skip_serializing_if = "is_false")]
    pub mptcp: bool,
    /// The socket is `AF_INET6` and speaks IPv4; its addresses are shown as IPv4.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dual_stack: bool,
    /// The connection.
    pub connection: Connection,
    /// The listener it was accepted from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<ListenerId>,
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

/// One direction of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Direction {
    /// Bytes of payload. Of what was sent, those that the peer acknowledged.
    pub bytes: u64,
    /// Segments with payload; of those sent, retransmissions too.
    pub segments: u32,
    /// Time since the last of them; absent when there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_us: Option<u64>,
}

/// How long something held up what was to be sent (`tcp_sock.chrono_stat`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limited {
    /// The peer's window was closed or too small.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_window_us: Option<u64>,
    /// The send buffer was too small.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_buffer_us: Option<u64>,
}

/// The listener that a connection was accepted from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListenerId {
    /// 16 hex digits, the `connection.id` of the listener's own lines.
    pub id: String,
}

macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As it stands on a line.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

words! {
    /// How a connection ended.
    Outcome {
        /// In good order: both sides sent their FIN, or this side did and no longer waits for the other's.
        Closed = "closed",
        /// The peer, or something in between, answered the SYN with a reset.
        Refused = "refused",
        /// An ICMP message answered the SYN; `error.type` says which.
        Rejected = "rejected",
        /// The SYN was sent again and never answered.
        Unanswered = "unanswered",
        /// No local port was free: nothing was sent.
        NoLocalPort = "no_local_port",
        /// The peer reset it.
        ResetByPeer = "reset_by_peer",
        /// This side reset it; `cause` says why.
        ResetByUs = "reset_by_us",
        /// The peer did not answer any more; `cause` says to what.
        TimedOut = "timed_out",
        /// The listener was closed before a program accepted it.
        NeverAccepted = "never_accepted",
        /// The program gave up a connect before anything could answer.
        Cancelled = "cancelled",
        /// It cannot be told.
        Unknown = "unknown",
    }
}

words! {
    /// Why a connection ended as it did.
    EndCause {
        /// The program closed it and had not read all that had come.
        UnreadData = "unread_data",
        /// The program closed it with `SO_LINGER` of zero seconds.
        Linger = "linger",
        /// The program disconnected the socket (`connect` to `AF_UNSPEC`).
        Disconnect = "disconnect",
        /// The program had closed it, and more data came.
        DataAfterClose = "data_after_close",
        /// The kernel had no memory, or too many sockets without a program.
        Memory = "memory",
        /// An administrator destroyed the socket (`ss -K`).
        Killed = "killed",
        /// Data was sent again and again without an answer.
        Retransmissions = "retransmissions",
        /// Keepalive probes were not answered.
        Keepalive = "keepalive",
        /// The peer's window stayed closed, and it did not answer to probes of it.
        WindowProbes = "window_probes",
        /// `TCP_USER_TIMEOUT` ended before an answer.
        UserTimeout = "user_timeout",
    }
}

words! {
    /// Who ended a connection.
    ClosedBy {
        /// The program on this side: it sent the first FIN, or a reset, or gave up.
        Local = "local",
        /// The peer: it sent the first FIN, or a reset.
        Peer = "peer",
        /// Both at once: their FINs crossed.
        Both = "both",
        /// The kernel: a timer, a limit or an ICMP message.
        Kernel = "kernel",
    }
}

impl Outcome {
    /// All but an orderly end.
    pub const FAILURES: [Self; 10] = [
        Self::Refused,
        Self::Rejected,
        Self::Unanswered,
        Self::NoLocalPort,
        Self::ResetByPeer,
        Self::ResetByUs,
        Self::TimedOut,
        Self::NeverAccepted,
        Self::Cancelled,
        Self::Unknown,
    ];
}
