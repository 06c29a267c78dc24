//! Station 7: where finished events leave the process.
//!
//! ```text
//!                  ┌─► stdout: format (render/) ─► current chunk ─► queued chunks ─► writer thread ─► stdout
//! event ─► Outlets ┼─► journal: datagram (render/) ─► queue ─► sending thread ─► journald
//!                  └─► ...
//! ```
//!
//! The pipeline hands every event to every [`Outlet`] and never waits for one: each renders what it needs of the event,
//! has a bounded queue and a thread of its own, and counts what it loses. So a slow or dead one holds up none of the
//! others; a line that must come again for want of room comes to that one alone. Another exporter is one more file here and
//! one line in `list`; another format is a file in `render/` and a line there.
//!
//! - `list`: which outlets there are, and what the command line asks of them.
//! - `stdout`: the run's own, in one of the formats of `render/`.
//! - `queue`, `chunk`: the pipeline's end of it: bounded, counts, numbers the event lines.
//! - `writer`: the thread that owns the file descriptor, and the only place that blocks on it.
//! - `totals`: what was accepted, written and lost, readable from any thread.
//! - `journald`: entries for the journal's socket.
//! - `otlp`: log records for an OpenTelemetry endpoint.
//! - `nowhere`: for a run of which nobody reads lines.
//! - `sequence`: the run's id and the numbers of its event lines.
//! - `stderr`: diagnostics of `trace`, which nobody waits for.
//! - `diagnostics`: those of the agent, as lines of the stream.

mod chunk;
mod diagnostics;
mod journald;
mod list;
mod nowhere;
mod otlp;
mod outlets;
mod queue;
mod sequence;
mod stderr;
mod stdout;
#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod tests;
mod totals;
mod writer;

use std::time::{Duration, Instant};

use kube_tcpstates_events::Line;

pub use chunk::MAX_LINE;
pub use diagnostics::Diagnostics;
pub use journald::{JOURNAL_SOCKET, JournalSocket, JournalTotals};
pub use list::{Asked, OnEnd, open};
pub use nowhere::Nowhere;
pub use otlp::{OtlpTarget, Verdict, from_environment, verdict};
pub use outlets::{OWN, Outlets};
pub use queue::{DEFAULT_BOUND, Finished, MIN_BOUND, Queue, StartError, Witness, stdout_of_process};
pub use sequence::RunId;
pub use stderr::{Stderr, say};
pub use stdout::Stdout;
pub use totals::Totals;
pub use writer::{End, WriteError};

use crate::render::{Event, ended::Ended};

/// Takes finished events, on the pipeline's thread. No call waits.
pub trait Outlet: Send {
    /// Its name in counts of losses.
    fn name(&self) -> &'static str;

    /// A transition. What is not accepted is lost here, and counted in [`Totals`].
    fn transition(&mut self, event: &Event<'_>) -> Offer;

    /// A connection that has ended, under the same terms. `event` is of the transition that ends it.
    fn connection(&mut self, event: &Event<'_>, ended: &Ended<'_>) -> Offer;

    /// Any other line: how the run starts, what was lost, that all is well, a diagnostic. The outlet numbers it, if it
    /// numbers lines.
    fn line(&mut self, line: &Line) -> Offer;

    /// What has been accepted shall go out. Called whenever there is nothing more to take for now.
    fn flush(&mut self);

    /// What became of the events so far.
    fn totals(&self) -> Totals;

    /// More waits in it than it needs to go on: what comes now only waits, too.
    fn is_behind(&self) -> bool {
        false
    }

    /// Whoever reads it is gone: it never takes anything again. If it is the run's own, the run is over.
    fn is_over(&self) -> bool;

    /// The run ends by then. Lines may still come; what waits shall not wait for more.
    fn ends_by(&mut self, _deadline: Instant) {}

    /// The run has ended: lets go out what waits, for so long at most. The totals are final then.
    fn finish(self: Box<Self>, within: Duration) -> Finished;
}

/// What became of an offered event or line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Offer {
    /// It will go out, or be counted as lost at `write`.
    Accepted,
    /// No room: not rendered, no sequence number used; an event is counted as lost at `queue`.
    Full,
    /// Nobody takes anything any more: an event is counted as lost at `write`.
    Closed,
    /// The rendering did not make the whole lines announced; an event is counted as lost at `queue`.
    Malformed,
}
