//! The Kubernetes resources of kube-tcpstates: their types, their schema, and what makes an object valid.
//!
//! ```text
//!  trace, cluster_trace, node, status, selector      the objects as Rust types
//!        │ schemars, kube derive        ▲ serde
//!        ▼                              │
//!  definition ─► crds/yaml/*.yaml     validate ◄── an object as the API server hands it out
//!   the server checks by it            the agent checks again: servers before 1.25 ignore CEL,
//!                                      and an old agent may meet fields it has never heard of
//! ```
//!
//! No client and no I/O: the agent and the operator bring those, other programs can take the types alone.

pub mod cluster_trace;
pub mod definition;
pub mod duration;
pub mod identity;
pub mod node;
pub mod room;
pub mod selector;
pub mod status;
pub mod text;
pub mod trace;
pub mod validate;

pub use cluster_trace::{ClusterTcpStateTrace, ClusterTcpStateTraceSpec};
pub use identity::{TraceIdentity, TraceKey};
pub use node::TcpStateNode;
pub use selector::{LabelSelector, Operator, Requirement};
pub use status::{Condition, TraceStatus};
pub use trace::{TcpStateTrace, TcpStateTraceSpec};
pub use validate::{CheckedTrace, Refusal, TraceKind};

/// API group of all resources.
pub const GROUP: &str = "tcpstates.dev";
/// Their only version.
pub const VERSION: &str = "v1alpha1";
