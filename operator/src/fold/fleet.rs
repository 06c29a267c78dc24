//! All that is known of traces, nodes and reports, and the status of each trace that follows.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_tcpstates_client::Delta;
use kube_tcpstates_crds::status::{Condition, ConditionStatus};
use kube_tcpstates_crds::{TraceKind, TraceStatus};
use tokio::time::Instant;

use super::TraceKey;
use super::counts::Folded;
use super::objects::{NodeObject, Report, Trace};
use super::ready::{Verdict, accepted, condition, ready, whole};
use super::standing::{Standing, Word};
use super::{Now, bound};

/// An agent that traces reports every minute, an idle one every ten. Whoever is silent for longer is not running.
const SILENT_TRACING: Duration = Duration::from_mins(3);
const SILENT_IDLE: Duration = Duration::from_mins(15);
/// An agent has seen a trace so long after the operator has.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// By the wall's clocks, which differ.
const SEEN_WITHIN_BY_WALL: SignedDuration = SignedDuration::from_secs(30);

/// What the watches tell.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one that waits is in a box as a whole")]
pub enum Change {
    /// Of traces of a kind.
    Traces(TraceKind, Delta<Trace>),
    /// Of nodes.
    Nodes(Delta<NodeObject>),
    /// Of reports.
    Reports(Delta<Report>),
}

/// A trace, and since when it is known as it is.
#[derive(Clone, Debug)]
struct Seen {
    trace: Trace,
    /// When this generation was first seen, and where in the server's history.
    since: Instant,
    version: Option<u64>,
    counts: Folded,
}

/// A report, and when it came.
#[derive(Clone, Debug)]
struct Heard {
    report: Report,
    at: Instant,
    /// It was there when the operator came: how old it is, it tells itself.
    was_there: bool,
    is_silent: bool,
}

#[derive(Clone, Debug)]
struct NodeSeen {
    node: NodeObject,
    since: Instant,
    /// It should have had a report by now.
    is_late: bool,
}

/// Knows everything; asked for the status of one trace after the other.
#[derive(Debug, Default)]
pub struct Fleet {
    traces: BTreeMap<TraceKey, Seen>,
    by_uid: HashMap<String, TraceKey>,
    nodes: BTreeMap<String, NodeSeen>,
    reports: HashMap<String, Heard>,
    /// Those that have come.
    listed: BTreeSet<List>,
    dirty: HashSet<TraceKey>,
    /// Traces that some node has not told of yet: any report may settle them.
    open: HashSet<TraceKey>,
    refused: HashSet<TraceKey>,
}

/// A list that must have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum List {
    Traces,
    ClusterTraces,
    Nodes,
    Reports,
}

impl Fleet {
    /// Whether every list has come: before that nothing can be said of anything.
    pub fn is_whole(&self) -> bool {
        self.listed.len() == 4
    }

    /// Takes what a watch tells.
    pub fn take(&mut self, change: Change, now: Now) {
        match change {
            Change::Traces(kind, delta) => self.take_traces(kind, delta, now),
            Change::Nodes(delta) => self.take_nodes(delta, now),
            Change::Reports(delta) => self.take_reports(delta, now),
        }
    }

    /// A trace.
    pub fn trace(&self, key: &TraceKey) -> Option<&Trace> {
        self.traces.get(key).map(|seen| &seen.trace)
    }

    /// It was written: so it stands there now, unless the watch tells otherwise.
    pub fn written(&mut self, key: &TraceKey, uid: &str, status: TraceStatus) {
        let seen = self.traces.get_mut(key).filter(|seen| seen.trace.uid == uid);
        if let Some(seen) = seen {
            seen.trace.status = status;
            self.dirty.insert(key.clone());
        }
    }

    /// Whether anything has come that may change a status.
    pub fn has_changed(&self) -> bool {
        self.is_whole() && !self.dirty.is_empty()
    }

    /// Traces whose status may have become another, and when time alone changes one next.
    pub fn changed(&mut self, now: Now) -> (Vec<TraceKey>, Option<Instant>) {
        if !self.is_whole() {
            return (Vec::new(), None);
        }
        let next = [self.note_silence(now), self.note_coverage(now), self.note_expiry(now)];
        self.note_excess();
        let changed = std::mem::take(&mut self.dirty).into_iter().collect();
        (changed, next.into_iter().flatten().min())
    }

