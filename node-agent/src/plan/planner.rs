//! Gives traces their bits.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use kube_tcpstates_common::rule::MAX_TRACES;

use super::judge::{Candidate, Hindrance, Pods, expires_s, judge, needs_namespaces};
use super::{ActiveTrace, Inputs, Plan, TraceKey, TraceObject, TraceState};

/// How a trace stands on this node, for the report.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceStanding {
    /// `metadata.uid`.
    pub uid: String,
    /// Its name.
    pub key: TraceKey,
    /// `metadata.generation` of the spec this is about.
    pub generation: i64,
    /// What became of it.
    pub state: TraceState,
    /// Why, in one word: `NoMatchingPods`, `NoMatchingNodes`, `SlotsExhausted`, `NamespaceQuota`, `InvalidSpec`,
    /// `UnsupportedByAgent`, `TooMany`, `Expired`, `NamespacesUnknown`.
    pub reason: Option<&'static str>,
    /// The field at fault.
    pub field: Option<String>,
    /// Why, for people.
    pub message: Option<String>,
    /// Pods selected on this node: those that exist and have not ended. A trace of none may be active for some
    /// seconds, since sockets outlive their pods.
    pub pods: u32,
    /// It asks for names of other ends.
    pub peer_names: bool,
}

/// Makes plans, one after the other: it remembers which trace has which bit.
#[derive(Debug, Default)]
pub struct Planner {
    /// Traces of one namespace that may be active; 0 is no limit.
    pub max_per_namespace: usize,
    last: Arc<Plan>,
    /// UIDs of traces that were active and wait since.
    displaced: HashSet<String>,
}

/// What came of planning.
#[derive(Clone, Debug, Default)]
pub struct Planned {
    /// The active traces.
    pub plan: Arc<Plan>,
    /// Every trace: first those that select a pod here, in the order in which they get slots.
    pub standings: Vec<TraceStanding>,
    /// When a ttl ends next, seconds since the Unix epoch.
    pub next_expiry_s: Option<i64>,
    /// When an active trace next gives up its slot because the pods it selected are gone, `CLOCK_BOOTTIME`, ns. To be
    /// planned again then, or a trace that waits for the slot waits on.
    pub next_release_ns: Option<u64>,
    /// A cluster trace asks for labels of namespaces.
    pub needs_namespaces: bool,
}

impl Planner {
    /// A planner that remembers nothing yet. `max_per_namespace` traces of one namespace may be active; 0 is no limit.
    pub fn new(max_per_namespace: usize) -> Self {
        Self { max_per_namespace, ..Self::default() }
    }

    /// Traces keep the bits that they had in the plan `before`.
    #[must_use]
    pub fn after(self, before: Plan) -> Self {
        Self { last: Arc::new(before), ..self }
    }

    /// The plan for what is there now.
    pub fn plan(&mut self, inputs: &Inputs<'_>) -> Planned {
        let mut planned = Planned::default();
        let pods = Pods::of(inputs);
        let mut candidates = Vec::new();
        let mut hindered = Vec::new();
        for trace in by_age(inputs.traces) {
            note_needs(trace, inputs.now_s, &mut planned);
            match judge(trace, inputs, &pods) {
                Ok(candidate) => candidates.push((trace, candidate)),
                Err(hindrance) => hindered.push(standing(trace, 0, Some(hindrance))),
            }
        }
        let mut seats = Seats { max_per_namespace: self.max_per_namespace, ..Seats::default() };
        let mut active = Vec::new();
        for (trace, Candidate { active: candidate, pods, until_ns }) in in_turn(candidates) {
            let hindrance = seats.take(trace).err().map(|full| self.waiting(trace, full));
            if hindrance.is_none() {
                planned.next_release_ns = earlier(planned.next_release_ns, until_ns);
                active.push(candidate);
            }
            planned.standings.push(standing(trace, pods, hindrance));
        }
        planned.standings.extend(hindered);
        self.remember_displaced(&planned.standings);
        self.assign(active);
        planned.plan = Arc::clone(&self.last);
        planned
    }

    /// Puts traces under bits: those that were active before under the same ones.
    fn assign(&mut self, active: Vec<ActiveTrace>) {
        let before: HashMap<&str, (usize, &Arc<ActiveTrace>)> =
            self.last.active().map(|(bit, trace)| (trace.uid.as_str(), (bit, trace))).collect();
        let mut slots: Vec<Option<Arc<ActiveTrace>>> = vec![None; MAX_TRACES];
        let mut new = Vec::new();
        for trace in active {
            match before.get(trace.uid.as_str()) {
                Some((bit, known)) if ***known == trace => slots[*bit] = Some(Arc::clone(known)),
                Some((bit, _)) => slots[*bit] = Some(Arc::new(trace)),
                None => new.push(trace),
            }
        }
        // A bit that stood for another trace until now is given away last: whoever still holds a set of the last plan
        // would take one for the other.
        let live = self.last.live();
        let free = |slots: &[Option<_>], bit: &usize| slots[*bit].is_none();
        for trace in new {
            let unused = (0..MAX_TRACES).find(|bit| free(&slots, bit) && live >> bit & 1 == 0);
            // `Seats` gave out no more than there are.
            if let Some(bit) = unused.or_else(|| (0..MAX_TRACES).find(|bit| free(&slots, bit))) {
                slots[bit] = Some(Arc::new(trace));
            }
        }
        let plan = Plan::new(slots, self.last.revision + 1);
        if !plan.active().eq(self.last.active()) {
            self.last = Arc::new(plan);
        }
    }

