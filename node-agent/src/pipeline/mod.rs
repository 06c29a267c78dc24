//! Joins the stations: the thread on which a transition goes from the ring to the outlets, of `trace` and of `agent`.
//!
//! ```text
//! kernel ─► decode ─► connection ─► owner ─► settle ─► limit ─► outlets (each renders what it needs)
//!              ▲                     ▲  │       ▲
//!              ├─ ledger (bits)      │  │       └─ held: who is not known yet
//!              └─ undecided:         │  └─ describe: the owner's names
//!                 who else wants it  ├─ cgroups ─────────┐
//!                                    └─ standing (View) ─┴─► membership ─► the kernel's cgroup sets
//!                                             ▲
//!                            force: the kernel's rules, attach, detach
//! ```

mod account;
mod alone;
mod before;
mod census;
mod cgroups;
mod counts;
mod describe;
mod doubt;
mod ending;
mod flood;
mod flow;
mod force;
mod handle;
mod held;
mod leaving;
mod ledger;
mod left_in_ring;
mod listing;
mod live;
mod membership;
mod open;
mod other_end;
mod owner;
mod replay;
mod report;
mod rewalk;
mod snapshot;
mod standing;
mod summaries;
mod tally;
mod tasks;
mod undecided;

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use kube_tcpstates_common::{
    counter::Counter,
    pinned::Word,
    record::{Figures, TransitionRecord},
};
use kube_tcpstates_events::{K8s, Line, Log};

pub use account::{Account, TraceCounts};
pub use census::Counting;
pub use describe::Whereabouts;
pub use handle::{Handle, Stop};
pub use leaving::pods_of;
pub use listing::{Listing, list};
pub use replay::Replay;
pub use tally::Tally;

use self::{
    before::{Before, leave},
    census::Counted,
    cgroups::Cgroups,
    ending::FINISH_WITHIN,
    flood::Floods,
    flow::{Flow, Parts},
    handle::Request,
    leaving::Leaving,
    left_in_ring::LeftInRing,
    live::Live,
    membership::Membership,
    open::OpenSockets,
    owner::Owners,
    report::Reporter,
    rewalk::Rewalk,
    summaries::Summaries,
};
use crate::{
    cgroupfs::{Layout, Mount},
    connection::ConnectionIds,
    kernel::{
        BATCH, Earlier, EventRing, GoesOn, Inherited, Left, LeftText, Loaded, Look, Rings, Sleeper,
        TaskHierarchy, boot_ns,
    },
    limit::RateLimiter,
    outlet::{End, Outlets},
    plan::View,
};

/// Records that are taken at a time where those in the ring outlive this process.
const FEW: usize = 128;

/// What the pipeline works with, all set up.
pub struct Setup {
    /// The programs, loaded; the pipeline detaches them at the end.
    pub kernel: Loaded,
    /// The cgroup file system, where there is one.
    pub mount: Option<Mount>,
    /// Where the host's processes are to be seen, if they are.
    pub proc_root: PathBuf,
    /// Where this runs, for every line.
    pub whereabouts: Whereabouts,
    /// Where lines go.
    pub outlets: Outlets,
    /// Writes the first line of the run, once tracing is as the first view wants it.
    pub start_line: StartLine,
    /// Diagnostics to write between the lines, where they do not go to stderr.
    pub diagnostics: Option<Receiver<Log>>,
    /// Says the counts when somebody asks for them.
    pub summary: fn(&Tally),
    /// Names connections.
    pub ids: ConnectionIds,
    /// Names the run in lines, 8 hex digits.
    pub run: String,
    /// How long a transition waits for its owner's name.
    pub identity_wait: Duration,
    /// Lines a second for all traces together; 0 is no limit.
    pub lines_per_second: u32,
    /// End after so many transitions.
    pub count: Option<u64>,
    /// What is counted beside the lines.
    pub counting: Counting,
    /// What the run before has left, where its tracing goes on.
    pub inherited: Option<Inherited>,
    /// Where the next run finds what this one knows, and what stands there, if there is to be a next run.
    pub left: Option<(Left, Vec<LeftText>)>,
}

