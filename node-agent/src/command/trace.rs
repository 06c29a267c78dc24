//! `trace`: this machine's kernel, without Kubernetes.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::Notify;

use super::{
    args::Output,
    config::TraceConfig,
    ending::ending,
    signals::{Signals, Told},
    start_line::{StartFacts, start_line},
};
use crate::{
    cgroupfs::Mount,
    connection::ConnectionIds,
    filter::compile,
    kernel::{self, Loaded, Options},
    outlet::{self, JOURNAL_SOCKET, Journal, Queue, RunId},
    pipeline::{self, Running, Setup, Target, Whereabouts},
    preflight,
    render::{self, Csv, Ecs, Json, Serialiser, Table},
};

/// Traces until the end that was asked for. True when all went well.
pub(super) fn run(config: TraceConfig) -> anyhow::Result<bool> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    runtime.block_on(trace(config))
}

async fn trace(config: TraceConfig) -> anyhow::Result<bool> {
    // Before anything is attached: a signal during the start must end the run as cleanly as a later one.
    let mut signals = Signals::new()?;
    let stop = Arc::new(Notify::new());
    let running = start(&config, &stop)?;
    let handle = running.handle.clone();
    let deadline = async {
        match config.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(deadline);
    let mut heartbeat = config
        .tuning
        .heartbeat
        .map(|pause| tokio::time::interval_at(tokio::time::Instant::now() + pause, pause));
    loop {
        tokio::select! {
            () = &mut deadline => handle.stop(),
            told = signals.next() => match told {
                Told::End => handle.stop(),
                Told::Summary => { handle.summary(); continue }
            },
            () = beat(&mut heartbeat) => { handle.heartbeat(); continue }
            // The output or the pipeline has ended. In the first case the pipeline may be asleep.
            () = stop.notified() => handle.stop(),
        }
        break;
    }
    ending(running.join(), pipeline::say)
}

async fn beat(heartbeat: &mut Option<tokio::time::Interval>) {
    match heartbeat {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

fn start(config: &TraceConfig, stop: &Arc<Notify>) -> anyhow::Result<Running> {
    let text = matches!(config.output, Output::Table | Output::Csv);
    let kernel = kernel::load(Options {
        hook: config.hook,
        ring_bytes: config.tuning.ring_bytes,
        want_on_cpu: text,
        follow_cgroups: false,
    })?;
    refuse_blind(config, kernel.reads_cgroups(), kernel.reads_namespaces())?;
    if let Some(blind) = kernel.hook.blind_spots() {
        tracing::warn!("{blind}");
    }
    let mount = match Mount::find(None) {
        Ok(mount) => Some(mount),
        Err(error) => {
            tracing::warn!("{error}; containers cannot be named by cgroup");
            None
        }
    };
    let run = RunId::random().context("making the run's id")?;
    let ended = Arc::clone(stop);
    let queue = Queue::start(outlet::stdout()?, config.tuning.queue_bytes, move |_| ended.notify_one())?;
    let setup = Setup {
        mount: mount.clone(),
        proc_root: "/proc".into(),
        target: Target::Machine(config.selection.clone()),
        whereabouts: Whereabouts::default(),
        serialiser: serialiser(config, run),
        queue,
        journal: journal(config)?,
        ids: connection_ids()?,
        run: run.to_string(),
        diagnostics: None,
        count: config.count,
        kernel,
    };
    let compiled = compile([(0, &config.filter)])?;
    let attach = |kernel: &mut Loaded| -> anyhow::Result<()> {
        kernel.rules.swap(&compiled)?;
        kernel.attach()?;
        if let Err(why) = &kernel.open_sockets {
            tracing::warn!(
                "sockets open before the start have neither role nor owner: {}",
                preflight::short(why)
            );
        }
        Ok(())
    };
    let facts = StartFacts {
        run,
        command_line: config.command_line.clone(),
        filters: Some(filters(config)),
        ring_bytes: config.tuning.ring_bytes,
        layout: mount.as_ref().map(|mount| mount.layout),
        k8s: None,
    };
    let ended = Arc::clone(stop);
    pipeline::start(setup, attach, start_line(facts), move || ended.notify_one())
}

/// A filter by something that the program cannot read would match nothing, in silence.
fn refuse_blind(config: &TraceConfig, reads_cgroups: bool, reads_namespaces: bool) -> anyhow::Result<()> {
    let why = "on this kernel the hook cannot read it (no type information, BTF)";
    if config.selection.is_active() && !reads_cgroups {
        anyhow::bail!("--container and --pod-uid need the socket's cgroup: {why}");
    }
    if config.filter.netns.is_some() && !reads_namespaces {
        anyhow::bail!("--netns needs the socket's network namespace: {why}");
    }
    Ok(())
}

fn serialiser(config: &TraceConfig, run: RunId) -> Serialiser {
    match config.output {
        Output::Json => Serialiser::Json(Json::new(run.number())),
        Output::Ecs => Serialiser::Ecs(Ecs::new(run.number())),
        Output::Csv => Serialiser::Csv(Csv::new(&config.text)),
        Output::Table => Serialiser::Table(Table::new(&config.text)),
    }
}

fn journal(config: &TraceConfig) -> anyhow::Result<Option<(render::Journal, Journal)>> {
    if !config.journal {
        return Ok(None);
    }
    let journal = Journal::open(JOURNAL_SOCKET.as_ref()).context("making a socket for the journal")?;
    let root = rustix::process::geteuid().is_root();
    Ok(Some((render::Journal { root }, journal)))
}

pub(super) fn connection_ids() -> anyhow::Result<ConnectionIds> {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let mut secret = [0; 16];
    rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())
        .context("making the secret of connection ids")?;
    Ok(ConnectionIds::new(&boot_id, secret))
}

/// What is asked for, in words.
fn filters(config: &TraceConfig) -> String {
    let selection = [("container", &config.selection.container), ("pod uid", &config.selection.pod_uid)];
    let mut filters = config.filter.to_string();
    for (name, value) in selection {
        if let Some(value) = value {
            filters += ", ";
            filters += name;
            filters += " ";
            filters += value;
        }
    }
    filters
}
