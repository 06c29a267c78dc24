//! Joins the stations: the thread on which a transition goes from the ring to the output's queue.
//!
//! ```text
//! kernel ─► decode ─► connection ─► identity (resolver) ─► settle ─► serialise ─► output
//!              ▲                        │    ▲               │
//!              ├─ ledger (bits)         │    └─ chooser      ├─ holding: who is not known yet
//!              └─ settling: who else    ▼       (View)       └─ rate
//!                       force: the kernel's rules and cgroup sets
//! ```

mod account;
mod chooser;
mod flow;
mod force;
mod handle;
mod holding;
mod ledger;
mod rendered;
mod replay;
mod report;
mod resolver;
mod selection;
mod settling;
mod tally;

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use kube_tcpstates_events::K8s;

pub use account::{Account, TraceCounts};
pub use handle::Handle;
pub use rendered::Whereabouts;
pub use replay::Replay;
pub use report::say;
pub use selection::Selection;
pub use tally::Tally;

use self::{
    chooser::{Chooser, Viewed},
    flow::{Flow, Parts},
    handle::Request,
    report::{InCluster, Reporter},
    resolver::Resolver,
};
use crate::{
    cgroupfs::Mount,
    connection::ConnectionIds,
    kernel::{EventRing, Loaded, Look, Rings, Sleeper, boot_ns},
    limit::RateLimiter,
    outlet::{End, Journal, Queue},
    render::{self, Serialiser},
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
    /// Where the host's processes are to be seen, if they are.
    pub proc_root: PathBuf,
    /// What is traced.
    pub target: Target,
    /// Where this runs, for every line.
    pub whereabouts: Whereabouts,
    /// The format.
    pub serialiser: Serialiser,
    /// Where lines go.
    pub queue: Queue,
    /// The journal, with `-Y`.
    pub journal: Option<(render::Journal, Journal)>,
    /// Diagnostics to write between the lines, newline included, where they do not go to stderr.
    pub diagnostics: Option<Receiver<Vec<u8>>>,
    /// Names connections.
    pub ids: ConnectionIds,
    /// Names the run in lines, 8 hex digits.
    pub run: String,
    /// End after so many transitions.
    pub count: Option<u64>,
}

/// What is traced.
pub enum Target {
    /// This machine, or some containers of it.
    Machine(Selection),
    /// What the [`crate::plan::View`] says that comes through [`Handle::view`].
    Cluster {
        /// How long a transition waits for its owner's name.
        identity_wait: Duration,
        /// Lines a second for all traces together; 0 is no limit.
        lines_per_second: u32,
    },
}

/// Writes the first line of the run.
pub type StartLine = Box<dyn FnOnce(&Loaded, &mut Queue, &Serialiser) + Send>;

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
    mount: Option<Mount>,
    events: EventRing,
    flow: Flow,
    reporter: Reporter,
    requests: Receiver<Request>,
    diagnostics: Option<Receiver<Vec<u8>>>,
    start_line: Option<StartLine>,
    /// Revision of the plan in force.
    in_force: Option<u64>,
    /// Why what should be traced is not.
    failure: Option<String>,
}

/// Attaches the programs by `attach` and starts the thread; the first line is written once tracing runs. `on_end` is
/// called on the pipeline's thread when it has ended.
pub fn start(
    setup: Setup,
    attach: impl FnOnce(&mut Loaded) -> anyhow::Result<()>,
    start_line: StartLine,
    on_end: impl FnOnce() + Send + 'static,
) -> anyhow::Result<Running> {
    let (mut pipeline, handle, sleeper) = assemble(setup, start_line)?;
    pipeline.kernel.attach_cgroups();
    pipeline.walk();
    attach(&mut pipeline.kernel)?;
    pipeline.flow.ledger.begin(pipeline.kernel.rules.generation());
    pipeline.say_start();
    spawn(pipeline, handle, sleeper, on_end)
}

