//! From traces, nodes and what each node's agent reports to the status of each trace. No I/O; time is an argument.
//!
//! ```text
//!  Change ─► Fleet ── who knows of it, and how long ago ──► Standing ─► ready ─► TraceStatus
//!              │            (freshness)                     (of a trace            │
//!              └─ counts, by node and by start of its agent  on all nodes)         ▼
//!                                                                            budget: is it worth
//!                                                                            a write, and when
//! ```
//! A report is believed about its own node, which its name tells, and about no other.

mod bound;
mod budget;
mod counts;
mod fleet;
mod objects;
mod ready;
mod standing;
#[cfg(test)]
mod tests;

pub use budget::{Account, Due, Pace, due};
pub use fleet::{Change, Fleet};
pub use kube_tcpstates_crds::TraceKey;
pub use objects::{Entry, NodeObject, NodeState, Report, Trace};

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// Both clocks: intervals are the operator's own to measure, a ttl is over by the wall's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Never goes back.
    pub clock: Instant,
    /// What people's clocks say.
    pub wall: Timestamp,
}

impl Now {
    /// As it is.
    pub fn read() -> Self {
        Self { clock: Instant::now(), wall: Timestamp::now() }
    }

    /// When the wall's clock will show a time.
    fn at_wall(self, wall: Timestamp) -> Instant {
        let ahead = wall.duration_since(self.wall);
        self.clock + Duration::try_from(ahead).unwrap_or_default()
    }
}
