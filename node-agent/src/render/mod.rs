//! Station 6: a transition with its owner becomes bytes. Owns what a line looks like in each format, the escaping of
//! what programs and people chose themselves, and the promise that a line stays under [`MAX_LINE`] bytes. Knows
//! nothing of where bytes go: `output` owns that, and hands in the sequence number.
//!
//! A transition is written by hand into the caller's buffer: everything that belongs to a container or a set of
//! traces is rendered once ([`Labels`], [`Traces`]), the date once a second. In steady state nothing is allocated.
//! Property tests hold the hand-written lines against the types of `kube-tcpstates-events`. All other lines are rare
//! and go through serde ([`mod@line`]).

mod append;
mod attributed;
mod csv;
mod ecs;
mod errno;
pub mod escape;
mod journal;
mod json;
mod labels;
pub mod line;
mod names;
mod own;
mod table;
mod text;
pub mod time;
mod traces;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod property;

pub use attributed::Attributed;
pub use csv::Csv;
pub use ecs::Ecs;
pub use errno::{Errno, name as errno_name};
pub use journal::Journal;
pub use json::Json;
pub use kube_tcpstates_events::{Attribution, AttributionSource, AttributionStatus};
pub use labels::{LabelFields, Labels};
pub use table::Table;
pub use text::TextOptions;
pub use traces::{TraceTable, Traces};

use kube_tcpstates_events::Line;

/// Every line, its newline included, has fewer bytes: a write of `PIPE_BUF` bytes to a pipe stays whole, and no
/// container runtime splits it.
pub const MAX_LINE: usize = 4096;

/// One of the formats of standard output.
#[derive(Debug)]
pub enum Serialiser {
    /// `-o json`
    Json(Json),
    /// `-o ecs`
    Ecs(Ecs),
    /// `-o table`, also wide
    Table(Table),
    /// `-o csv`
    Csv(Csv),
}

impl Serialiser {
    /// Appends what stands above the first line; nothing for the JSON formats.
    pub fn header(&self, out: &mut Vec<u8>) {
        match self {
            Self::Json(_) | Self::Ecs(_) => {}
            Self::Table(table) => table.header(out),
            Self::Csv(csv) => csv.header(out),
        }
    }

    /// Appends the line of a transition, newline included. `seq` is its number within the run; the table and CSV do
    /// not show it.
    pub fn transition(&mut self, out: &mut Vec<u8>, seq: u64, event: &Attributed<'_>) {
        match self {
            Self::Json(json) => json.transition(out, seq, event),
            Self::Ecs(ecs) => ecs.transition(out, seq, event),
            Self::Table(table) => table.transition(out, event),
            Self::Csv(csv) => csv.transition(out, event),
        }
    }

    /// Appends any other line, newline included. False when the format has no place for it (table and CSV): then
    /// nothing was appended and the line should use up no `seq`.
    pub fn line(&self, out: &mut Vec<u8>, line: &Line) -> bool {
        match self {
            Self::Json(_) => line::json(out, line),
            Self::Ecs(_) => line::ecs(out, line),
            Self::Table(_) | Self::Csv(_) => return false,
        }
        true
    }
}
