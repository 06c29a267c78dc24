//! Takes lines in, one after the other.

use std::collections::BTreeMap;
use std::iter;

use jiff::Timestamp;

use crate::accounts::{Key, Set, Sets, Source};
use crate::figures::Figures;
use crate::foreign::{self, Format};
use crate::from_api::FromApi;
use crate::line::{Direction, Line, Notice, Text};
use crate::open::{Looks, Queue};
use crate::outcome::{of_transition, place_of};
use crate::page::counted;
use crate::pairs::{Ends, Pairs};
use crate::runs::{End, Runs};
use crate::timeline::Timeline;
use crate::who::{self, Addresses, Side};

/// What the report is about.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Its headline.
    pub title: Option<String>,
    /// Only lines of this trace: `namespace/name`, or the name of a cluster trace.
    pub trace: Option<String>,
}

/// A report that is being made.
#[derive(Debug, Default)]
pub struct Report {
    pub(crate) options: Options,
    pub(crate) runs: Runs,
    /// What the lines API says of its answer.
    pub(crate) told: FromApi,
    /// Which traces lines were of.
    pub(crate) sets: Sets,
    /// By who tells it: what ended when.
    pub(crate) timelines: BTreeMap<Key, Timeline>,
    pub(crate) pairs: Pairs,
    pub(crate) addresses: Addresses,
    pub(crate) looks: Looks,
    pub(crate) input: Input,
    scratch: Scratch,
}

/// What came.
#[derive(Debug, Default)]
pub(crate) struct Input {
    pub lines: u64,
    /// Lines of ours that are in the report.
    pub ours: u64,
    /// Lines that are not ours.
    pub foreign: u64,
    /// Those of them that are of `-o ecs`.
    pub ecs: u64,
    /// Those of them that are of `-o otlp-json`.
    pub otlp: u64,
    /// Lines that came before.
    pub twice: u64,
    /// Lines of other traces than the one asked for.
    pub other_traces: u64,
    /// Lines that name others and not all: the one asked for may be one of those that are not named.
    pub unnamed: u64,
    /// Files that end in the middle of a line.
    pub cut: u64,
    /// The last line of the file is not ours: perhaps half of one that is.
    last_was_foreign: bool,
    /// From the first to the last event, by the clock of the nodes.
    pub span: Option<(Timestamp, Timestamp)>,
}

/// Names of the line at hand, kept for their memory.
#[derive(Debug)]
struct Scratch {
    ends: Ends,
    other: String,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { ends: Ends { client: String::new(), server: String::new(), port: 0 }, other: String::new() }
    }
}

impl Report {
    /// A report of nothing yet.
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// Why there is nothing to report, when none of the lines was of kube-tcpstates.
    pub fn nothing(&self) -> Option<String> {
        let input = &self.input;
        if input.lines > input.foreign.saturating_add(input.cut) {
            return None;
        }
        if input.lines == 0 {
            return Some("there is no line to report of".to_owned());
        }
        let one = format!("no line of kube-tcpstates is among {} that came", counted(input.lines, "line"));
        Some(iter::once(one).chain(input.other_formats()).collect::<Vec<_>>().join("; "))
    }

    /// Takes a line, without its end.
    pub(crate) fn line(&mut self, bytes: &[u8]) {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        self.input.lines += 1;
        self.input.last_was_foreign = false;
        let unwrapped = foreign::unwrap(bytes);
        let bytes = unwrapped.as_deref().map_or(bytes, str::as_bytes);
        if let Some(line) = Line::read(bytes) {
            self.take(&line);
        } else if let Some(notice) = Notice::read(bytes) {
            if !self.told.take(bytes, &notice, &mut self.runs) {
                self.input.twice += 1;
            }
        } else {
            self.input.last_was_foreign = true;
            self.input.foreign += 1;
            match Format::of(bytes) {
                Some(Format::Ecs) => self.input.ecs += 1,
                Some(Format::Otlp) => self.input.otlp += 1,
                None => {}
            }
        }
    }

    /// A file has ended; `in_a_line` when its last line had no end.
    pub(crate) fn end_of_file(&mut self, in_a_line: bool) {
        if in_a_line && std::mem::take(&mut self.input.last_was_foreign) {
            self.input.foreign = self.input.foreign.saturating_sub(1);
            self.input.cut += 1;
        }
    }

