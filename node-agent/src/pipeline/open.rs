//! Snapshots of what is open, for the traces that ask for them. A thread of its own walks over the kernel's tables, so that
//! the pipeline never waits for that; what it has seen becomes lines here.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use kube_tcpstates_common::{rule::TraceSet, state::State};
use kube_tcpstates_events::Line;

use super::{
    Pipeline,
    snapshot::{Maker, Shown},
};
use crate::{
    kernel::{LoadError, Looker, TaskHierarchy, Waker},
    open::{Ages, Found, OpenStates, Passing, Sight, Snapshots, Wish},
    outlet::{Offer, Outlets},
    plan::{ActiveTrace, Plan},
    render::Of,
};

/// So long the first snapshot of a trace waits for the names that it asks for: a node asks for them with the trace.
const NAMES_WAIT_NS: u64 = 2_000_000_000;

/// When it is whose turn, and who looks.
pub(super) struct OpenSockets {
    tasks: Option<TaskHierarchy>,
    waker: Waker,
    worker: Option<Worker>,
    /// When the next snapshot of a trace is due, by the trace's uid.
    due: HashMap<String, Due>,
    /// Whose snapshot is being taken: the trace's uid.
    asked: HashSet<String>,
    /// When all that is open is counted.
    census: Turn,
    ages: Ages,
}

/// When a snapshot is due.
#[derive(Clone, Copy)]
struct Due {
    /// Boot time, ns.
    at_ns: u64,
    /// Before that, as soon as other ends have names.
    with_names: bool,
}

impl Due {
    /// That of a trace that has had none: at once, but for the names that it asks for.
    fn first(trace: &ActiveTrace, now_ns: u64) -> Self {
        let wait_ns = if trace.peer_names { NAMES_WAIT_NS } else { 0 };
        Self { at_ns: now_ns.saturating_add(wait_ns), with_names: trace.peer_names }
    }

    const fn is_now(self, now_ns: u64, names_are_told: bool) -> bool {
        self.at_ns <= now_ns || self.with_names && names_are_told
    }
}

/// When a census is taken, while some trace asks for connections.
#[derive(Clone, Copy, Default)]
struct Turn {
    /// Between two, ns; 0 for none at all.
    every_ns: u64,
    /// The next, boot time ns; `None` while nobody asks for connections.
    due_ns: Option<u64>,
    is_asked: bool,
}

/// The thread that looks.
struct Worker {
    asks: Sender<OpenStates>,
    sights: Receiver<Result<Sight, LoadError>>,
}

impl OpenSockets {
    /// `census_ns` is the time between two counts of all that is open, 0 for none.
    pub(super) fn new(tasks: Option<TaskHierarchy>, waker: Waker, census_ns: u64) -> Self {
        Self {
            tasks,
            waker,
            worker: None,
            due: HashMap::new(),
            asked: HashSet::new(),
            census: Turn { every_ns: census_ns, ..Turn::default() },
            ages: Ages::default(),
        }
    }

    /// When the next snapshot is due, unless one is being taken.
    pub(super) fn due_ns(&self) -> Option<u64> {
        self.due.values().map(|due| due.at_ns).chain(self.census.due_ns).min().filter(|_| !self.is_busy())
    }

    fn is_busy(&self) -> bool {
        self.census.is_asked || !self.asked.is_empty()
    }

    /// Has the thread look for those whose turn it is.
    fn ask(&mut self, plan: &Plan, now_ns: u64, names_are_told: bool) {
        let asking: BTreeMap<&str, (&ActiveTrace, &Snapshots)> = plan
            .active()
            .filter_map(|(_, trace)| Some((trace.uid.as_str(), (&**trace, trace.open.as_ref()?))))
            .collect();
        self.due.retain(|uid, _| asking.contains_key(uid.as_str()));
        let counts = self.census.every_ns != 0 && counted(plan) != 0;
        self.census.due_ns = counts.then(|| self.census.due_ns.unwrap_or(now_ns));
        if asking.is_empty() && !counts {
            // The thread ends, and what it has loaded goes.
            self.worker = None;
            self.forget_asked();
            return;
        }
        let mut states: Option<OpenStates> = None;
        let busy = self.is_busy();
        for (uid, (trace, snapshots)) in asking {
            let due = self.due.entry(uid.to_owned()).or_insert_with(|| Due::first(trace, now_ns));
            if !busy && due.is_now(now_ns, names_are_told) {
                *due = Due { at_ns: now_ns.saturating_add(snapshots.every_ns), with_names: false };
                self.asked.insert(uid.to_owned());
                states = Some(states.map_or(snapshots.states, |states| states.and(snapshots.states)));
            }
        }
        if !busy && self.census.due_ns.is_some_and(|due_ns| due_ns <= now_ns) {
            self.census.due_ns = Some(now_ns.saturating_add(self.census.every_ns));
            self.census.is_asked = true;
            states = Some(OpenStates::ANY);
        }
        let Some(states) = states else { return };
        let worker = match self.worker.take() {
            Some(worker) => Ok(worker),
            None => Worker::start(self.tasks, self.waker.clone()),
        };
        match worker {
            Ok(worker) => {
                // One that has ended has said why.
                let _ = worker.asks.send(states);
                self.worker = Some(worker);
            }
            Err(error) => {
                tracing::error!("what is open cannot be looked at: {error}");
                self.forget_asked();
            }
        }
    }

