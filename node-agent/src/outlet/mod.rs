//! Station 7, an edge: where finished lines leave the process.
//!
//! ```text
//!  pipeline thread                                     writer thread
//!  line()/control() ─► current chunk ─► queued chunks ─► chunk being written ─► stdout
//!                        ▲   full, or flush()                     │
//!                        └───────────── recycled chunks ◄─────────┘
//! ```
//!
//! The pipeline never waits for stdout. The chunks together never pass a byte bound; a line without room is
//! refused before it is serialised, and counted. What the lines say is the business of `render/`.
//!
//! - `queue`: the pipeline's end: bounded, counts, numbers the event lines.
//! - `writer`: the thread that owns the file descriptor, and the only place that blocks on it.
//! - `totals`: what was accepted, written and lost, readable from any thread.
//! - `journald`: entries for the journal's socket, beside stdout, with a bounded queue and a thread of their own.
//! - `sequence`: the run's id and the numbers of its event lines.
//! - `stderr`: diagnostics of `trace`, which nobody waits for.
//! - `diagnostics`: those of the agent, as lines of the stream.

mod chunk;
mod diagnostics;
mod journald;
mod queue;
mod sequence;
mod stderr;
#[cfg(test)]
mod tests;
mod totals;
mod writer;

pub use chunk::MAX_LINE;
pub use diagnostics::Diagnostics;
pub use journald::{JOURNAL_SOCKET, Journal, JournalTotals};
pub use queue::{DEFAULT_BOUND, Finished, MIN_BOUND, Monitor, Offer, Queue, StartError, stdout};
pub use sequence::RunId;
pub use stderr::Stderr;
pub use totals::Totals;
pub use writer::{End, WriteError};
