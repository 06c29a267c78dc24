//! What a whole cluster's tracing comes to. Each agent reports about its own node; this program makes of it what people
//! look at: the status of each trace, and its lines for whoever may read them. Agents work without it.
//!
//! ```text
//!  API server ─► cluster, watches ─ Change ─► fold ─► TraceStatus, when it is worth a write
//!      ▲                                                │
//!      ├── status, Events ◄── cluster, only the leader ◄┘
//!      └── Lease ◄──────────► lease
//! ```

pub mod cluster;
pub mod command;
pub mod fold;
pub mod lease;
pub mod lines;
pub mod telemetry;

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
