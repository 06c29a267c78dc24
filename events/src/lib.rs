//! The lines kube-tcpstates writes, as types: one JSON document a line, [`Line`] says which kind.
//!
//! A consumer parses a line with `serde_json::from_str::<Line>(text)`. What is not known is absent, so nearly every
//! field is an `Option`; fields this version does not know are ignored. Nested names are the OpenTelemetry attribute
//! names wherever one exists (`network.peer.address` is `line.network.peer.address`); 64-bit ids are strings, because
//! JavaScript and Elasticsearch round numbers above 2^53.
//!
//! ```
//! use kube_tcpstates_events::Line;
//!
//! let text = r#"{"time":"2026-11-22T15:25:01.123456789Z","schema":"tcpstates.dev/events/v1",
//!                "type":"log","run":"5f0c2a91","level":"warn","text":"ring buffer half full"}"#;
//! let Line::Log(log) = serde_json::from_str(text)? else { panic!("another kind") };
//! assert_eq!(log.text, "ring buffer half full");
//! # Ok::<(), serde_json::Error>(())
//! ```
#![forbid(unsafe_code)]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod heartbeat;
mod hook;
mod log;
mod lost;
pub mod schema;
mod start;
mod transition;

pub use heartbeat::{Heartbeat, Totals};
pub use hook::Hook;
pub use log::{Level, Log};
pub use lost::{ByPlace, Loss, Lost};
pub use schema::{SCHEMA_ID, SchemaId};
pub use start::{CgroupMode, CgroupSetup, Check, Kernel, Ring, Start, Storage};
pub use transition::{
    Attribution, AttributionSource, AttributionStatus, Cgroup, Connection, Container, Endpoint, Failure,
    Host, K8s, Named, Netns, Network, NetworkType, Pod, Process, ProcessSource, Role, Tcp, Thread,
    Transition, Transport,
};

/// One line of the stream. `type` says which kind; `connection` is reserved for a later kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// The first line of a run: what traces, and how.
    Start(Box<Start>),
    /// One TCP state transition of one socket.
    Transition(Box<Transition>),
    /// Events were lost since the last such line.
    Lost(Box<Lost>),
    /// The tracer is alive; totals of the run so far.
    Heartbeat(Box<Heartbeat>),
    /// A diagnostic of the tracer itself. Has no `seq`.
    Log(Log),
}

/// For `skip_serializing_if`: `false` is the absence of the fact.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands the field over by reference")]
pub(crate) fn is_false(flag: &bool) -> bool {
    !*flag
}