/// Makes the first line of the run.
pub type StartLine = Box<dyn FnOnce(&Loaded) -> Line + Send>;

/// How a run ended.
#[derive(Debug)]
pub struct RunResult {
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
    thread: JoinHandle<RunResult>,
}

impl Running {
    /// Waits for its end. `None` when the thread panicked.
    pub fn join(self) -> Option<RunResult> {
        self.thread.join().ok()
    }
}

/// One run.
struct Pipeline {
    kernel: Loaded,
    mount: Option<Mount>,
    events: EventRing,
    flow: Flow,
    membership: Membership,
    rewalk: Rewalk,
    floods: Floods,
    reporter: Reporter,
    open: OpenSockets,
    live: Option<Live>,
    requests: Receiver<Request>,
    diagnostics: Option<Receiver<Log>>,
    summary: fn(&Tally),
    start_line: Option<StartLine>,
    /// Revision of the plan in force.
    in_force: Option<u64>,
    /// Why what should be traced is not.
    failure: Option<String>,
    /// Counts of the runs before.
    before: Before,
    /// What another run has attached waits for a view that says how to go on; until then the ring keeps it.
    goes_on: bool,
    /// What sets of others have left, to be told behind the first line.
    left: Vec<Earlier>,
    /// Leaves to the next run what it could not ask for.
    leaving: Option<Leaving>,
    /// When it was last shown to the programs that somebody reads, boot time ns.
    shown_ns: u64,
    left_in_ring: LeftInRing,
}

/// Starts the thread. It traces by the view given, which is in force when this comes back; without one nothing is
/// attached until a view comes through the [`Handle`]. `on_end` is called on the pipeline's thread when it has ended.
pub fn start(
    setup: Setup,
    view: Option<View>,
    on_end: impl FnOnce() + Send + 'static,
) -> anyhow::Result<Running> {
    let (mut pipeline, handle, sleeper) = assemble(setup)?;
    if let Some(view) = view {
        pipeline.put_in_force(view)?;
    }
    let thread = thread::Builder::new().name("pipeline".to_owned()).spawn(move || {
        // Also when the thread panics: nobody else would tell whoever waits for its end.
        let _told = OnDrop(Some(on_end));
        pipeline.run(sleeper)
    })?;
    Ok(Running { handle, thread })
}

fn assemble(setup: Setup) -> anyhow::Result<(Pipeline, Handle, Sleeper)> {
    let Setup {
        mut kernel,
        mount,
        proc_root,
        whereabouts,
        outlets,
        start_line,
        diagnostics,
        summary,
        ids,
        run,
        identity_wait,
        lines_per_second,
        count,
        counting,
        inherited,
        left,
    } = setup;
    let rings = kernel.rings.take().ok_or_else(|| anyhow::anyhow!("the rings are in use"))?;
    let Rings { events, cgroups, sleeper } = rings;
    let k8s = K8s::at(whereabouts.cluster.clone(), whereabouts.node.clone());
    let unified = mount.as_ref().is_some_and(|mount| mount.layout == Layout::Unified);
    let mut cgroups = Cgroups::new(Some(cgroups), mount.as_ref());
    let leaving = left.map(|(left, texts)| {
        cgroups.take_over(&texts);
        Leaving::new(left)
    });
    let owners = Owners::new(cgroups, proc_root, (unified, kernel.reads_tasks()), whereabouts);
    let membership = Membership::new(owners.layout());
    let limiter = RateLimiter::new(lines_per_second);
    let wait_ns = u64::try_from(identity_wait.as_nanos()).unwrap_or(u64::MAX);
    let summaries = Summaries::new(run.clone(), k8s.clone());
    let counted = Counted::new(&counting);
    let before = Before::read(&kernel.page(), events.taken());
    let begins_ns = kernel.page().get(Word::Begins);
    let mut flow =
        Flow::new(Parts { owners, ids, outlets, count, limiter, summaries, counted, wait_ns, begins_ns });
    let reporter = Reporter::new(run, k8s, before.losses_told, flow.outlets.count());
    let goes_on = inherited.and_then(|inherited| inherited.goes_on);
    if let Some(GoesOn { rules, ring_full }) = &goes_on {
        flow.ledger.go_on(rules, ring_full);
    }
    let tasks = mount.as_ref().and_then(task_hierarchy);
    let open = OpenSockets::new(tasks, sleeper.waker(), counting.every_ns());
    let (sender, requests) = channel();
    let handle = Handle { requests: sender, waker: sleeper.waker() };
    let pipeline = Pipeline {
        kernel,
        mount,
        events,
        flow,
        membership,
        rewalk: Rewalk::default(),
        floods: Floods::default(),
        reporter,
        open,
        live: counting.looker(),
        requests,
        diagnostics,
        summary,
        start_line: Some(start_line),
        in_force: None,
        failure: None,
        before,
        goes_on: goes_on.is_some(),
        left: Vec::new(),
        leaving,
        shown_ns: 0,
        left_in_ring: LeftInRing::default(),
    };
    Ok((pipeline, handle, sleeper))
}