    fn take(&mut self, line: &Line<'_>) {
        let told = &line.tcpstates;
        if let Some(run) = told.run.as_deref().and_then(|run| self.runs.of(run)) {
            if told.seq.is_some_and(|seq| !run.note(seq)) {
                self.input.twice += 1;
                return;
            }
            let node = line.k8s.as_ref().and_then(|k8s| k8s.node.as_ref());
            if let (None, Some(node)) = (&run.node, node) {
                run.node = Some((*node.name).to_owned());
            }
            run.hear(line);
        }
        if self.is_of_another_trace(line) {
            let may_be_ours = self.may_be_ours(line);
            *if may_be_ours { &mut self.input.unnamed } else { &mut self.input.other_traces } += 1;
            return;
        }
        self.input.ours += 1;
        let Some(time) = time_of(line) else { return };
        match &*told.kind {
            "connection" => self.connection(line, time),
            "summary" => self.summary(line, time),
            "transition" => self.transition(line, time),
            "socket" => self.socket(line),
            "listener" => self.listener(line),
            "snapshot" => self.snapshot(line),
            _ => {}
        }
    }

    fn is_of_another_trace(&self, line: &Line<'_>) -> bool {
        let Some(wanted) = &self.options.trace else { return false };
        let told = &line.tcpstates;
        let is_of_traces = matches!(
            &*told.kind,
            "connection" | "summary" | "transition" | "socket" | "listener" | "time_wait" | "snapshot"
        );
        is_of_traces && !told.traces.iter().chain(&told.cluster_traces).any(|trace| **trace == **wanted)
    }

    /// Of a line that does not name the trace asked for. A trace of a namespace has lines of that namespace's pods alone.
    fn may_be_ours(&self, line: &Line<'_>) -> bool {
        let wanted = self.options.trace.as_deref().unwrap_or_default();
        let namespace =
            line.k8s.as_ref().and_then(|k8s| k8s.namespace.as_ref()).map(|namespace| &*namespace.name);
        let is_there = wanted.split_once('/').is_none_or(|(wanted, _)| Some(wanted) == namespace);
        line.tcpstates.traces_omitted.is_some_and(|omitted| omitted > 0) && is_there
    }

    fn connection(&mut self, line: &Line<'_>, time: Timestamp) {
        let told = &line.tcpstates;
        let outcome = place_of(told.outcome.as_deref().unwrap_or_default());
        let is_failed = outcome != 0;
        let (side, figures) = self.ended(line, Source::Connections, time, outcome, 1);
        exchange(figures, side, told.sent, told.received);
        figures.retransmits = figures.retransmits.saturating_add(told.retransmits.unwrap_or(0));
        if let Some(us) = told.handshake_us {
            figures.handshakes.add(us);
        }
        if let Some(us) = told.idle_us {
            figures.idle.add(us);
            if is_failed {
                figures.idle_failed.add(us);
            }
        }
    }

    fn summary(&mut self, line: &Line<'_>, time: Timestamp) {
        let Some(summary) = &line.tcpstates.summary else { return };
        for (outcome, count) in &summary.by_outcome {
            self.ended(line, Source::Summaries, time, place_of(outcome), *count);
        }
        if summary.connections == 0 {
            return;
        }
        let (side, figures) = self.ended(line, Source::Summaries, time, 0, 0);
        exchange(figures, side, summary.sent, summary.received);
        figures.retransmits = figures.retransmits.saturating_add(summary.retransmits.unwrap_or(0));
        if let Some(times) = summary.handshake {
            // A line has their mean and the longest: the longest is one of them, the rest are put at the mean.
            figures.handshakes.add_many(times.mean_us, times.count.saturating_sub(1));
            figures.handshakes.add_many(times.max_us, times.count.min(1));
        }
    }

    fn transition(&mut self, line: &Line<'_>, time: Timestamp) {
        let told = &line.tcpstates;
        let old = told.old_state.as_deref().unwrap_or_default();
        match told.new_state.as_deref() {
            Some("CLOSE") if !matches!(old, "LISTEN" | "CLOSE") => {
                let error = line.error.as_ref().map(|error| &*error.kind);
                self.ended(line, Source::Transitions, time, place_of(of_transition(old, error)), 1);
            }
            Some("ESTABLISHED") => {
                let took = told.state_duration_us;
                let (_, figures) = self.ended(line, Source::Transitions, time, 0, 0);
                if let Some(us) = took {
                    figures.handshakes.add(us);
                }
            }
            _ => {}
        }
    }

    /// Connections of this line's ends have ended so. Returns the side that tells of them, and their figures.
    fn ended(
        &mut self,
        line: &Line<'_>,
        source: Source,
        time: Timestamp,
        outcome: usize,
        count: u64,
    ) -> (Side, &mut Figures) {
        self.input.see(time);
        let side = Side::of(line.tcpstates.role.as_deref());
        // Where one trace is asked for, all lines are in its account.
        let set = if self.options.trace.is_some() { Set::default() } else { self.sets.of(line) };
        let key = Key { source, side, set };
        let scratch = &mut self.scratch;
        name_ends(line, side, scratch);
        let owner = if side == Side::Server { &scratch.ends.server } else { &scratch.ends.client };
        self.addresses.learn(line, owner);
        if count > 0 {
            let second = u64::try_from(time.as_second()).unwrap_or(0);
            self.timelines.entry(key).or_default().add(second, outcome, count);
        }
        let figures = self.pairs.of(&self.scratch.ends, key, &self.sets);
        figures.by_outcome[outcome] = figures.by_outcome[outcome].saturating_add(count);
        (side, figures)
    }