/// Starts the thread with nothing attached: it waits for a view. The first line is written when that is in force.
pub fn serve(
    setup: Setup,
    start_line: StartLine,
    on_end: impl FnOnce() + Send + 'static,
) -> anyhow::Result<Running> {
    let (pipeline, handle, sleeper) = assemble(setup, start_line)?;
    spawn(pipeline, handle, sleeper, on_end)
}

fn assemble(setup: Setup, start_line: StartLine) -> anyhow::Result<(Pipeline, Handle, Sleeper)> {
    let Setup {
        mut kernel,
        mount,
        proc_root,
        target,
        whereabouts,
        serialiser,
        queue,
        journal,
        diagnostics,
        ids,
        run,
        count,
    } = setup;
    let rings = kernel.rings.take().ok_or_else(|| anyhow::anyhow!("the rings are in use"))?;
    let Rings { events, cgroups, sleeper } = rings;
    let (chooser, limiter, wait) = match target {
        Target::Machine(selection) => (Chooser::Selection(selection), None, Duration::ZERO),
        Target::Cluster { identity_wait, lines_per_second } => {
            let viewed = Chooser::View(Box::<Viewed>::default());
            (viewed, Some(RateLimiter::new(lines_per_second)), identity_wait)
        }
    };
    let k8s = K8s::at(whereabouts.cluster.clone(), whereabouts.node.clone());
    let resolver = Resolver::new(cgroups, mount.as_ref(), proc_root, chooser, whereabouts);
    let wait_ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
    let flow = Flow::new(Parts { resolver, ids, serialiser, queue, journal, count, limiter, wait_ns });
    let (sender, requests) = channel();
    let handle = Handle { requests: sender, waker: sleeper.waker() };
    let pipeline = Pipeline {
        kernel,
        mount,
        events,
        flow,
        reporter: Reporter::new(run, k8s),
        requests,
        diagnostics,
        start_line: Some(start_line),
        in_force: None,
        failure: None,
    };
    Ok((pipeline, handle, sleeper))
}

