//! The run's own outlet: lines on stdout, in one of the formats.

use std::io::Write as _;
use std::time::Duration;

use kube_tcpstates_events::{Line, Lost};

use super::{Asked, Finished, Offer, OnEnd, Outlet, Queue, Stderr, Totals, queue::stdout_of_process};
use crate::render::{Event, Format, FormatOptions, ended::Ended, split_lost};

/// Renders events and queues them for the thread that writes.
pub struct Stdout {
    queue: Queue,
    format: Box<dyn Format>,
    columns: bool,
}

/// Always asked for.
pub(super) fn open(asked: &Asked, on_end: OnEnd) -> anyhow::Result<Option<Box<dyn Outlet>>> {
    let queue =
        Queue::start_for(asked.format.longest, stdout_of_process()?, asked.queue_bytes, move |_| on_end())?
            .witnessed(asked.witness.clone());
    let options = FormatOptions { run: asked.run.number(), text: asked.text.clone() };
    Ok(Some(Box::new(Stdout::new(queue, (asked.format.make)(&options), asked.format.columns))))
}

impl Stdout {
    /// `columns`: the format has no lines but those of transitions, and a header above them.
    pub fn new(queue: Queue, format: Box<dyn Format>, columns: bool) -> Self {
        Self { queue, format, columns }
    }

    /// What a format of columns cannot say is said on stderr, if a person at a terminal should know it.
    fn beside_columns(&mut self, line: &Line) -> Offer {
        match line {
            Line::Start(_) => {
                let format = &self.format;
                return self.queue.control(|out, _| format.header(out));
            }
            Line::Summary(_) => {
                let format = &self.format;
                return self.queue.control(|out, _| format.line(out, line));
            }
            Line::Lost(lost) => {
                let lost = &lost.tcpstates.lost;
                let places = &lost.by_place;
                // Nobody may be listening there; that must not stop anything.
                let _ = writeln!(
                    Stderr,
                    "lost {} transitions (ring {}, recursion {}, queue {}, write {} since the start)",
                    lost.since_last, places.ring, places.recursion, places.queue, places.write
                );
            }
            _ => {}
        }
        Offer::Accepted
    }

    fn numbered(&mut self, mut line: Line) -> Offer {
        let format = &self.format;
        self.queue.control(|out, seq| {
            line.set_seq(seq);
            format.line(out, &line);
        })
    }
}

impl Outlet for Stdout {
    fn name(&self) -> &'static str {
        "stdout"
    }

    fn transition(&mut self, event: &Event<'_>) -> Offer {
        let format = &mut self.format;
        self.queue.line(1, |out, seq| format.transition(out, seq, event))
    }

    fn connection(&mut self, event: &Event<'_>, ended: &Ended<'_>) -> Offer {
        let format = &mut self.format;
        self.queue.line(1, |out, seq| format.connection(out, seq, event, ended))
    }

    fn line(&mut self, line: &Line) -> Offer {
        if self.columns {
            return self.beside_columns(line);
        }
        match line {
            Line::Log(_) => {
                let format = &self.format;
                self.queue.note(|out| format.line(out, line))
            }
            Line::Lost(lost) => {
                let mut offer = Offer::Accepted;
                for part in split_lost(Lost::clone(lost)) {
                    offer = self.numbered(Line::Lost(Box::new(part)));
                    if offer != Offer::Accepted {
                        break;
                    }
                }
                offer
            }
            _ => self.numbered(line.clone()),
        }
    }

    fn flush(&mut self) {
        self.queue.flush();
    }

    fn totals(&self) -> Totals {
        self.queue.totals()
    }

    fn is_behind(&self) -> bool {
        self.queue.is_behind()
    }

    fn is_over(&self) -> bool {
        self.queue.has_ended()
    }

    fn finish(self: Box<Self>, within: Duration) -> Finished {
        self.queue.finish(within)
    }
}
