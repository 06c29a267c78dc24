//! The outlets there are.

use std::sync::Arc;

use super::{OtlpTarget, Outlet, Outlets, RunId, Witness, journald, otlp, stdout};
use crate::render::{FormatEntry, TextOptions};

/// One line for each; the first is the run's own.
const OUTLETS: &[Open] = &[stdout::open, journald::open, otlp::open];

/// What the command line asks of outlets.
#[derive(Clone)]
pub struct Asked {
    /// Names the run.
    pub run: RunId,
    /// The format of stdout.
    pub format: &'static FormatEntry,
    /// What columns show, in a format that has any.
    pub text: TextOptions,
    /// Bytes that may wait for stdout.
    pub queue_bytes: usize,
    /// Also to the systemd journal.
    pub journal: bool,
    /// Also to an OpenTelemetry endpoint.
    pub otlp: Option<OtlpTarget>,
    /// Told of every write to stdout.
    pub witness: Option<Witness>,
}

/// Told when the run's own outlet ends by itself, on a thread of its own.
pub type OnEnd = Arc<dyn Fn() + Send + Sync>;

/// Opens an outlet, if it is asked for.
pub(super) type Open = fn(&Asked, OnEnd) -> anyhow::Result<Option<Box<dyn Outlet>>>;

/// Opens all that are asked for.
pub fn open(asked: &Asked, on_end: &OnEnd) -> anyhow::Result<Outlets> {
    let mut all = OUTLETS.iter().filter_map(|open| open(asked, Arc::clone(on_end)).transpose());
    let own = all.next().unwrap_or_else(|| Err(anyhow::anyhow!("no outlet is asked for")))?;
    all.try_fold(Outlets::new(own), |outlets, outlet| Ok(outlets.and(outlet?)))
}