fn spawn(
    pipeline: Pipeline,
    handle: Handle,
    sleeper: Sleeper,
    on_end: impl FnOnce() + Send + 'static,
) -> anyhow::Result<Running> {
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
        let now_ns = boot_ns();
        flow.clock.refresh(now_ns);
        flow.resolver.follow(&mut kernel.rules);
        let found = events.drain(|record| flow.take(record, &mut kernel.rules));
        flow.end_waits(now_ns, &mut kernel.rules);
        self.write_diagnostics();
        // Also what waited for a name until now, or for a view.
        self.flow.queue.flush();
        found > 0
    }

    /// What has been said lately.
    fn write_diagnostics(&mut self) {
        let Some(diagnostics) = &self.diagnostics else { return };
        while let Ok(line) = diagnostics.try_recv() {
            // Without room it is dropped: events matter more.
            let _ = self.flow.queue.note(|out| out.extend_from_slice(&line));
        }
    }

    /// Writes the first line of the run, once.
    fn say_start(&mut self) {
        if let Some(start_line) = self.start_line.take() {
            start_line(&self.kernel, &mut self.flow.queue, &self.flow.serialiser);
            self.flow.queue.flush();
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
        if self.reporter.is_due(now_ns) {
            self.tell(&tally);
        }
        let untold = self.reporter.is_untold(&tally);
        let loss_ns = untold.then(|| self.reporter.due_ns());
        let next_ns = self.flow.next_deadline().into_iter().chain(loss_ns).min();
        Look::Nothing(next_ns.map(|next_ns| Duration::from_nanos(next_ns.saturating_sub(now_ns).max(1))))
    }

    /// Serves what was asked. Returns whether to end.
    fn serve_requests(&mut self) -> bool {
        loop {
            match self.requests.try_recv() {
                Ok(Request::Stop) | Err(TryRecvError::Disconnected) => return true,
                Ok(Request::Summary) => {
                    let tally = self.tally(true);
                    if self.diagnostics.is_some() {
                        tracing::info!("{tally}");
                    } else {
                        say(&tally);
                    }
                }
                Ok(Request::Heartbeat) => {
                    self.try_again();
                    // Without room the next one tells as much.
                    self.heartbeat(false);
                }
                Ok(Request::View(view)) => {
                    self.put_in_force(*view);
                    self.flow.queue.flush();
                }
                Ok(Request::Account(answer)) => {
                    // Whoever asked may have given up.
                    let _ = answer.send(self.account());
                }
                Err(TryRecvError::Empty) => return false,
            }
        }
    }

    /// Detaches, drains, and waits for the output. From then on every count is exact.
    fn finish(mut self, failure: Option<std::io::Error>) -> Outcome {
        self.kernel.detach();
        while self.turn() {}
        // Nobody has the time to wait for names any more.
        self.flow.end_waits(u64::MAX, &mut self.kernel.rules);
        let deadline = Instant::now() + FINISH_WITHIN;
        self.last_lines(deadline);
        let mut tally = self.tally(true);
        let flow = self.flow;
        let finished = flow.queue.finish(deadline.saturating_duration_since(Instant::now()));
        tally.output = finished.totals;
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

    /// Counting socket records walks all of them, so it is not done for every line that tells counts.
    fn tally(&mut self, with_records: bool) -> Tally {
        let records = with_records.then(|| self.kernel.socket_records()).flatten();
        let flow = &self.flow;
        Tally {
            kernel: self.kernel.counters.snapshot(),
            output: flow.queue.totals(),
            filtered_user: flow.filtered_user,
            lost_identity: flow.lost_identity,
            lost_rate: flow.lost_rate,
            held: flow.held() as u64,
            counts_exactly: self.kernel.hook.counts_exactly(),
            socket_records: records.map(|(all, _)| all),
            closed_socket_records: records.map(|(_, closed)| closed),
        }
    }

    fn account(&mut self) -> Account {
        let tally = self.tally(false);
        self.flow.ledger.kernel(&tally.kernel.ring_full_by_trace);
        Account {
            attached: self.kernel.is_attached(),
            failure: self.failure.clone(),
            traces: self.flow.ledger.counts(),
            held: tally.held,
            cgroups: self.flow.resolver.cgroups(),
            tally,
        }
    }

    /// Tells what was lost, if it is time to. False when stdout has no room for that.
    fn tell_losses(&mut self) -> bool {
        if !self.reporter.is_due(boot_ns()) {
            return true;
        }
        let tally = self.tally(false);
        self.tell(&tally)
    }

    /// Tells what was lost by then. False when stdout has no room for that.
    fn tell(&mut self, tally: &Tally) -> bool {
        let flow = &mut self.flow;
        flow.ledger.kernel(&tally.kernel.ring_full_by_trace);
        self.reporter.losses(tally, &mut flow.ledger, &flow.clock, &flow.serialiser, &mut flow.queue)
    }

    /// False when stdout has no room for it.
    fn heartbeat(&mut self, last: bool) -> bool {
        if self.start_line.is_some() {
            // The first numbered line of a run is another, and it has not come yet.
            return true;
        }
        let tally = self.tally(false);
        let cluster = self.in_cluster();
        let flow = &mut self.flow;
        self.reporter.heartbeat(&tally, cluster, &mut flow.clock, &flow.serialiser, &mut flow.queue, last)
    }

    /// What a heartbeat says of the cluster.
    fn in_cluster(&self) -> Option<InCluster> {
        let Chooser::View(viewed) = &self.flow.resolver.chooser else { return None };
        Some(InCluster {
            traces_loaded: u32::try_from(viewed.view.plan.active().count()).unwrap_or(u32::MAX),
            traces_refused: viewed.view.refused,
            api_in_sync: viewed.view.roster.in_sync(),
        })
    }
}
