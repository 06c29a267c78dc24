//! What `trace` and `agent` have in common: the kernel's programs, the cgroup mount, the outlets, the pipeline, its
//! heartbeat and the signals.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use kube_tcpstates_common::pinned::Word;
use tokio::sync::Notify;

use super::{
    ending::ending,
    signals::{Signal, Signals},
    start_line::{StartFacts, start_line},
    tuning::Tuning,
};
use crate::{
    cgroupfs::Mount,
    connection::ConnectionIds,
    kernel::{self, Hook, LoadError, Loaded, Options, Page, Pinning},
    outlet::{self, Asked, Diagnostics, OnEnd, OtlpTarget, Outlets, RunId, Witness},
    pipeline::{self, Counting, Handle, Running, Setup, Stop, Tally, Whereabouts, pods_of, task_hierarchy},
    plan::{Plan, Remembered, View},
    render::{FormatEntry, TextOptions},
};

/// A run of the tracer, from its first signal handler to its last line.
pub(super) struct Session {
    options: SessionOptions,
    signals: Signals,
    /// The run's own outlet, or the pipeline, has ended.
    ended: Arc<Notify>,
    running: Option<Running>,
    /// What the run before this one knew, where what it attached still traces.
    before: Remembered,
}

/// What the command line says of any run.
#[derive(Clone, Debug)]
pub(super) struct SessionOptions {
    pub(super) hook: Option<Hook>,
    pub(super) format: &'static FormatEntry,
    pub(super) text: TextOptions,
    /// Also to the systemd journal.
    pub(super) journal: bool,
    /// Also to an OpenTelemetry endpoint.
    pub(super) otlp: Option<OtlpTarget>,
    pub(super) tuning: Tuning,
    /// The arguments, for the `start` line.
    pub(super) command_line: String,
    pub(super) proc_root: std::path::PathBuf,
    pub(super) whereabouts: Whereabouts,
}

/// What one run has that another has not.
pub(super) struct Run<'a> {
    pub(super) id: RunId,
    /// Works by this from the start; without it, by what comes.
    pub(super) view: Option<View>,
    /// What is asked for, in words.
    pub(super) filters: Option<String>,
    /// Diagnostics go to the outlets through these; without them, to stderr.
    pub(super) diagnostics: Option<&'a Diagnostics>,
    /// Says the counts, at the end and when asked for.
    pub(super) summary: fn(&Tally),
    pub(super) identity_wait: Duration,
    pub(super) lines_per_second: u32,
    pub(super) count: Option<u64>,
    pub(super) counting: Counting,
    /// Where lines go; `None` is where the options say.
    pub(super) outlets: Option<Outlets>,
}

impl Session {
    /// Before anything is attached: a signal during the start must end the run as cleanly as a later one.
    pub(super) fn begin(options: SessionOptions) -> anyhow::Result<Self> {
        Ok(Self {
            options,
            signals: Signals::new()?,
            ended: Arc::new(Notify::new()),
            running: None,
            before: Remembered::default(),
        })
    }

    /// Where cgroups are, if they are anywhere.
    pub(super) fn find_mount(root: Option<&Path>) -> Option<Mount> {
        Mount::find(root)
            .inspect_err(|error| tracing::warn!("{error}; containers cannot be named by cgroup"))
            .ok()
    }

    /// Loads the programs. Nothing is attached, unless there is something pinned to take over.
    pub(super) fn load(&self, mount: Option<&Mount>, pinning: Option<Pinning>) -> Result<Loaded, LoadError> {
        let options = Options {
            hook: self.options.hook,
            ring_bytes: self.options.tuning.ring_bytes,
            // BCC's columns show who was on the CPU.
            want_on_cpu: self.options.format.columns,
            tasks: mount.and_then(task_hierarchy),
        };
        kernel::load(options, pinning)
    }