    /// What the status of a trace should be. `None` for one that is gone.
    pub fn wanted(&mut self, key: &TraceKey, now: Now) -> Option<TraceStatus> {
        let seen = self.traces.get(key)?;
        let acceptance = accepted(&seen.trace, self.refused.contains(key));
        let is_accepted = acceptance.status == ConditionStatus::True;
        let standing = is_accepted.then(|| self.standing(seen, now));
        let verdict = match &standing {
            Some(standing) => settled(ready(&seen.trace, standing, now.wall), &seen.trace),
            None => Verdict {
                status: ConditionStatus::False,
                reason: acceptance.reason,
                message: "it is not accepted".to_owned(),
            },
        };
        let is_open = verdict.status == ConditionStatus::Unknown
            || standing.as_ref().is_some_and(|standing| standing.pending > 0);
        let status = status(seen, acceptance, verdict, standing, now);
        if is_open {
            self.open.insert(key.clone());
        } else {
            self.open.remove(key);
        }
        Some(status)
    }

    fn standing(&self, seen: &Seen, now: Now) -> Standing {
        let mut standing = Standing::default();
        for (name, node) in &self.nodes {
            if node.node.can_have_agent() && node.node.is_selected(&seen.trace.node_selector) {
                standing.add(name, self.word(name, node, seen, now));
            }
        }
        standing
    }

    fn word<'a>(&'a self, name: &str, node: &NodeSeen, seen: &Seen, now: Now) -> Word<'a> {
        let Some(heard) = self.reports.get(name) else {
            let is_late = now.clock >= node.since + SILENT_TRACING;
            return if is_late { Word::Uncovered } else { Word::Pending };
        };
        let entry = heard.report.traces.get(&seen.trace.uid);
        if now.clock >= heard.silent_at() {
            return Word::Silent(entry);
        }
        match entry {
            Some(entry) if entry.generation >= seen.trace.generation => Word::Told(entry),
            None if heard.knows(seen) => Word::Idle,
            _ => Word::Pending,
        }
    }
}

impl Heard {
    fn silent_at(&self) -> Instant {
        self.at + if self.report.is_tracing { SILENT_TRACING } else { SILENT_IDLE }
    }

    /// Whether the agent knew of a trace, as it is now, when it wrote this.
    fn knows(&self, seen: &Seen) -> bool {
        let report = &self.report;
        if !report.is_whole {
            return false;
        }
        // Since when the trace is as it is, whoever came later does not know: only that it is not younger than it says.
        let by_wall =
            || report.written.is_some_and(|at| at.duration_since(seen.trace.changed) >= SEEN_WITHIN_BY_WALL);
        if self.was_there && by_wall() {
            return true;
        }
        match (report.observed.of(seen.trace.key.kind()), seen.version) {
            (Some(observed), Some(version)) => observed >= version,
            _ => !self.was_there && self.at >= seen.since + SEEN_WITHIN,
        }
    }
}

/// What is not known yet takes nothing back that was said of the same spec and may still be so.
fn settled(verdict: Verdict, trace: &Trace) -> Verdict {
    let stands = || {
        let of_now =
            |it: &&Condition| it.type_ == "Ready" && it.observed_generation == Some(trace.generation);
        let said = trace.status.conditions.iter().find(of_now)?;
        let reason =
            ["NoMatchingPods", "AgentsUnavailable"].into_iter().find(|reason| *reason == said.reason)?;
        Some(Verdict { status: said.status, reason, message: said.message.clone() })
    };
    if verdict.reason == "Pending" { stands().unwrap_or(verdict) } else { verdict }
}

fn status(
    seen: &Seen,
    acceptance: Verdict,
    verdict: Verdict,
    standing: Option<Standing>,
    now: Now,
) -> TraceStatus {
    let trace = &seen.trace;
    let before = |type_: &str| trace.status.conditions.iter().find(|condition| condition.type_ == type_);
    let make = |type_: &str, verdict| condition(type_, verdict, trace.generation, before(type_), now.wall);
    let standing = standing.unwrap_or_default();
    // Every object is there from the first: before 1.22 a server cannot take one away by server-side apply.
    TraceStatus {
        conditions: vec![make("Accepted", acceptance), make("Ready", verdict)],
        observed_generation: Some(trace.generation),
        pods: Some(standing.pods),
        nodes: Some(standing.nodes()),
        counts: Some(seen.counts.total()),
        expires_at: trace.expires().map(|at| Time(whole(at))),
        failing_nodes: standing.failing_nodes,
        uncovered_nodes: standing.uncovered_nodes,
    }
}

