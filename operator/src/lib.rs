//! What a whole cluster's tracing comes to. Each agent reports about its own node; this program makes of it what people
//! look at: the status of each trace, and its lines for whoever may read them. Agents work without it.

pub mod command;
pub mod lines;

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
