//! The run's own outlet: lines on stdout, in one of the formats.

use std::time::Duration;

use kube_tcpstates_events::{ByPlace, Line, Loss, Lost};

use super::{Asked, Finished, Offer, OnEnd, Outlet, Queue, Totals, queue::stdout_of_process, say};
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
            Line::Lost(lost) => say(&in_words(&lost.tcpstates.lost)),
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

/// Losses for a person. Not of an agent, the only one that limits lines and waits for names: it has no columns.
fn in_words(lost: &Loss) -> String {
    let since_last = lost.since_last;
    let ByPlace { ring, recursion, queue, write, restart, rate: _, identity: _ } = lost.by_place;
    format!(
        "lost {since_last} transitions (ring {ring}, recursion {recursion}, queue {queue}, write {write}, \
         restart {restart} since the start)"
    )
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

#[cfg(test)]
mod tests {
    use kube_tcpstates_events::{ByPlace, Loss};

    use super::in_words;

    #[test]
    fn every_place_that_a_command_can_lose_at_is_told() {
        let by_place =
            ByPlace { ring: 1, recursion: 2, queue: 3, write: 4, restart: 5, rate: 0, identity: 0 };
        let lost = Loss { since_last: 15, total: by_place.total(), by_place, ..Loss::default() };
        assert_eq!(
            in_words(&lost),
            "lost 15 transitions (ring 1, recursion 2, queue 3, write 4, restart 5 since the start)"
        );
    }
}