/// What comes in.
impl Fleet {
    fn take_traces(&mut self, kind: TraceKind, delta: Delta<Trace>, now: Now) {
        match delta {
            Delta::Listed(traces) => {
                let there: HashSet<_> = traces.iter().map(|trace| trace.key.clone()).collect();
                let is_gone = |key: &&TraceKey| key.kind() == kind && !there.contains(*key);
                let gone: Vec<_> = self.traces.keys().filter(is_gone).cloned().collect();
                for key in &gone {
                    self.remove_trace(key);
                }
                for trace in traces {
                    self.add_trace(trace, now);
                }
                self.listed.insert(match kind {
                    TraceKind::Namespaced => List::Traces,
                    TraceKind::Cluster => List::ClusterTraces,
                });
            }
            Delta::Applied(trace) => self.add_trace(trace, now),
            Delta::Deleted(trace) => self.remove_trace(&trace.key),
        }
    }

    fn add_trace(&mut self, trace: Trace, now: Now) {
        let key = trace.key.clone();
        self.dirty.insert(key.clone());
        if let Some(seen) = self.traces.get_mut(&key).filter(|seen| seen.trace.uid == trace.uid) {
            if seen.trace.generation != trace.generation {
                (seen.since, seen.version) = (now.clock, trace.version);
            }
            seen.counts.told(trace.status.counts.unwrap_or_default());
            seen.trace = trace;
            return;
        }
        self.remove_trace(&key);
        let mut counts = Folded::default();
        for (node, heard) in &self.reports {
            if let Some(entry) = heard.report.traces.get(&trace.uid) {
                counts.reported(node, heard.report.started, entry.counts);
            }
        }
        // What stands there may be of nodes whose reports have not come.
        if self.listed.contains(&List::Reports) {
            counts.told(trace.status.counts.unwrap_or_default());
        }
        self.by_uid.insert(trace.uid.clone(), key.clone());
        let version = trace.version;
        self.traces.insert(key, Seen { trace, since: now.clock, version, counts });
    }

    fn remove_trace(&mut self, key: &TraceKey) {
        if let Some(gone) = self.traces.remove(key) {
            self.by_uid.remove(&gone.trace.uid);
            self.open.remove(key);
            self.refused.remove(key);
            // Whoever keeps something of it learns that it is gone.
            self.dirty.insert(key.clone());
        }
    }

    fn take_nodes(&mut self, delta: Delta<NodeObject>, now: Now) {
        match delta {
            Delta::Listed(nodes) => {
                let there: HashSet<_> = nodes.iter().map(|node| node.name.clone()).collect();
                let gone: Vec<_> = self.nodes.keys().filter(|name| !there.contains(*name)).cloned().collect();
                for name in &gone {
                    self.remove_node(name);
                }
                for node in nodes {
                    self.add_node(node, now);
                }
                self.listed.insert(List::Nodes);
            }
            Delta::Applied(node) => self.add_node(node, now),
            Delta::Deleted(node) => self.remove_node(&node.name),
        }
    }

    fn add_node(&mut self, node: NodeObject, now: Now) {
        let known = self.nodes.get_mut(&node.name);
        match known {
            // A Node changes all the time, and hardly ever in what is of interest.
            Some(known) if known.node == node => return,
            Some(known) => known.node = node,
            None => {
                self.nodes.insert(node.name.clone(), NodeSeen { node, since: now.clock, is_late: false });
            }
        }
        self.touch_all();
    }

    fn remove_node(&mut self, name: &str) {
        if self.nodes.remove(name).is_some() {
            self.traces.values_mut().for_each(|seen| seen.counts.node_gone(name));
            self.touch_all();
        }
    }

