//! Station 6: a transition with its owner becomes bytes. Owns what a line looks like in each format, the escaping of
//! what programs and people chose themselves, and the promise that a line stays under [`MAX_LINE`] bytes. Knows
//! nothing of where bytes go: `outlet` owns that, and hands in the sequence number.
//!
//! A transition is written by hand into the caller's buffer: everything that belongs to a container or a set of
//! traces is rendered once by each format that shows it, the date once a second. In steady state nothing is allocated.
//! Property tests hold the hand-written lines against the types of `kube-tcpstates-events`. All other lines are rare
//! and go through serde ([`mod@line`]). Another format is one more file and one line of [`FORMATS`].

mod append;
mod cache;
mod columns;
mod csv;
mod ecs;
pub mod ended;
mod errno;
pub mod escape;
mod event;
mod format;
mod journal;
mod json;
pub mod line;
pub mod listing;
mod names;
mod open;
mod open_ecs;
pub mod otlp;
mod own;
mod owner;
mod peer;
mod summary;
mod summary_columns;
mod table;
mod text;
pub mod time;
mod traces;
mod whose;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod property;
#[cfg(test)]
mod property_ended;

pub use csv::Csv;
pub use ecs::Ecs;
pub use errno::{Errno, name as errno_name};
pub use event::Event;
pub use format::{FORMATS, Format, FormatEntry, FormatOptions, format};
pub use journal::JournalEntries;
pub use json::Json;
pub use kube_tcpstates_events::{Attribution, AttributionSource, AttributionStatus};
pub use line::split_lost;
pub use open::{Of, snapshot_line, socket_line, time_wait_line};
pub use summary::{Added, summary_line};
pub use table::Table;
pub use text::TextOptions;

/// Every line, its newline included, has fewer bytes: a write of `PIPE_BUF` bytes to a pipe stays whole, and no
/// container runtime splits it.
pub const MAX_LINE: usize = 4096;
