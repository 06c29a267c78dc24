//! What the connections of each workload of the node add up to, for metrics. Bounded: of more workloads than there is room
//! for, the rest are one, `other`; a workload that is gone is forgotten after a while. Pure: time is an argument, and what is
//! counted, and where it is shown, is the business of others.

mod figures;
mod histogram;
mod table;

pub use figures::{Figures, ListenerFigures, OfRole};
pub use histogram::{DURATIONS, HANDSHAKES, Histogram};
pub use table::{Entry, Listening, Name, Workloads};

/// Most workloads that are kept apart: more than a node has pods, as a rule.
pub const MAX_WORKLOADS: usize = 256;
/// How long a workload is kept that has neither pods here nor connections.
pub const KEPT_NS: u64 = 600 * 1_000_000_000;
