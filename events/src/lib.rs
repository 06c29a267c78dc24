//! The lines kube-tcpstates writes, as types: one JSON document a line, [`Line`] says which kind.
//!
//! A consumer parses a line with `serde_json::from_str::<Line>(text)`. What is not known is absent, so nearly every
//! field is an `Option`; fields this version does not know are ignored. Nested names are the OpenTelemetry attribute
//! names wherever one exists (`network.peer.address` is `line.network.peer.address`), and everything else stands under
//! `tcpstates` (`tcpstates.old_state` is `line.tcpstates.old_state`), the kind of the line as `tcpstates.type`. 64-bit
//! ids are strings, because JavaScript and Elasticsearch round numbers above 2^53.
//!
//! ```
//! use kube_tcpstates_events::Line;
//!
//! let text = r#"{"time":"2026-11-22T15:25:01.123456789Z",
//!                "tcpstates":{"type":"log","schema":"tcpstates.dev/events/v1","run":"5f0c2a91",
//!                             "level":"warn","text":"ring buffer half full"}}"#;
//! let Line::Log(log) = serde_json::from_str(text)? else { panic!("another kind") };
//! assert_eq!(log.tcpstates.text, "ring buffer half full");
//! # Ok::<(), serde_json::Error>(())
//! ```
#![forbid(unsafe_code)]

mod connection;
mod heartbeat;
mod hook;
mod line;
mod log;
mod lost;
mod open;
mod other_format;
mod peer;
pub mod schema;
mod start;
mod summary;
pub mod terminal;
mod transition;

pub use connection::{
    ClosedBy, ConnectionAttributes, ConnectionLine, Direction, EndCause, Limited, ListenerId, Outcome,
};
pub use heartbeat::{Heartbeat, HeartbeatAttributes, Totals};
pub use hook::Hook;
pub use line::Line;
pub use log::{Level, Log, LogAttributes};
pub use lost::{ByPlace, Loss, Lost, LostAttributes};
pub use open::{
    AcceptQueue, HalfOpen, Listener, ListenerAttributes, OpenAttributes, OpenConnection, Shown, Snapshot,
    SnapshotAttributes, Socket, SocketAttributes, TimeWait, TimeWaitAttributes,
};
pub use other_format::other_format;
pub use peer::{Peer, PeerK8s, PeerPod, PeerSource};
pub use schema::{SCHEMA_ID, SchemaId};
pub use start::{CgroupMode, CgroupSetup, Check, Kernel, Ring, RunBefore, Start, StartAttributes, Storage};
pub use summary::{Summary, SummaryAttributes, SummaryLine, SummaryNetwork, Times, Volume};
pub use transition::{
    Attribution, AttributionSource, AttributionStatus, Cause, Cgroup, Connection, ConnectionState, Container,
    ContainerRuntime, Endpoint, Failure, Host, Interface, K8s, Named, Netns, Network, NetworkType,
    OwnerSource, Ownership, Pod, Process, Role, Thread, Transition, TransitionAttributes, Transport,
};

/// For `skip_serializing_if`: `false` is the absence of the fact.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands the field over by reference")]
pub(crate) fn is_false(flag: &bool) -> bool {
    !*flag
}
