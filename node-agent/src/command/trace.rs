//! `trace`: this machine's kernel, without Kubernetes. A fixed plan of one trace.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;

use super::{
    config::TraceConfig,
    session::{Run, Session},
};
use crate::{
    cgroupfs::Mount,
    filter::TraceFilter,
    kernel::{Loaded, Pinning},
    outlet::{RunId, say},
    pipeline::{Counting, Tally},
    plan::{IdScope, Plan, View},
};

/// Traces until the end that was asked for. True when all went well.
pub(super) fn run(config: TraceConfig) -> anyhow::Result<bool> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    runtime.block_on(trace(config))
}

async fn trace(config: TraceConfig) -> anyhow::Result<bool> {
    let mut session = Session::begin(config.session.clone())?;
    let mount = Session::find_mount(None);
    let pinning = match &config.pin {
        Some(pin) => Some(pin.locked(config.session.command_line.clone()).await?),
        None => None,
    };
    let kernel = load(&session, mount.as_ref(), (&config.filter, &config.scope), pinning)?;
    let run = Run {
        id: RunId::random().context("making the run's id")?,
        view: Some(view(&config)),
        filters: Some(filters(&config)),
        diagnostics: None,
        summary: say_counts,
        identity_wait: Duration::ZERO,
        lines_per_second: 0,
        count: config.count,
        counting: Counting::Nothing,
        outlets: None,
    };
    session.start(kernel, mount, run)?;
    let stop = session
        .until_end(async {
            match config.duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        })
        .await;
    session.end(stop, say_counts).await
}

/// What the command line asks, as the plan of a node without a cluster.
fn view(config: &TraceConfig) -> View {
    let plan = Plan::of_command_line(
        config.filter.clone(),
        (config.outcomes, config.interval_ns),
        config.scope.clone(),
        config.open,
    );
    View { plan: Arc::new(plan), roster: None, refused: 0 }
}

fn say_counts(tally: &Tally) {
    say(tally);
}

/// Loads what can judge by this filter and scope, and says what it will not see.
pub(super) fn load(
    session: &Session,
    mount: Option<&Mount>,
    (filter, scope): (&TraceFilter, &IdScope),
    pinning: Option<Pinning>,
) -> anyhow::Result<Loaded> {
    let kernel = session.load(mount, pinning)?;
    refuse_blind((filter, scope), kernel.reads_cgroups(), kernel.reads_namespaces())?;
    if let Some(blind) = kernel.hook.blind_spots() {
        tracing::warn!("{blind}");
    }
    Ok(kernel)
}

/// A filter by something that the program cannot read would match nothing, in silence.
fn refuse_blind(
    (filter, scope): (&TraceFilter, &IdScope),
    reads_cgroups: bool,
    reads_namespaces: bool,
) -> anyhow::Result<()> {
    let why = "on this kernel the hook cannot read it (no type information, BTF)";
    if scope.is_active() && !reads_cgroups {
        anyhow::bail!("--container and --pod-uid need the socket's cgroup: {why}");
    }
    if filter.netns.is_some() && !reads_namespaces {
        anyhow::bail!("--netns needs the socket's network namespace: {why}");
    }
    Ok(())
}

/// What is asked for, in words.
fn filters(config: &TraceConfig) -> String {
    let IdScope { container, pod_uid } = &config.scope;
    let mut filters = config.filter.to_string();
    for (name, value) in [("container", container), ("pod uid", pod_uid)] {
        if let Some(value) = value {
            filters += ", ";
            filters += name;
            filters += " ";
            filters += value;
        }
    }
    filters
}
