//! The formats of standard output.

use kube_tcpstates_events::Line;

use super::{Event, TextOptions, csv, ecs, ended::Ended, json, otlp, table};

/// Makes lines, each with its newline.
pub trait Format: Send + Sync {
    /// Appends what stands above the first line, if anything does.
    fn header(&self, _: &mut Vec<u8>) {}

    /// Appends the line of a transition. `seq` is its number within the run; columns do not show it.
    fn transition(&mut self, out: &mut Vec<u8>, seq: u64, event: &Event<'_>);

    /// Appends the line of a connection that has ended. `event` is of the transition that ends it.
    fn connection(&mut self, out: &mut Vec<u8>, seq: u64, event: &Event<'_>, ended: &Ended<'_>);

    /// Appends any other line. A format of columns has no place but for a summary, and else appends nothing.
    fn line(&self, out: &mut Vec<u8>, line: &Line);
}

/// A format by its name.
#[derive(Debug)]
pub struct FormatEntry {
    /// What `-o` takes.
    pub name: &'static str,
    /// What it is, for the help.
    pub about: &'static str,
    /// Columns for people, with transitions alone; the others have documents for machines, of every kind of line.
    pub columns: bool,
    /// No line is longer, bytes, its newline included.
    pub longest: usize,
    /// Makes one.
    pub make: fn(&FormatOptions) -> Box<dyn Format>,
}

/// What formats want to know.
#[derive(Clone, Debug, Default)]
pub struct FormatOptions {
    /// Names the run in documents.
    pub run: u32,
    /// What columns show.
    pub text: TextOptions,
}

/// One line for each.
pub const FORMATS: &[FormatEntry] =
    &[json::FORMAT, ecs::FORMAT, otlp::file::FORMAT, csv::FORMAT, table::FORMAT];

/// The format of a name.
pub fn format(name: &str) -> Option<&'static FormatEntry> {
    FORMATS.iter().find(|format| format.name == name)
}
