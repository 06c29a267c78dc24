//! Joins the stations: the thread on which a transition goes from the ring to the output's queue.
//!
//! ```text
//! kernel ─► decode ─► connection ─► identity (resolver) ─► settle ─► serialise ─► output
//! ```

mod account;
mod rendered;
mod report;
mod resolver;
mod selection;
mod tally;

use std::{
    sync::mpsc::{Receiver, Sender, TryRecvError, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use kube_tcpstates_common::record::TransitionRecord;

pub use account::{Account, TraceCounts};
pub use report::say;
pub use selection::Selection;
pub use tally::Tally;

use self::{report::Reporter, resolver::Resolver};
use crate::{
    cgroupfs::Mount,
    connection::ConnectionIds,
    decode,
    kernel::{Clock, EventRing, Loaded, Sleeper, Waker, boot_ns},
    output::{End, Journal, Offer, Queue, Totals},
    plan::View,
    serialise::{self, Attributed, Serialiser, TraceTable},
};

/// How long stdout, and the journal after it, may stay blocked at the end.
const FINISH_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks for room for the last lines.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// What the pipeline works with, all set up.
pub struct Setup {
    /// The programs, loaded; the pipeline detaches them at the end.
    pub kernel: Loaded,
    /// The cgroup file system, where there is one.
    pub mount: Option<Mount>,
    /// Which containers are asked for.
    pub selection: Selection,
    /// The format.
    pub serialiser: Serialiser,
    /// Where lines go.
    pub queue: Queue,
    /// The journal, with `-Y`.
    pub journal: Option<(serialise::Journal, Journal)>,
    /// Names connections.
    pub ids: ConnectionIds,
    /// Names the run in lines, 8 hex digits.
    pub run: String,
    /// End after so many transitions.
    pub count: Option<u64>,
}

/// Asked of the pipeline from outside.
#[derive(Debug)]
enum Request {
    /// Detach, drain, finish.
    Stop,
    /// Say the counts on stderr.
    Summary,
    /// Write a heartbeat line.
    Heartbeat,
    /// Trace by this from now on.
    View(Box<View>),
    /// Tell everything.
    Account(tokio::sync::oneshot::Sender<Account>),
}

/// Talks to a running pipeline.
#[derive(Clone)]
pub struct Handle {
    requests: Sender<Request>,
    waker: Waker,
}

impl Handle {
    fn ask(&self, request: Request) {
        // A pipeline that is gone has said its last word already.
        let _ = self.requests.send(request);
        self.waker.wake();
    }

    /// Ends it: everything captured is written or counted.
    pub fn stop(&self) {
        self.ask(Request::Stop);
    }

    /// Has it say the counts on stderr.
    pub fn summary(&self) {
        self.ask(Request::Summary);
    }

    /// Has it write a heartbeat line.
    pub fn heartbeat(&self) {
        self.ask(Request::Heartbeat);
    }

    /// Has it trace by another view.
    pub fn view(&self, view: View) {
        self.ask(Request::View(Box::new(view)));
    }

    /// Asks for its counts. The answer never comes from a pipeline that has ended.
    pub fn account(&self) -> tokio::sync::oneshot::Receiver<Account> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.ask(Request::Account(sender));
        receiver
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// All counts, exact.
    pub tally: Tally,
    /// How the output ended.
    pub end: End,
    /// Reading the rings failed.
    pub failure: Option<std::io::Error>,
}

/// A pipeline on its thread.
pub struct Running {
    /// Talks to it.
    pub handle: Handle,
    thread: JoinHandle<Outcome>,
}

impl Running {
    /// Waits for its end. `None` when the thread panicked.
    pub fn join(self) -> Option<Outcome> {
        self.thread.join().ok()
    }
}

/// One run.
struct Pipeline {
    kernel: Loaded,
    events: EventRing,
    flow: Flow,
    reporter: Reporter,
    requests: Receiver<Request>,
}

/// What every transition passes through; apart from the ring it comes from.
struct Flow {
    resolver: Resolver,
    ids: ConnectionIds,
    clock: Clock,
    serialiser: Serialiser,
    traces: TraceTable,
    queue: Queue,
    journal: Option<(serialise::Journal, Journal)>,
    scratch: Vec<u8>,
    filtered_user: u64,
    offered: u64,
    count: Option<u64>,
}

/// Attaches the programs and starts the thread. `start` writes the first line once tracing runs; `on_end` is called
/// on the pipeline's thread when it has ended.
pub fn start(
    setup: Setup,
    attach: impl FnOnce(&mut Loaded) -> anyhow::Result<()>,
    start_line: impl FnOnce(&Loaded, &mut Queue, &Serialiser),
    on_end: impl FnOnce() + Send + 'static,
) -> anyhow::Result<Running> {
    let Setup { mut kernel, mount, selection, serialiser, mut queue, journal, ids, run, count } = setup;
    let rings = kernel.rings.take().ok_or_else(|| anyhow::anyhow!("the rings are in use"))?;
    kernel.attach_cgroups();
    let mut resolver = Resolver::new(rings.cgroups, mount.as_ref(), selection);
    if let Some(mount) = &mount {
        match resolver.walk(mount, &mut kernel.rules) {
            Ok(0) => {}
            Ok(unreadable) => tracing::warn!("{unreadable} cgroup directories could not be read"),
            Err(error) => tracing::warn!("{error}; containers that run already are found by id only"),
        }
    }
    attach(&mut kernel)?;
    start_line(&kernel, &mut queue, &serialiser);
    queue.flush();
    let (sender, requests) = channel();
    let handle = Handle { requests: sender, waker: rings.sleeper.waker() };
    let flow = Flow {
        resolver,
        ids,
        clock: Clock::new(),
        serialiser,
        traces: TraceTable::default(),
        queue,
        journal,
        scratch: Vec::with_capacity(serialise::MAX_LINE),
        filtered_user: 0,
        offered: 0,
        count,
    };
    let pipeline = Pipeline { kernel, events: rings.events, flow, reporter: Reporter::new(run), requests };
    let sleeper = rings.sleeper;
    let thread = thread::Builder::new().name("pipeline".to_owned()).spawn(move || {
        // Also when the thread panics: nobody else would tell whoever waits for its end.
        let _told = OnDrop(Some(on_end));
        pipeline.run(sleeper)
    })?;
    Ok(Running { handle, thread })
}

/// Does something when it is dropped.
struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}

impl Pipeline {
    fn run(mut self, mut sleeper: Sleeper) -> Outcome {
        let failure = loop {
            let found = self.turn();
            self.tell_losses();
            if self.flow.is_done() || self.serve_requests() {
                break None;
            }
            if self.events.is_backlogged() {
                continue;
            }
            if let Err(error) = sleeper.wait(found, || self.last_look()) {
                break Some(error);
            }
        };
        self.finish(failure)
    }

    /// Everything that waits in the rings. Returns whether there was any.
    fn turn(&mut self) -> bool {
        let Self { kernel, events, flow, .. } = self;
        flow.clock.refresh(boot_ns());
        flow.resolver.follow(&mut kernel.rules);
        let found = events.drain(|record| flow.take(record, kernel));
        if found > 0 {
            flow.queue.flush();
        }
        found > 0
    }

    /// Before a sleep of any length: what was lost lately must not go untold until something else happens.
    fn last_look(&mut self) -> bool {
        let found = self.turn();
        if !found {
            self.reporter.hurry();
            self.tell_losses();
        }
        found
    }

    /// Serves what was asked. Returns whether to end.
    fn serve_requests(&mut self) -> bool {
        loop {
            match self.requests.try_recv() {
                Ok(Request::Stop) | Err(TryRecvError::Disconnected) => return true,
                Ok(Request::Summary) => say(&self.tally(true)),
                Ok(Request::Heartbeat) => {
                    // Without room the next one tells as much.
                    self.heartbeat(false);
                }
                Ok(Request::View(_) | Request::Account(_)) => {}
                Err(TryRecvError::Empty) => return false,
            }
        }
    }

    /// Detaches, drains, and waits for the output. From then on every count is exact.
    fn finish(mut self, failure: Option<std::io::Error>) -> Outcome {
        self.kernel.detach();
        while self.turn() {}
        let deadline = Instant::now() + FINISH_WITHIN;
        self.last_lines(deadline);
        let Self { mut kernel, flow, .. } = self;
        let finished = flow.queue.finish(deadline.saturating_duration_since(Instant::now()));
        let tally = tally(&mut kernel, finished.totals, flow.filtered_user, true);
        if let Some((_, journal)) = flow.journal {
            let lost = journal.finish(FINISH_WITHIN).lost();
            if lost > 0 {
                tracing::warn!("{lost} entries did not reach the journal");
            }
        }
        Outcome { tally, end: finished.end, failure }
    }

    /// The last loss and the last heartbeat. While stdout is blocked there may be no room even for these, but whoever
    /// reads on before the deadline must learn of every loss.
    fn last_lines(&mut self, deadline: Instant) {
        let mut told = false;
        loop {
            self.reporter.hurry();
            told = told || self.tell_losses();
            if (told && self.heartbeat(true)) || Instant::now() >= deadline {
                return;
            }
            thread::sleep(FULL_PAUSE);
        }
    }

    fn tally(&mut self, with_records: bool) -> Tally {
        tally(&mut self.kernel, self.flow.queue.totals(), self.flow.filtered_user, with_records)
    }

    /// Tells what was lost, if it is time to. False when stdout has no room for that.
    fn tell_losses(&mut self) -> bool {
        if !self.reporter.is_due(boot_ns()) {
            return true;
        }
        let tally = self.tally(false);
        let flow = &mut self.flow;
        self.reporter.losses(&tally, &flow.clock, &flow.serialiser, &mut flow.queue)
    }

    /// False when stdout has no room for it.
    fn heartbeat(&mut self, last: bool) -> bool {
        let tally = self.tally(false);
        let flow = &mut self.flow;
        self.reporter.heartbeat(&tally, &mut flow.clock, &flow.serialiser, &mut flow.queue, last)
    }
}

/// Counting socket records walks all of them, so it is not done for every line that tells counts.
fn tally(kernel: &mut Loaded, output: Totals, filtered_user: u64, with_records: bool) -> Tally {
    let records = with_records.then(|| kernel.socket_records()).flatten();
    Tally {
        kernel: kernel.counters.snapshot(),
        output,
        filtered_user,
        held: 0,
        counts_exactly: kernel.hook.counts_exactly(),
        socket_records: records.map(|(all, _)| all),
        closed_socket_records: records.map(|(_, closed)| closed),
    }
}

impl Flow {
    /// As many lines as were asked for are out, or nobody takes any more.
    fn is_done(&self) -> bool {
        self.count.is_some_and(|count| self.offered >= count) || self.queue.monitor().ended()
    }

    /// One ring record.
    fn take(&mut self, record: &TransitionRecord, kernel: &mut Loaded) {
        for transition in decode::transitions(record) {
            let owner = self.resolver.owner(&transition, &mut kernel.rules);
            let wanted = transition.traces | if owner.selected { transition.maybe } else { 0 };
            if wanted == 0 || self.count.is_some_and(|count| self.offered >= count) {
                self.filtered_user += 1;
                continue;
            }
            let event = Attributed {
                transition: &transition,
                unix_ns: self.clock.unix_ns(transition.boot_ns),
                connection_id: self.ids.id(&transition),
                attribution: owner.attribution,
                labels: owner.labels.as_deref(),
                traces: self.traces.of(wanted),
            };
            let serialiser = &mut self.serialiser;
            if self.queue.line(1, |out, seq| serialiser.transition(out, seq, &event)) == Offer::Accepted {
                self.offered += 1;
            }
            if let Some((encoder, journal)) = &self.journal {
                self.scratch.clear();
                encoder.datagram(&mut self.scratch, &event);
                journal.send(&self.scratch);
            }
        }
    }
}