    fn waiting(&self, trace: &TraceObject, full: Full) -> Hindrance {
        let was_active = self.displaced.contains(&trace.uid)
            || self.last.active().any(|(_, active)| active.uid == trace.uid);
        let displaced = if was_active { "it was displaced: " } else { "" };
        let (reason, message) = match full {
            Full::Slots => {
                let message =
                    format!("{displaced}{MAX_TRACES} traces that come before it are active on this node");
                ("SlotsExhausted", message)
            }
            Full::Quota(max) => {
                let traces = if max == 1 { "trace that comes" } else { "traces that come" };
                let message = format!(
                    "{displaced}{max} {traces} before it in its namespace, as many as may be active on a node"
                );
                ("NamespaceQuota", message)
            }
        };
        Hindrance { state: TraceState::Waiting, reason, field: None, message }
    }

    fn remember_displaced(&mut self, standings: &[TraceStanding]) {
        let waiting: HashSet<&str> = standings
            .iter()
            .filter(|standing| standing.state == TraceState::Waiting)
            .map(|standing| standing.uid.as_str())
            .collect();
        self.displaced.retain(|uid| waiting.contains(uid.as_str()));
        let lately = self.last.active().map(|(_, trace)| &trace.uid);
        self.displaced.extend(lately.filter(|uid| waiting.contains(uid.as_str())).cloned());
    }
}

/// Slots given so far.
#[derive(Default)]
struct Seats<'a> {
    max_per_namespace: usize,
    taken: usize,
    by_namespace: HashMap<&'a str, usize>,
}

/// Why there is no slot.
#[derive(Clone, Copy)]
enum Full {
    Slots,
    /// With the limit.
    Quota(usize),
}

impl<'a> Seats<'a> {
    fn take(&mut self, trace: &'a TraceObject) -> Result<(), Full> {
        let mut own = trace.key.namespace.as_deref().map(|name| self.by_namespace.entry(name).or_default());
        if self.max_per_namespace > 0 && own.as_ref().is_some_and(|own| **own >= self.max_per_namespace) {
            return Err(Full::Quota(self.max_per_namespace));
        }
        if self.taken >= MAX_TRACES {
            return Err(Full::Slots);
        }
        self.taken += 1;
        if let Some(own) = &mut own {
            **own += 1;
        }
        Ok(())
    }
}

/// Those of the cluster, then those of namespaces, each by age: nothing but what the API server says decides.
fn by_age(traces: &BTreeMap<TraceKey, TraceObject>) -> Vec<&TraceObject> {
    let mut ordered: Vec<&TraceObject> = traces.values().collect();
    // The map is in the order of names, and the sort keeps it.
    ordered.sort_by_key(|trace| (trace.key.namespace.is_some(), trace.created_s));
    ordered
}

/// The order in which traces get slots. The first of every namespace come before any second: a few namespaces with many
/// old traces cannot keep out all others.
fn in_turn<T>(by_age: Vec<(&TraceObject, T)>) -> Vec<(&TraceObject, T)> {
    let mut of_namespace: HashMap<&str, usize> = HashMap::new();
    let mut ranked: Vec<_> = by_age
        .into_iter()
        .map(|(trace, candidate)| {
            let rank = trace.key.namespace.as_deref().map(|namespace| {
                let next = of_namespace.entry(namespace).or_default();
                *next += 1;
                *next
            });
            (rank, trace, candidate)
        })
        .collect();
    ranked.sort_by_key(|(rank, trace, _)| (*rank, trace.created_s));
    ranked.into_iter().map(|(_, trace, candidate)| (trace, candidate)).collect()
}

/// What has to be watched for the sake of a trace.
fn note_needs(trace: &TraceObject, now_s: i64, planned: &mut Planned) {
    let expires_s = expires_s(trace);
    if expires_s.is_some_and(|at| at <= now_s) {
        return;
    }
    planned.next_expiry_s = earlier(planned.next_expiry_s, expires_s);
    planned.needs_namespaces |= needs_namespaces(trace);
}

fn earlier<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    a.into_iter().chain(b).min()
}

fn standing(trace: &TraceObject, pods: u32, hindrance: Option<Hindrance>) -> TraceStanding {
    let (state, reason, field, message) = match hindrance {
        None => (TraceState::Tracing, None, None, None),
        Some(Hindrance { state, reason, field, message }) => (state, Some(reason), field, Some(message)),
    };
    let (uid, key, generation) = (trace.uid.clone(), trace.key.clone(), trace.generation);
    let peer_names = trace.checked.as_ref().is_ok_and(|checked| checked.spec.peer_names);
    TraceStanding { uid, key, generation, state, reason, field, message, pods, peer_names }
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