    /// Starts the pipeline.
    pub(super) fn start(
        &mut self,
        mut kernel: Loaded,
        mount: Option<Mount>,
        run: Run<'_>,
    ) -> anyhow::Result<Handle> {
        let inherited = kernel.inherited()?;
        let left = kernel.left()?;
        let continues = inherited.as_ref().and_then(|inherited| inherited.continues.clone());
        let rules = inherited.as_ref().and_then(|inherited| inherited.goes_on.as_ref()?.rules.last());
        self.before = Remembered {
            plan: rules.map(|rules| Plan::left(&rules.traces)),
            pods: left.as_ref().map(|(_, texts)| pods_of(texts)).unwrap_or_default(),
        };
        let ids = Ids::new(inherited.as_ref().map(|inherited| inherited.secret.as_str()))?;
        kernel.leave_run(run.id.to_string(), ids.secret(), continues.clone());
        let Run {
            id,
            view,
            filters,
            diagnostics,
            summary,
            identity_wait,
            lines_per_second,
            count,
            counting,
            outlets,
        } = run;
        let options = &self.options;
        let facts = StartFacts {
            run: id,
            command_line: options.command_line.clone(),
            filters,
            ring_bytes: options.tuning.ring_bytes,
            layout: mount.as_ref().map(|mount| mount.layout),
            whereabouts: options.whereabouts.clone(),
            continues,
        };
        let asked = Asked {
            run: id,
            format: options.format,
            text: options.text.clone(),
            queue_bytes: options.tuning.queue_bytes,
            journal: options.journal,
            otlp: options.otlp.clone(),
            witness: kernel.is_pinned().then(|| witness(kernel.page())),
        };
        let ended = Arc::clone(&self.ended);
        let on_end: OnEnd = Arc::new(move || ended.notify_one());
        let setup = Setup {
            kernel,
            mount,
            proc_root: options.proc_root.clone(),
            whereabouts: options.whereabouts.clone(),
            outlets: outlets.map_or_else(|| outlet::open(&asked, &on_end), Ok)?,
            start_line: start_line(facts),
            diagnostics: diagnostics.map(Diagnostics::through_pipeline),
            summary,
            ids: ids.ids,
            run: id.to_string(),
            identity_wait,
            lines_per_second,
            count,
            counting,
            inherited,
            left,
        };
        let running = pipeline::start(setup, view, move || on_end())?;
        let handle = running.handle.clone();
        if let Some(diagnostics) = diagnostics {
            let handle = handle.clone();
            diagnostics.wake_by(move || handle.wake());
        }
        self.running = Some(running);
        Ok(handle)
    }

    /// What the run before this one knew, where its tracing goes on.
    #[cfg(feature = "cluster")]
    pub(super) fn take_before(&mut self) -> Remembered {
        std::mem::take(&mut self.before)
    }

    /// Comes back when the run is to end: a signal asks for it, the outlet or the pipeline has ended, or `other` has.
    /// Heartbeats go out meanwhile. Says how to end.
    pub(super) async fn until_end(&mut self, other: impl Future<Output = ()>) -> Stop {
        let Self { options, signals, ended, running, .. } = self;
        let handle = running.as_ref().map(|running| &running.handle);
        tokio::select! {
            () = other => Stop::ForGood,
            () = ended.notified() => Stop::ForGood,
            () = beat(options.tuning.heartbeat, handle) => Stop::ForGood,
            stop = end_asked(signals, handle) => stop,
        }
    }

    /// Ends the pipeline, if there is one, and says how it went: true when all did.
    pub(super) async fn end(self, stop: Stop, say: impl FnOnce(&Tally)) -> anyhow::Result<bool> {
        let Some(running) = self.running else { return Ok(false) };
        running.handle.stop(stop);
        let outcome = tokio::task::spawn_blocking(|| running.join()).await.ok().flatten();
        ending(outcome, say)
    }
}

/// Comes back when a signal asks for the end.
async fn end_asked(signals: &mut Signals, handle: Option<&Handle>) -> Stop {
    loop {
        match signals.next().await {
            Signal::Interrupt => return Stop::ForGood,
            Signal::Terminate => return Stop::AnotherGoesOn,
            Signal::Summary => handle.into_iter().for_each(Handle::summary),
        }
    }
}

/// Has a heartbeat written from time to time. Never comes back.
async fn beat(pause: Option<Duration>, handle: Option<&Handle>) {
    let (Some(pause), Some(handle)) = (pause, handle) else { return std::future::pending().await };
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + pause, pause);
    loop {
        interval.tick().await;
        handle.heartbeat();
    }
}

/// Counts what is written where the next run finds it.
fn witness(page: Arc<Page>) -> Witness {
    Arc::new(move |events, lines| {
        page.add(Word::Written, events);
        page.add(Word::Lines, lines);
    })
}

/// Ids of connections, and the secret that makes the next run give the same ones.
struct Ids {
    ids: ConnectionIds,
    secret: [u8; 16],
}

impl Ids {
    /// `left`: the secret of the run before.
    fn new(left: Option<&str>) -> anyhow::Result<Self> {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let mut secret = [0; 16];
        match left.and_then(|left| u128::from_str_radix(left, 16).ok()) {
            Some(left) => secret = left.to_be_bytes(),
            None => {
                rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())
                    .context("making the secret of connection ids")?;
            }
        }
        Ok(Self { ids: ConnectionIds::new(&boot_id, secret), secret })
    }

    fn secret(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.secret))
    }
}