/// What the kernel side is to read of tasks.
pub fn task_hierarchy(mount: &Mount) -> Option<TaskHierarchy> {
    let tasks = mount.tasks.as_ref()?;
    Some(TaskHierarchy { controller: tasks.controller, number: tasks.number })
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
    fn run(mut self, mut sleeper: Sleeper) -> RunResult {
        let (failure, stop) = loop {
            let found = self.turn();
            self.tell_losses();
            if self.flow.is_done() {
                break (None, Stop::ForGood);
            }
            if let Some(stop) = self.serve_requests() {
                break (None, stop);
            }
            if self.left_in_ring.has_more() {
                continue;
            }
            if let Err(error) = sleeper.wait(found, || self.last_look()) {
                break (Some(error), Stop::ForGood);
            }
        };
        self.finish(failure, stop)
    }

    /// Everything that waits in the rings. Returns whether there was any.
    fn turn(&mut self) -> bool {
        let now_ns = boot_ns();
        self.flow.clock.refresh(now_ns);
        self.flow.owners.cgroups.follow();
        self.tell_rules();
        self.leave_cgroups(now_ns);
        let found = self.take_records(now_ns);
        self.flow.end_waits(now_ns);
        self.flow.tell_due_summaries(now_ns);
        // Also of those that only a look-up found, and of whom was given up.
        self.tell_rules();
        self.see_to_open_sockets(now_ns);
        self.write_diagnostics();
        // Also what waited for a name until now, or for a view.
        self.flow.outlets.flush();
        self.leave();
        self.show_reader(now_ns);
        found
    }

    /// Takes what is in the ring, as far as it should not stay there. Returns whether there is any.
    fn take_records(&mut self, now_ns: u64) -> bool {
        let Self { kernel, events, flow, left_in_ring, .. } = self;
        if self.goes_on {
            return false;
        }
        let outlives = kernel.is_pinned() && kernel.is_attached();
        let waiting = events.waiting();
        if outlives && left_in_ring.stay(flow.outlets.all_are_behind(), waiting, kernel.ring_bytes, now_ns) {
            return waiting > 0;
        }
        let take = |record: &TransitionRecord, figures: Option<&Figures>| flow.take(record, figures);
        let most = if outlives { FEW } else { BATCH };
        let taken = events.drain_at_most(most, take);
        left_in_ring.took(taken, most);
        taken > 0
    }

    /// What is new of cgroups goes into the kernel's rules.
    fn tell_rules(&mut self) {
        let owners = &mut self.flow.owners;
        self.membership.catch_up(&mut owners.cgroups, &owners.standings, &mut self.kernel.rules);
    }

    /// What has been said lately.
    fn write_diagnostics(&mut self) {
        let Some(diagnostics) = &self.diagnostics else { return };
        while let Ok(log) = diagnostics.try_recv() {
            // Without room it is dropped: events matter more.
            let _ = self.flow.outlets.line(&Line::Log(log));
        }
    }

    /// Writes the first line of the run, once.
    fn say_start(&mut self) {
        if let Some(start_line) = self.start_line.take() {
            // Nothing but diagnostics is waiting yet, so there is room.
            let _ = self.flow.outlets.line(&start_line(&self.kernel));
            self.flow.outlets.flush();
        }
    }

    /// Before a sleep: it ends when the next wait for an owner does, and when what was lost lately may be told, which
    /// must not wait until something else happens.
    fn last_look(&mut self) -> Look {
        if self.turn() {
            return Look::Found;
        }
        let now_ns = boot_ns();
        let tally = self.tally(false);
        if self.walk_after_loss(&tally) {
            return Look::Found;
        }
        let has_begun = self.start_line.is_none();
        if has_begun && self.reporter.is_due(now_ns) {
            self.tell(&tally);
        }
        let untold = has_begun && self.reporter.is_untold(&tally, &mut self.flow.ledger);
        let loss_ns = untold.then(|| self.reporter.due_ns());
        let walk_ns = self.rewalk.due_ns(tally.kernel.get(Counter::CgroupRingFull));
        let open_ns = self.open.due_ns();
        let next_ns = self.flow.next_deadline().into_iter().chain(loss_ns).chain(walk_ns).chain(open_ns);
        let next_ns = next_ns.chain(self.show_reader_ns()).min();
        Look::Nothing(next_ns.map(|next_ns| Duration::from_nanos(next_ns.saturating_sub(now_ns).max(1))))
    }

    /// Serves what was asked. Returns how to end, if that was asked.
    fn serve_requests(&mut self) -> Option<Stop> {
        loop {
            match self.requests.try_recv() {
                Ok(Request::Stop(stop)) => return Some(stop),
                Err(TryRecvError::Disconnected) => return Some(Stop::ForGood),
                Ok(Request::Summary) => {
                    let tally = self.tally(true);
                    (self.summary)(&tally);
                }
                Ok(Request::Heartbeat) => {
                    self.try_again();
                    // Without room the next one tells as much.
                    self.heartbeat(false);
                }
                Ok(Request::View(view)) => {
                    self.try_to_put_in_force(*view);
                    self.flow.outlets.flush();
                }
                Ok(Request::News(news)) => self.flow.hear(*news),
                Ok(Request::Account(answer)) => {
                    // Whoever asked may have given up.
                    let _ = answer.send(self.account());
                }
                Err(TryRecvError::Empty) => return None,
            }
        }
    }

    /// Detaches, drains, and waits for the output. From then on every count is exact. Or leaves what is attached to the
    /// next run, with what is in the ring from now on.
    fn finish(mut self, failure: Option<std::io::Error>, stop: Stop) -> RunResult {
        // Of those in socket storage none are left after it.
        let records = self.kernel.socket_records();
        let leaves = stop == Stop::AnotherGoesOn && self.kernel.is_pinned() && self.kernel.is_attached();
        if !leaves {
            self.goes_on = false;
            self.kernel.detach();
            while self.turn() {}
        }
        // Nobody has the time to wait for names any more.
        self.flow.end_waits(u64::MAX);
        let deadline = Instant::now() + FINISH_WITHIN;
        self.last_lines(deadline);
        let mut tally = self.tally_with(records);
        let page = self.kernel.page();
        let finished = self.flow.outlets.finish(deadline.saturating_duration_since(Instant::now()));
        tally.output = finished.totals;
        self.before.add_lines_to(&mut tally);
        if leaves {
            leave(&tally, 0, &page);
        } else {
            self.kernel.remove_pins();
        }
        RunResult { tally, end: finished.end, failure }
    }
}
