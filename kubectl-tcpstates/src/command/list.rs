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
    let spec = spec::of_list(arguments)?;
    let chosen = Chosen::find(cluster, &arguments.target).await?;
    let mut signals = Signals::new()?;
    let (made, source) = Made::make(cluster, &chosen, spec).await?;
    let mut screen = Screen::new(arguments.output.output);
    screen.say(source.sentence());
    let mut stream = source.open(cluster, made.lines());
    let mut asked = Asked::new(Ear::new(made.name.clone(), source.from()), &chosen);
    let waited = asked.wait(cluster, &made, &chosen, &mut stream, &mut signals, timeout, &screen).await;
    drop(stream);
    let removed = made.remove(&mut signals).await;
    let waited = waited?;
    asked.require_answer(waited, timeout)?;
    asked.show(&mut screen, arguments, waited)?;
    removed
}

/// Why it is not waited any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    /// All have answered that are known, or nothing more comes, or the time is over.
    Enough,
    /// Somebody wants to see what there is.
    Interrupted,
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
    ) -> Result<Waited, Trouble> {
        let (mut steps, _watching) = progress::watch(cluster, &made.name, &made.uid, chosen.nodes.as_ref());
        let mut deadline = Instant::now() + timeout;
        while !self.is_done() {
            tokio::select! {
                () = signals.next() => return Ok(Waited::Interrupted),
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
        Ok(Waited::Enough)
    }

    /// That nobody has answered in time is a failure.
    fn require_answer(&self, waited: Waited, timeout: Duration) -> Result<(), Trouble> {
        if waited == Waited::Interrupted || !self.ends.is_empty() {
            return Ok(());
        }
        Err(Trouble::new(format!(
            "no node has answered within {} s: see kubectl tcpstates status, or wait longer with --timeout",
            timeout.as_secs()
        )))
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
    fn show(mut self, screen: &mut Screen, arguments: &ListArguments, waited: Waited) -> Result<(), Trouble> {
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
        for sentence in self.unanswered(waited) {
            screen.warn(&sentence);
        }
        Ok(())
    }

    /// Which nodes are missing; of a wait that was cut short, how many.
    fn unanswered(&self, waited: Waited) -> Vec<String> {
        let answered = self.ends.len();
        match (waited, &self.open) {
            (Waited::Enough, open) => {
                let sentence = |node| format!("{node}: has not answered; see kubectl tcpstates status");
                open.iter().flatten().map(sentence).collect()
            }
            (Waited::Interrupted, Some(open)) => {
                let all = answered + open.len();
                vec![format!("interrupted: {} of {all} nodes have not answered", open.len())]
            }
            (Waited::Interrupted, None) => vec![format!(
                "interrupted: {answered} nodes have answered; how many have not is not known without the right to list pods"
            )],
        }
    }
}

fn name_of(end: &Snapshot) -> Option<&str> {
    Some(&end.k8s.as_ref()?.node.as_ref()?.name)
}

#[cfg(test)]
mod tests {
    use kube_tcpstates_events::{K8s, Named};

    use super::*;
    use crate::heard::From;

    /// `a` has answered, the others have not.
    fn asked(others: Option<&[&str]>, answered: bool) -> Asked {
        let node = Some(Named { name: "a".to_owned() });
        let end = Snapshot { k8s: Some(Box::new(K8s { node, ..K8s::default() })), ..Snapshot::default() };
        Asked {
            ear: Ear::new("t".parse().unwrap(), From::Api),
            only_pod: None,
            open: others.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            lines: Vec::new(),
            ends: if answered { vec![end] } else { Vec::new() },
        }
    }

    #[test]
    fn who_interrupts_sees_what_has_been_answered_and_how_many_have_not() {
        let second = Duration::from_secs(1);
        for (others, answered, sentence) in [
            (Some(&["b", "c"][..]), true, "interrupted: 2 of 3 nodes have not answered"),
            (Some(&["b"]), false, "interrupted: 1 of 1 nodes have not answered"),
            (None, true, "interrupted: 1 nodes have answered; how many have not is not known"),
        ] {
            let asked = asked(others, answered);
            assert_eq!(asked.require_answer(Waited::Interrupted, second), Ok(()));
            let [said] = &asked.unanswered(Waited::Interrupted)[..] else { panic!("{others:?}") };
            assert!(said.starts_with(sentence), "{said}");
        }
    }

    #[test]
    fn who_waits_to_the_end_is_told_each_node_that_has_not() {
        let second = Duration::from_secs(1);
        let said = asked(Some(&["b"]), true).unanswered(Waited::Enough);
        assert_eq!(said, ["b: has not answered; see kubectl tcpstates status"]);
        let none = asked(Some(&["b"]), false).require_answer(Waited::Enough, second).unwrap_err();
        assert!(none.to_string().contains("no node has answered within 1 s"), "{none}");
    }
}