    fn socket(&mut self, line: &Line<'_>) {
        let told = &line.tcpstates;
        who::owner(line, &mut self.scratch.other);
        let state = told.state.as_deref().unwrap_or("ESTABLISHED");
        let run = told.run.as_deref().unwrap_or_default();
        for trace in looking(line, &self.options) {
            self.looks.socket(run, trace, &self.scratch.other, state, told.state_age_us);
        }
    }

    fn snapshot(&mut self, line: &Line<'_>) {
        let run = line.tcpstates.run.as_deref().unwrap_or_default();
        for trace in looking(line, &self.options) {
            self.looks.end(run, trace, &line.time);
        }
    }

    fn listener(&mut self, line: &Line<'_>) {
        let told = &line.tcpstates;
        let Some(queue) = told.accept_queue else { return };
        who::owner(line, &mut self.scratch.other);
        let queue = Queue {
            owner: self.scratch.other.clone(),
            port: line.network.local.as_ref().and_then(|local| local.port).unwrap_or(0),
            length: queue.length.unwrap_or(0),
            limit: queue.limit.unwrap_or(0),
            drops: queue.drops,
        };
        let run = told.run.as_deref().unwrap_or_default();
        for trace in looking(line, &self.options) {
            self.looks.listener(run, trace, &queue);
        }
    }
}

impl Input {
    /// Of lines in a format that is not read, a sentence each.
    pub(crate) fn other_formats(&self) -> Vec<String> {
        [(self.ecs, "ecs"), (self.otlp, "otlp-json")]
            .into_iter()
            .filter(|(lines, _)| *lines > 0)
            .map(|(lines, format)| format!("{} of -o {format}: report reads -o json", counted(lines, "line")))
            .collect()
    }

    fn see(&mut self, time: Timestamp) {
        let (first, last) = self.span.unwrap_or((time, time));
        self.span = Some((first.min(time), last.max(time)));
    }
}

impl crate::runs::Run {
    /// What the run says of itself.
    fn hear(&mut self, line: &Line<'_>) {
        let told = &line.tcpstates;
        self.said.hear(line);
        self.is_own_log |= matches!(&*told.kind, "start" | "lost" | "heartbeat" | "log");
        self.inexact |= told.exact == Some(false);
        if told.is_final {
            self.end = End::Came;
        }
    }
}

/// The traces whose look a line is of, those that were asked for; of what no trace asked for, one without a name.
fn looking<'a>(line: &'a Line<'_>, options: &Options) -> Vec<&'a str> {
    let told = &line.tcpstates;
    let all = told.traces.iter().chain(&told.cluster_traces).map(|trace| &**trace);
    let mut asked: Vec<&str> =
        all.filter(|trace| options.trace.as_deref().is_none_or(|wanted| wanted == *trace)).collect();
    if asked.is_empty() {
        asked.push("");
    }
    asked
}

/// Bytes as client and server exchanged them.
fn exchange(figures: &mut Figures, side: Side, sent: Option<Direction>, received: Option<Direction>) {
    let [sent, received] = [sent, received].map(|direction| direction.map_or(0, |direction| direction.bytes));
    let (to_server, to_client) = if side == Side::Server { (received, sent) } else { (sent, received) };
    figures.to_server = figures.to_server.saturating_add(to_server);
    figures.to_client = figures.to_client.saturating_add(to_client);
}

/// Who connected to whom. Where the side is not known the owner is put in the client's place.
fn name_ends(line: &Line<'_>, side: Side, scratch: &mut Scratch) {
    let Scratch { ends, other } = scratch;
    let (local, peer) = (line.network.local.as_ref(), line.network.peer.as_ref());
    let (mine, theirs, port) = match side {
        Side::Server => (&mut ends.server, &mut ends.client, local),
        Side::Client | Side::Unknown => (&mut ends.client, &mut ends.server, peer),
    };
    ends.port = port.and_then(|end| end.port).unwrap_or(0);
    who::owner(line, mine);
    if mine.is_empty() {
        address_of(local.and_then(|end| end.address.as_ref()), mine);
    }
    if who::peer(line, other) {
        other.clone_into(theirs);
    } else {
        address_of(peer.and_then(|end| end.address.as_ref()), theirs);
    }
}

fn address_of(address: Option<&Text<'_>>, name: &mut String) {
    name.clear();
    name.push_str(address.map_or("unknown", |address| &**address));
}

fn time_of(line: &Line<'_>) -> Option<Timestamp> {
    line.time.parse().ok()
}

#[cfg(test)]
#[path = "take_tests.rs"]
mod tests;
