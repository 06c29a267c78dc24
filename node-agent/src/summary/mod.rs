//! Connections that have ended, added up: by whose they are, whose the other end is, the port that the server has, and
//! the side. Bounded, and pure: when it is and what is done with what came together is the business of others.

mod sizes;
mod sums;
mod table;

pub use sizes::Sizes;
pub use sums::{Spread, Sums};
pub use table::{Common, Kept, Period, Seen, Table, Whose};

/// Time between two summaries where nobody asks for another: a minute, ns.
pub const DEFAULT_INTERVAL_NS: u64 = 60_000_000_000;
/// Most that one trace keeps apart.
pub const MAX_OF_TRACE: usize = 4_096;
/// Most that all traces together keep apart.
pub const MAX_IN_ALL: usize = 16_384;