    /// What the thread has seen, if it has.
    fn sight(&mut self) -> Option<Result<Sight, LoadError>> {
        self.worker.as_ref()?.sights.try_recv().ok()
    }

    fn forget_asked(&mut self) {
        self.asked.clear();
        self.census.is_asked = false;
    }

    /// Whose snapshot it is, as far as these traces are still in force.
    fn wishes(&mut self, plan: &Plan) -> Vec<Wish> {
        let asked = std::mem::take(&mut self.asked);
        let asked = plan.active().filter(|(_, trace)| asked.contains(&trace.uid));
        asked.filter_map(|(bit, trace)| Some(trace.open.as_ref()?.wish(bit))).collect()
    }
}

/// Bits of the traces whose connections are counted: all that ask for connections.
pub(super) fn counted(plan: &Plan) -> TraceSet {
    let of_connections = plan.active().filter(|(_, trace)| trace.filter.mode.is_of_connections());
    of_connections.fold(0, |set, (bit, _)| set | 1 << bit)
}

impl Worker {
    fn start(tasks: Option<TaskHierarchy>, waker: Waker) -> std::io::Result<Self> {
        let (asks, asked) = channel::<OpenStates>();
        let (tell, sights) = channel();
        thread::Builder::new().name("open-sockets".to_owned()).spawn(move || {
            let mut looker = None;
            for states in asked {
                if tell.send(look(&mut looker, tasks, states)).is_err() {
                    return;
                }
                waker.wake();
            }
        })?;
        Ok(Self { asks, sights })
    }
}

fn look(
    looker: &mut Option<Looker>,
    tasks: Option<TaskHierarchy>,
    states: OpenStates,
) -> Result<Sight, LoadError> {
    let looker = match looker {
        Some(looker) => looker,
        None => looker.insert(Looker::load(tasks)?),
    };
    looker.look(|socket| states.look_at(State(socket.state)))
}

impl Pipeline {
    /// Writes the snapshot that has been taken, and has the next one taken when it is due.
    pub(super) fn see_to_open_sockets(&mut self, now_ns: u64) {
        match self.open.sight() {
            Some(Ok(sight)) => {
                let (found, passing) = sight.found();
                if std::mem::take(&mut self.open.census.is_asked) {
                    self.flow.count_open(&found, &passing, sight.boot_ns);
                    self.show_live(Some((&found, &passing)), sight.boot_ns);
                }
                self.write_snapshot(&sight, found, &passing);
            }
            Some(Err(error)) => {
                tracing::error!("{error}");
                if self.open.census.is_asked {
                    self.flow.count_nothing();
                    self.show_live(None, now_ns);
                }
                self.open.forget_asked();
            }
            None => {}
        }
        let plan = self.flow.owners.standings.plan();
        if counted(plan) == 0 {
            self.flow.count_nothing();
        }
        let names_are_told = self.flow.other_ends.are_told();
        self.open.ask(self.flow.owners.standings.plan(), now_ns, names_are_told);
    }

