//! `list`: what is open in pods now, by a trace that asks every node for a snapshot.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use kube_tcpstates_events::{Line, Snapshot};
use tokio::time::Instant;

use super::made::{Chosen, Made};
use super::progress::{self, Progress};
use super::whose::{is_of, node_of};
use crate::args::{ListArguments, Output};
use crate::edge::api::Cluster;
use crate::edge::screen::Screen;
use crate::edge::signals::Signals;
use crate::edge::source::{Piece, Stream};
use crate::heard::{Ear, End, Said};
use crate::spec;
use crate::table::snapshot_end;
use crate::trouble::Trouble;

/// A node of which nobody knows whether it has a pod answers within this after the others.
const OTHERS: Duration = Duration::from_secs(3);

/// Runs it to its end.
pub(super) async fn run(cluster: &Cluster, arguments: &ListArguments) -> Result<(), Trouble> {
    let timeout = spec::time("--timeout", &arguments.timeout)?;
    let chosen = Chosen::find(cluster, &arguments.target).await?;
    let spec = spec::of_list(arguments, chosen.wanted.selector.clone())?;
    let mut signals = Signals::new()?;
    let (made, source) = Made::make(cluster, &chosen, &spec).await?;
    let mut screen = Screen::new(arguments.output.output);
    screen.say(source.sentence());
    let mut stream = source.open(cluster, made.lines());
    let mut asked = Asked::new(Ear::new(made.name.clone(), source.from()), &chosen);
    let answered = asked.wait(cluster, &made, &chosen, &mut stream, &mut signals, timeout, &screen).await;
    drop(stream);
    let removed = made.remove(&mut signals).await;
    answered?;
    asked.show(&mut screen, arguments)?;
    removed
}

/// What the nodes have answered so far.
struct Asked {
    ear: Ear,
    only_pod: Option<String>,
    /// Nodes that have not; None where nobody knows which there are.
    open: Option<BTreeSet<String>>,
    lines: Vec<(String, Line)>,
    ends: Vec<Snapshot>,
}

impl Asked {
    fn new(ear: Ear, chosen: &Chosen) -> Self {
        Self {
            ear,
            only_pod: chosen.wanted.only_pod.clone(),
            open: chosen.nodes.clone(),
            lines: Vec::new(),
            ends: Vec::new(),
        }
    }

    fn is_done(&self) -> bool {
        self.open.as_ref().is_some_and(BTreeSet::is_empty)
    }

    #[expect(clippy::too_many_arguments, reason = "one loop over all that can happen")]
    async fn wait(
        &mut self,
        cluster: &Cluster,
        made: &Made,
        chosen: &Chosen,
        stream: &mut Stream,
        signals: &mut Signals,
        timeout: Duration,
        screen: &Screen,
    ) -> Result<(), Trouble> {
        let (mut steps, _watching) = progress::watch(cluster, &made.name, &made.uid, chosen.nodes.as_ref());
        let mut deadline = Instant::now() + timeout;
        while !self.is_done() {
            tokio::select! {
                () = signals.next() => return Err(Trouble::new("interrupted before all nodes had answered")),
                () = tokio::time::sleep_until(deadline) => break,
                Some(step) = steps.recv() => if let Progress::Refused(why) = step {
                    return Err(Trouble::new(format!("the trace is refused: {why}")));
                },
                piece = stream.pieces.recv() => match piece {
                    Some(Piece::Line { node, text }) => {
                        let before = self.ends.len();
                        self.take(&node, &text, screen);
                        if self.open.is_none() && self.ends.len() > before {
                            deadline = deadline.min(Instant::now() + OTHERS);
                        }
                    }
                    Some(Piece::Trouble(text)) => screen.warn(&text),
                    None => break,
                }
            }
        }
        if self.ends.is_empty() {
            return Err(Trouble::new(format!(
                "no node has answered within {} s: see kubectl tcpstates status, or wait longer with --timeout",
                timeout.as_secs()
            )));
        }
        Ok(())
    }

    fn take(&mut self, node: &str, text: &str, screen: &Screen) {
        for said in self.ear.hear(node, text) {
            match said {
                Said::Event(line) => match *line {
                    Line::Snapshot(end) => self.end(*end),
                    line => {
                        // What a node shows a second time is of its next snapshot.
                        if is_of(&line, self.only_pod.as_deref()) && !self.has_ended(&line) {
                            self.lines.push((text.to_owned(), line));
                        }
                    }
                },
                Said::Missing(text) | Said::End(End::Broken(text)) => screen.warn(&text),
                Said::End(_) => {}
            }
        }
    }

    fn has_ended(&self, line: &Line) -> bool {
        let node = node_of(line);
        self.ends.iter().any(|end| name_of(end) == node)
    }

    fn end(&mut self, end: Snapshot) {
        let node = name_of(&end).unwrap_or_default().to_owned();
        if let Some(open) = &mut self.open {
            open.remove(&node);
        }
        if !self.ends.iter().any(|known| name_of(known) == Some(&node)) {
            self.ends.push(end);
        }
    }

    /// Connections first, the longest idle first; then listeners, then what is passed.
    fn show(mut self, screen: &mut Screen, arguments: &ListArguments) -> Result<(), Trouble> {
        if arguments.output.output != Output::Json {
            self.lines.sort_by_key(|(_, line)| match line {
                Line::Socket(line) => (0, Reverse(line.tcpstates.idle_us)),
                Line::Listener(line) => (1, Reverse(line.tcpstates.accept_queue.length.map(u64::from))),
                _ => (2, Reverse(None)),
            });
        }
        for (text, line) in &self.lines {
            if screen.line(text, line)? == crate::edge::screen::Reader::Gone {
                return Ok(());
            }
        }
        self.ends.sort_by(|one, other| name_of(one).cmp(&name_of(other)));
        for end in &self.ends {
            let is_whole = end.tcpstates.sockets.left_out + end.tcpstates.listeners.left_out == 0;
            if is_whole && !end.tcpstates.incomplete {
                screen.say(&snapshot_end(end));
            } else {
                screen.warn(&snapshot_end(end));
            }
        }
        for node in self.open.iter().flatten() {
            screen.warn(&format!("{node}: has not answered; see kubectl tcpstates status"));
        }
        Ok(())
    }
}

fn name_of(end: &Snapshot) -> Option<&str> {
    Some(&end.k8s.as_ref()?.node.as_ref()?.name)
}
