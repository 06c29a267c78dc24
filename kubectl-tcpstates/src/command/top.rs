//! `top`: who talks to whom now, by a trace of which every node tells sums and what is open every ten seconds.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, stdout};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::made::{Chosen, Made};
use super::progress::{self, Progress};
use super::whose::is_of;
use crate::args::{Output, TopArguments};
use crate::edge::api::Cluster;
use crate::edge::screen::{Reader, Screen, write};
use crate::edge::signals::Signals;
use crate::edge::source::{Piece, Stream};
use crate::heard::{Ear, End, Said};
use crate::live::Nodes;
use crate::spec;
use crate::table;
use crate::trouble::Trouble;

/// Between two tables, where no terminal shows the last one.
const EVERY: Duration = Duration::from_secs(10);
/// On a terminal: nodes tell at different times.
const REDRAWN_EVERY: Duration = Duration::from_secs(1);
/// From a node's first look to its first sums, and what those need on their way.
const FIRST_SUMS: Duration = Duration::from_secs(13);
/// A node answers within this, or is not waited for.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// To the top left, and nothing behind.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

/// Runs it to its end.
pub(super) async fn run(cluster: &Cluster, arguments: &TopArguments) -> Result<(), Trouble> {
    let spec = spec::of_top(arguments)?;
    let chosen = Chosen::find(cluster, &arguments.target).await?;
    let mut signals = Signals::new()?;
    let (made, source) = Made::make(cluster, &chosen, spec).await?;
    let screen = Screen::new(Output::Table);
    screen.say(source.sentence());
    let until = if arguments.once { "" } else { "; until Ctrl-C, at most 15m" };
    screen.say(&format!("the first sums come after ten seconds{until}"));
    let mut stream = source.open(cluster, made.lines());
    let mut looking = Looking {
        ear: Ear::new(made.name.clone(), source.from()),
        told: Nodes::default(),
        begun: Instant::now(),
        only_pod: chosen.wanted.only_pod.clone(),
        is_terminal: stdout().is_terminal() && !arguments.once,
        screen,
    };
    let shown = looking.until_end(cluster, &made, &chosen, &mut stream, &mut signals, arguments).await;
    drop(stream);
    let removed = made.remove(&mut signals).await;
    removed.and(shown)
}

/// Shows what is told.
struct Looking {
    ear: Ear,
    told: Nodes,
    begun: Instant,
    only_pod: Option<String>,
    /// Each table in the last one's place.
    is_terminal: bool,
    screen: Screen,
}

impl Looking {
    async fn until_end(
        &mut self,
        cluster: &Cluster,
        made: &Made,
        chosen: &Chosen,
        stream: &mut Stream,
        signals: &mut Signals,
        arguments: &TopArguments,
    ) -> Result<(), Trouble> {
        let (mut steps, _watching) = progress::watch(cluster, &made.name, &made.uid, chosen.nodes.as_ref());
        let mut ticks = interval(if self.is_terminal || arguments.once { REDRAWN_EVERY } else { EVERY });
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = self.begun + spec::LONGEST;
        let (mut is_new, mut complete) = (false, None);
        loop {
            tokio::select! {
                () = signals.next() => return Ok(()),
                () = tokio::time::sleep_until(end) => return Ok(()),
                Some(step) = steps.recv() => match step {
                    Progress::Refused(why) => return Err(Trouble::new(format!("the trace is refused: {why}"))),
                    Progress::Slow(text) => self.screen.warn(&text),
                    Progress::Step(_) => {}
                },
                _ = ticks.tick() => {
                    if arguments.once {
                        if self.is_complete(&mut complete, chosen.nodes.as_ref())? {
                            return self.show(arguments).map(drop);
                        }
                    } else if std::mem::take(&mut is_new) && self.show(arguments)? == Reader::Gone {
                        return Ok(());
                    }
                }
                piece = stream.pieces.recv() => match piece {
                    Some(piece) => is_new |= self.take(piece),
                    None => return Err(Trouble::new("no more lines can be read")),
                }
            }
        }
    }

    /// Whether all nodes have told sums. `since` is when the last of them told for the first time what is open.
    fn is_complete(
        &self,
        since: &mut Option<Instant>,
        expected: Option<&BTreeSet<String>>,
    ) -> Result<bool, Trouble> {
        let looked: BTreeSet<&str> = self.told.looked().collect();
        let is_late = self.begun.elapsed() >= ANSWERS_WITHIN;
        let all = expected.map_or(!looked.is_empty(), |expected| {
            expected.iter().all(|node| looked.contains(node.as_str()))
        });
        if looked.is_empty() && is_late {
            return Err(Trouble::new(format!(
                "no node has answered within {} s: see kubectl tcpstates status",
                ANSWERS_WITHIN.as_secs()
            )));
        }
        if since.is_none() && (all || is_late) {
            *since = Some(Instant::now());
            for node in expected.into_iter().flatten().filter(|node| !looked.contains(node.as_str())) {
                self.screen.warn(&format!("{node}: has not answered; see kubectl tcpstates status"));
            }
        }
        Ok(since.is_some_and(|since| since.elapsed() >= FIRST_SUMS))
    }

    /// Returns whether there is something new to show.
    fn take(&mut self, piece: Piece) -> bool {
        let (node, text) = match piece {
            Piece::Line { node, text } => (node, text),
            Piece::Trouble(text) => {
                self.screen.warn(&text);
                return false;
            }
        };
        let mut is_new = false;
        for said in self.ear.hear(&node, &text) {
            match said {
                Said::Event(line) if is_of(&line, self.only_pod.as_deref()) => {
                    is_new |= self.told.take(&line, self.begun.elapsed());
                }
                Said::Event(_) | Said::End(End::Complete | End::Deleted) => {}
                Said::Missing(text) | Said::End(End::Broken(text)) => self.screen.warn(&text),
            }
        }
        is_new
    }

    fn show(&self, arguments: &TopArguments) -> Result<Reader, Trouble> {
        let mut now = self.told.now(self.begun.elapsed());
        now.sort(arguments.sort);
        let table = table::live(&now, arguments.rows, self.ear.lost(), Screen::paint());
        let before: &[u8] = if self.is_terminal { CLEAR } else { b"" };
        let behind: &[u8] = if self.is_terminal || arguments.once { b"" } else { b"\n" };
        write(&[before, &table, behind].concat())
    }
}
