//! OpenTelemetry logs to an endpoint (`--otlp-endpoint`), beside stdout: OTLP over HTTP, protobuf.
//!
//! ```text
//! event ─► Otlp: a JSON line, numbered ─► queue, bounded in bytes ─► thread: Batch (render/otlp) ─► gzip ─► POST
//!                                                                       ▲                                 │
//!                                                                       └── again: 429, 502, 503, 504, ◄──┘
//!                                                                           nobody there
//! ```
//!
//! Whoever hands a line in never waits. A line that finds no room is lost here and counted; so is what the endpoint
//! refuses for good, and what still waits when the run ends. The lines are numbered for this outlet alone, so that a gap
//! in what the store has is a loss on the way.

mod post;
mod queue;
mod sender;
mod target;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use kube_tcpstates_events::Line;

pub use self::post::{Verdict, verdict};
use self::queue::Queue;
pub use self::target::{OtlpTarget, from_environment};
use super::writer::End;
use super::{Asked, Finished, Offer, OnEnd, Outlet, Totals};
use crate::render::{Event, Format, FormatOptions, ended::Ended, format};

/// Makes lines for the thread that sends.
struct Otlp {
    format: Box<dyn Format>,
    queue: Queue,
    seq: u64,
}

/// Asked for with an endpoint.
pub(super) fn open(asked: &Asked, _: OnEnd) -> anyhow::Result<Option<Box<dyn Outlet>>> {
    let Some(target) = &asked.otlp else { return Ok(None) };
    let json = format("json").context("there is no JSON format")?;
    let options = FormatOptions { run: asked.run.number(), text: asked.text.clone() };
    let queue = sender::start(target.clone()).context("starting to send OpenTelemetry logs")?;
    Ok(Some(Box::new(Otlp { format: (json.make)(&options), queue, seq: 0 })))
}

impl Otlp {
    fn offer(&mut self, is_event: bool, render: impl FnOnce(&mut dyn Format, &mut Vec<u8>, u64)) -> Offer {
        // A line that finds no room must not use up a number: that would look like a loss in the store.
        if !self.queue.has_room(is_event) {
            return Offer::Full;
        }
        let mut line = Vec::with_capacity(1024);
        render(&mut *self.format, &mut line, self.seq + 1);
        self.seq += 1;
        self.queue.push(line, is_event);
        Offer::Accepted
    }
}

impl Outlet for Otlp {
    fn name(&self) -> &'static str {
        "otlp"
    }

    fn transition(&mut self, event: &Event<'_>) -> Offer {
        self.offer(true, |format, out, seq| format.transition(out, seq, event))
    }

    fn connection(&mut self, event: &Event<'_>, ended: &Ended<'_>) -> Offer {
        self.offer(true, |format, out, seq| format.connection(out, seq, event, ended))
    }

    fn line(&mut self, line: &Line) -> Offer {
        let mut line = line.clone();
        // A diagnostic has no number.
        if matches!(line, Line::Log(_)) {
            let mut out = Vec::new();
            self.format.line(&mut out, &line);
            if self.queue.has_room(false) {
                self.queue.push(out, false);
            }
            return Offer::Accepted;
        }
        self.offer(false, |format, out, seq| {
            line.set_seq(seq);
            format.line(out, &line);
        })
    }

    fn flush(&mut self) {}

    fn totals(&self) -> Totals {
        self.queue.totals()
    }

    fn ends_by(&mut self, deadline: Instant) {
        self.queue.ends_by(deadline);
    }

    fn is_over(&self) -> bool {
        // An endpoint that is away may come back.
        false
    }

    fn finish(self: Box<Self>, within: Duration) -> Finished {
        Finished { totals: self.queue.finish(within), end: End::Drained }
    }
}

#[cfg(test)]
mod tests;
