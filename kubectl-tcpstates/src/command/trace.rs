//! `trace`: makes a trace, shows its lines as they come, removes it.

use std::collections::BTreeSet;
use std::time::Duration;

use kube_tcpstates_crds::duration;
use tokio::time::Instant;

use super::made::{Chosen, Made};
use super::progress::{self, Progress};
use super::whose::{is_of, node_of};
use crate::args::TraceArguments;
use crate::edge::api::Cluster;
use crate::edge::screen::{Reader, Screen};
use crate::edge::signals::Signals;
use crate::edge::source::{Piece, Source, Stream};
use crate::heard::{Ear, End, Said};
use crate::spec;
use crate::standing::Attachment;
use crate::trouble::Trouble;

/// What agents write when a trace is gone comes within this.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Runs it to its end.
pub(super) async fn run(cluster: &Cluster, arguments: &TraceArguments) -> Result<(), Trouble> {
    let length = spec::length(arguments)?;
    if arguments.target.target.is_none() && arguments.target.selector.is_none() {
        return Err(Trouble::new("say whose connections: deploy/NAME, pod/NAME, or labels with -l"));
    }
    let spec = spec::of_trace(arguments)?;
    let chosen = Chosen::find(cluster, &arguments.target).await?;
    let mut signals = Signals::new()?;
    let (made, source) = Made::make(cluster, &chosen, spec).await?;
    let mut showing = Showing::new(&made, source, Screen::new(arguments.output.output));
    showing.only_pod.clone_from(&chosen.wanted.only_pod);
    showing.begin(length, arguments.for_.is_some());

    let mut stream = source.open(cluster, made.lines());
    let shown = showing.until_end(cluster, &made, &chosen, &mut stream, &mut signals, length).await;
    let removed = made.remove(&mut signals).await;
    if matches!(shown, Ok(Reader::There)) && removed.is_ok() {
        let _ = showing.last_lines(&mut stream, &mut signals).await;
    }
    showing.end(&made, removed.is_ok());
    removed.and(shown.map(drop))
}

/// Shows what comes.
struct Showing {
    ear: Ear,
    screen: Screen,
    source: Source,
    only_pod: Option<String>,
    /// What troubled the reading, and no line has come since.
    unread: bool,
    /// How far the agents are, as they report, and what was last said of it.
    attachment: Option<Attachment>,
    said: String,
    /// Nodes that a line has come from.
    heard: BTreeSet<String>,
}

impl Showing {
    fn new(made: &Made, source: Source, screen: Screen) -> Self {
        Self {
            ear: Ear::new(made.name.clone(), source.from()),
            screen,
            source,
            only_pod: None,
            unread: false,
            attachment: None,
            said: String::new(),
            heard: BTreeSet::new(),
        }
    }

    fn begin(&self, length: Duration, has_end: bool) {
        self.screen.say(self.source.sentence());
        if let Some(pod) = &self.only_pod {
            self.screen.say(&format!(
                "pods with the same labels are traced as well; those of {pod} alone are shown"
            ));
        }
        let until = if has_end { "" } else { "until Ctrl-C, at most " };
        self.screen.say(&format!("tracing {until}{}", duration::format(length)));
    }

    async fn until_end(
        &mut self,
        cluster: &Cluster,
        made: &Made,
        chosen: &Chosen,
        stream: &mut Stream,
        signals: &mut Signals,
        length: Duration,
    ) -> Result<Reader, Trouble> {
        let (mut steps, _watching) = progress::watch(cluster, &made.name, &made.uid, chosen.nodes.as_ref());
        let deadline = Instant::now() + length;
        loop {
            tokio::select! {
                () = signals.next() => return Ok(Reader::There),
                () = tokio::time::sleep_until(deadline) => return Ok(Reader::There),
                Some(step) = steps.recv() => match step {
                    Progress::Step(attachment) => {
                        self.attachment = Some(attachment);
                        self.say_attached();
                    }
                    Progress::Slow(text) => self.screen.warn(&text),
                    Progress::Refused(why) => return Err(Trouble::new(format!("the trace is refused: {why}"))),
                },
                piece = stream.pieces.recv() => {
                    let Some(piece) = piece else {
                        return Err(Trouble::new("no more lines can be read"));
                    };
                    if self.take(piece)? == Reader::Gone {
                        return Ok(Reader::Gone);
                    }
                }
            }
        }
    }

    /// A node that a line comes from traces, whatever its agent's last report says.
    fn heard_of(&mut self, node: Option<&str>) {
        let Some(node) = node else { return };
        if !self.heard.contains(node) {
            self.heard.insert(node.to_owned());
            self.say_attached();
        }
    }

    fn say_attached(&mut self) {
        let Some(attachment) = &self.attachment else { return };
        let sentence = attachment.sentence(self.heard.len());
        if sentence != self.said {
            self.screen.say(&sentence);
            self.said = sentence;
        }
    }

    /// What is on its way when the trace is gone already.
    async fn last_lines(&mut self, stream: &mut Stream, signals: &mut Signals) -> Result<(), Trouble> {
        let deadline = Instant::now() + LAST_LINES;
        loop {
            tokio::select! {
                () = signals.next() => return Ok(()),
                () = tokio::time::sleep_until(deadline) => return Ok(()),
                piece = stream.pieces.recv() => {
                    let Some(piece) = piece else { return Ok(()) };
                    if self.take(piece)? == Reader::Gone {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn take(&mut self, piece: Piece) -> Result<Reader, Trouble> {
        let (node, text) = match piece {
            Piece::Line { node, text } => (node, text),
            Piece::Trouble(text) => {
                self.screen.warn(&text);
                self.unread = true;
                return Ok(Reader::There);
            }
        };
        self.unread = false;
        for said in self.ear.hear(&node, &text) {
            match said {
                Said::Event(line) if is_of(&line, self.only_pod.as_deref()) => {
                    self.heard_of(node_of(&line));
                    if self.screen.line(&text, &line)? == Reader::Gone {
                        return Ok(Reader::Gone);
                    }
                }
                Said::Event(_) | Said::End(End::Complete | End::Deleted) => {}
                Said::Missing(text) | Said::End(End::Broken(text)) => self.screen.warn(&text),
            }
        }
        Ok(Reader::There)
    }

    fn end(&self, made: &Made, is_removed: bool) {
        let lines = self.screen.shown;
        let lost = match self.ear.lost() {
            0 if self.unread => "the rest could not be read".to_owned(),
            lost if self.unread => format!("{lost} transitions lost, the rest could not be read"),
            0 => "nothing is known to be lost".to_owned(),
            lost => format!("{lost} transitions lost"),
        };
        let removed =
            if is_removed { format!("; the trace {} is removed", made.name.name) } else { String::new() };
        self.screen.say(&format!("{lines} lines, {lost}{removed}"));
    }
}