    fn write_snapshot(&mut self, sight: &Sight, mut found: Vec<Found>, passing: &[Passing]) {
        let Self { open, flow, kernel, reporter, .. } = self;
        let wishes = open.wishes(flow.owners.standings.plan());
        if wishes.is_empty() {
            return;
        }
        let sockets = found.iter().map(|found| found.seen.socket).collect();
        open.ages.give(&mut found, &kernel.remembered(&sockets), sight.boot_ns);
        let mut maker = Maker {
            owners: &mut flow.owners,
            names: &mut |traces| flow.ledger.names().of(traces).clone(),
            peers: Some(&mut flow.other_ends),
            ids: Some(&flow.ids),
            of: Of { run: reporter.run().to_owned(), unix_ns: flow.clock.unix_ns(sight.boot_ns) },
            k8s: reporter.k8s(),
        };
        let lines = maker.lines((found, passing), sight.given_up > 0, &wishes);
        for place in 0..flow.outlets.count() {
            write_to(&mut flow.outlets, place, &lines);
        }
    }
}

/// Gives an outlet a snapshot.
fn write_to(outlets: &mut Outlets, place: usize, lines: &[Shown]) {
    let mut refused = Refused::default();
    for (line, traces) in lines {
        let told = refused.told(line, *traces);
        if outlets.line_to(place, &told) != Offer::Accepted {
            refused.note((line.clone(), *traces));
        }
    }
}

/// Lines for which there was no room: their sockets are not shown.
#[derive(Default)]
struct Refused(Vec<Shown>);

impl Refused {
    fn note(&mut self, line: Shown) {
        self.0.push(line);
    }

    /// The end of a snapshot says what was really shown.
    fn told<'l>(&self, line: &'l Line, traces: u64) -> Cow<'l, Line> {
        let Line::Snapshot(end) = line else { return Cow::Borrowed(line) };
        let mut end = end.clone();
        for (line, _) in self.0.iter().filter(|(_, of)| of & traces != 0) {
            let shown = match line {
                Line::Socket(_) => &mut end.tcpstates.sockets,
                Line::Listener(_) => &mut end.tcpstates.listeners,
                _ => continue,
            };
            shown.shown -= 1;
            shown.left_out += 1;
        }
        Cow::Owned(Line::Snapshot(end))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::{Due, Line, NAMES_WAIT_NS, Outlets, write_to};
    use crate::{outlet::test_support::Recorder, plan::tests_support::plan_of};

    const SOCKET: &str = r#"{"time":"2026-11-27T08:44:19.536897524Z","tcpstates":{"type":"socket","schema":"tcpstates.dev/events/v1",
        "run":"2252facb","seq":1,"state":"CLOSE_WAIT","attribution":{"source":"socket_cgroup","status":"resolved"}},
        "network":{"transport":"tcp","type":"ipv4","local":{"address":"10.1.2.7","port":8443}}}"#;

    #[test]
    fn the_end_of_a_snapshot_says_what_was_shown_in_its_outlet() {
        let [own, beside] = [(); 2].map(|()| Recorder::default());
        let mut outlets = Outlets::new(own.boxed()).and(beside.boxed());
        let socket: Line = serde_json::from_str(SOCKET).unwrap();
        let mut end = Line::Snapshot(Box::default());
        if let Line::Snapshot(end) = &mut end {
            end.tcpstates.sockets.shown = 1;
        }
        // It has room again only for the end.
        own.refuses.store(1, Ordering::Relaxed);
        let shown = |recorder: &Recorder| match recorder.lines().last() {
            Some(Line::Snapshot(end)) => (end.tcpstates.sockets.shown, end.tcpstates.sockets.left_out),
            other => panic!("{other:?}"),
        };
        for place in [0, 1] {
            write_to(&mut outlets, place, &[(socket.clone(), 1), (end.clone(), 1)]);
        }
        assert_eq!((shown(&own), shown(&beside)), ((0, 1), (1, 0)));
    }

    #[test]
    fn a_first_snapshot_waits_for_names_if_they_are_asked_for_and_no_longer_than_that() {
        let plan = plan_of(&["a"]);
        let mut trace = plan.active().map(|(_, trace)| (**trace).clone()).next().unwrap();
        let due = Due::first(&trace, 7);
        assert!(due.is_now(7, false) && due.is_now(7, true));
        trace.peer_names = true;
        let due = Due::first(&trace, 7);
        assert!(!due.is_now(7, false) && due.is_now(7, true));
        assert!(!due.is_now(6 + NAMES_WAIT_NS, false) && due.is_now(7 + NAMES_WAIT_NS, false));
        // Later ones are due when they are due.
        let later = Due { at_ns: 100, with_names: false };
        assert!(!later.is_now(99, true) && later.is_now(100, false));
    }
}