    fn take_reports(&mut self, delta: Delta<Report>, now: Now) {
        match delta {
            Delta::Listed(reports) => {
                let there: HashSet<_> = reports.iter().map(|report| report.node.clone()).collect();
                let gone: Vec<_> =
                    self.reports.keys().filter(|name| !there.contains(*name)).cloned().collect();
                for name in &gone {
                    self.remove_report(name);
                }
                let were_there = !self.listed.contains(&List::Reports);
                for report in reports {
                    self.add_report(report, were_there, now);
                }
                self.listed.insert(List::Reports);
                for seen in self.traces.values_mut() {
                    seen.counts.told(seen.trace.status.counts.unwrap_or_default());
                }
            }
            Delta::Applied(report) => self.add_report(report, false, now),
            Delta::Deleted(report) => self.remove_report(&report.node),
        }
    }

    fn add_report(&mut self, report: Report, was_there: bool, now: Now) {
        let before = self.reports.remove(&report.node);
        if let Some(before) = before.as_ref().filter(|before| before.report.written == report.written) {
            // It has come again, and is no younger for that.
            let heard = Heard { report, ..before.clone() };
            self.reports.insert(heard.report.node.clone(), heard);
            return;
        }
        let old = before.as_ref().map(|heard| &heard.report.traces);
        let uids = report.traces.keys().chain(old.into_iter().flat_map(HashMap::keys));
        self.dirty.extend(uids.filter_map(|uid| self.by_uid.get(uid)).cloned());
        self.dirty.extend(self.open.iter().cloned());
        for entry in report.traces.values() {
            let key = self.by_uid.get(&entry.uid);
            if let Some(seen) = key.and_then(|key| self.traces.get_mut(key)) {
                seen.counts.reported(&report.node, report.started, entry.counts);
            }
        }
        // One that was away says something of all, by what it does not list.
        if before.is_none_or(|before| before.is_silent) {
            self.touch_all();
        }
        let node = report.node.clone();
        self.reports.insert(node, Heard { report, at: now.clock, was_there, is_silent: false });
    }

    fn remove_report(&mut self, node: &str) {
        if self.reports.remove(node).is_some() {
            self.touch_all();
        }
    }

    fn touch_all(&mut self) {
        self.dirty.extend(self.traces.keys().cloned());
    }
}

/// What time changes by itself.
impl Fleet {
    /// Agents that have fallen silent; when the next does.
    fn note_silence(&mut self, now: Now) -> Option<Instant> {
        let (mut next, mut changed): (Option<Instant>, _) = (None, false);
        for heard in self.reports.values_mut().filter(|heard| !heard.is_silent) {
            let at = heard.silent_at();
            if at <= now.clock {
                (heard.is_silent, changed) = (true, true);
            } else {
                next = next.into_iter().chain([at]).min();
            }
        }
        if changed {
            self.touch_all();
        }
        next
    }

    /// Nodes that should have had a report by now; when the next should.
    fn note_coverage(&mut self, now: Now) -> Option<Instant> {
        let (mut next, mut changed): (Option<Instant>, _) = (None, false);
        let Self { nodes, reports, .. } = self;
        for (name, node) in nodes.iter_mut().filter(|(_, node)| !node.is_late) {
            let at = node.since + SILENT_TRACING;
            if at > now.clock {
                next = next.into_iter().chain([at]).min();
            } else {
                node.is_late = true;
                changed |= !reports.contains_key(name);
            }
        }
        if changed {
            self.touch_all();
        }
        next
    }

    /// Traces whose ttl is over; when the next one's is.
    fn note_expiry(&mut self, now: Now) -> Option<Instant> {
        let mut next = None;
        for (key, seen) in &self.traces {
            let Some(expires) = seen.trace.expires() else { continue };
            if expires <= now.wall {
                let is_said = |it: &Condition| it.type_ == "Ready" && it.reason == "Expired";
                if !seen.trace.status.conditions.iter().any(is_said) {
                    self.dirty.insert(key.clone());
                }
            } else {
                next = next.into_iter().chain([now.at_wall(expires)]).min();
            }
        }
        next
    }

    /// Traces for which there is no room.
    fn note_excess(&mut self) {
        let refused = bound::refused(self.traces.values().map(|seen| &seen.trace));
        if refused != self.refused {
            self.dirty.extend(refused.symmetric_difference(&self.refused).cloned());
            self.refused = refused;
        }
    }
}

/// For metrics.
impl Fleet {
    /// Traces, nodes, and agents that report.
    pub fn sizes(&self) -> (usize, usize, usize) {
        let reporting = self.reports.values().filter(|heard| !heard.is_silent).count();
        (self.traces.len(), self.nodes.len(), reporting)
    }
}
