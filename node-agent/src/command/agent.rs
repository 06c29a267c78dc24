//! `agent`: the `DaemonSet`'s process. The pipeline traces by what the cluster's edge tells it; when the preflight
//! fails there is no pipeline, and the agent stays to say why.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use kube_tcpstates_events::{K8s, Level};
use tokio::sync::Notify;

use super::{
    args::{AgentArguments, StreamFormat},
    ending::ending,
    signals::{Signals, Told},
    start_line::{StartFacts, cgroup_mode, start_line},
    trace::connection_ids,
    tuning::Tuning,
};
use crate::{
    cgroupfs::{self, Mount},
    cluster::{Cluster, ClusterConfig, NodeFacts},
    filter::duration::parse_duration,
    kernel::{self, Hook, Loaded, Options},
    outlet::{self, Diagnostics, Queue, RunId},
    pipeline::{self, Handle, Running, Setup, Target, Whereabouts},
    preflight,
    render::{Ecs, Json, Serialiser},
    telemetry::{self, Facts, Telemetry},
};

/// A run of `agent`.
#[derive(Debug)]
pub(super) struct AgentConfig {
    whereabouts: Whereabouts,
    node: String,
    kubeconfig: Option<PathBuf>,
    metrics_addr: std::net::SocketAddr,
    format: StreamFormat,
    cgroup_root: Option<PathBuf>,
    proc_root: PathBuf,
    hook: Option<Hook>,
    identity_wait: Duration,
    max_traces_per_namespace: usize,
    max_lines_per_second: u32,
    tuning: Tuning,
    command_line: String,
}

impl AgentConfig {
    /// Checks the arguments.
    pub(super) fn check(raw: &AgentArguments) -> Result<Self, String> {
        if raw.node_name.is_empty() {
            return Err("--node-name (or NODE_NAME): give the name of the Node".to_owned());
        }
        let cluster = raw.cluster_name.clone().filter(|name| !name.is_empty());
        Ok(Self {
            whereabouts: Whereabouts { cluster, node: Some(raw.node_name.clone()) },
            node: raw.node_name.clone(),
            kubeconfig: raw.kubeconfig.clone(),
            metrics_addr: raw.metrics_addr,
            format: raw.output,
            cgroup_root: raw.cgroup_root.clone(),
            proc_root: raw.proc_root.clone(),
            hook: raw.hook.as_deref().map(str::parse).transpose()?,
            identity_wait: parse_duration("--identity-wait", &raw.identity_wait)
                .map_err(|error| error.to_string())?,
            max_traces_per_namespace: raw.max_traces_per_namespace,
            max_lines_per_second: raw.max_lines_per_second,
            tuning: Tuning::check(&raw.tuning)?,
            command_line: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        })
    }

    /// Whether diagnostics are to be ECS documents.
    pub(super) fn is_ecs(&self) -> bool {
        self.format == StreamFormat::Ecs
    }
}

/// Runs until it is told to end. True when all went well.
pub(super) fn run(config: AgentConfig, run: RunId, diagnostics: &Diagnostics) -> anyhow::Result<bool> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    let outcome = runtime.block_on(agent(config, run, diagnostics));
    // Watches that hang must not hold up the end.
    runtime.shutdown_background();
    outcome
}

async fn agent(config: AgentConfig, run: RunId, diagnostics: &Diagnostics) -> anyhow::Result<bool> {
    let mut signals = Signals::new()?;
    let ended = Arc::new(Notify::new());
    let mount = find_mount(&config);
    let loaded = kernel::load(Options {
        hook: config.hook,
        ring_bytes: config.tuning.ring_bytes,
        want_on_cpu: false,
        follow_cgroups: true,
    })
    .map_err(anyhow::Error::from)
    .and_then(|kernel| refuse_blind(&kernel, mount.as_ref(), &config.proc_root).map(|()| kernel));
    let facts = node_facts(&config, mount.as_ref(), loaded.as_ref());
    let trouble = loaded.as_ref().err().map(|error| format!("{error:#}"));
    let telemetry = Telemetry::new(board_facts(&facts), trouble.clone());
    let cluster_config = ClusterConfig {
        node: config.node.clone(),
        kubeconfig: config.kubeconfig.clone(),
        max_traces_per_namespace: config.max_traces_per_namespace,
        facts,
    };
    let cluster = Cluster::connect(cluster_config, Arc::clone(&telemetry)).await?;
    let running = match loaded {
        Ok(kernel) => Some(start(&config, run, kernel, mount, diagnostics, &ended)?),
        Err(error) => {
            tracing::error!("nothing can be traced on this node: {error:#}");
            None
        }
    };
    let handle = running.as_ref().map(|running| running.handle.clone());
    let sink = handle.clone().map(Arc::new);
    let (_, server) = telemetry::serve(config.metrics_addr, Arc::clone(&telemetry), sink.clone()).await?;
    tokio::select! {
        () = cluster.run(sink) => {}
        () = server => {}
        () = beat(config.tuning.heartbeat, handle.as_ref()) => {}
        () = end_asked(&mut signals, handle.as_ref()) => {}
        () = ended.notified() => {}
    }
    let Some(running) = running else { return Ok(false) };
    running.handle.stop();
    let outcome = tokio::task::spawn_blocking(|| running.join()).await.ok().flatten();
    diagnostics.straight();
    ending(outcome, |tally| diagnostics.say(Level::Info, tally.to_string()))
}

/// Comes back when a signal asks for the end.
async fn end_asked(signals: &mut Signals, handle: Option<&Handle>) {
    loop {
        match signals.next().await {
            Told::End => return,
            Told::Summary => handle.into_iter().for_each(Handle::summary),
        }
    }
}

/// Has a heartbeat written from time to time. Never comes back.
async fn beat(pause: Option<Duration>, handle: Option<&Handle>) {
    let (Some(pause), Some(handle)) = (pause, handle) else { return std::future::pending().await };
    loop {
        tokio::time::sleep(pause).await;
        handle.heartbeat();
    }
}

fn find_mount(config: &AgentConfig) -> Option<Mount> {
    Mount::find(config.cgroup_root.as_deref())
        .inspect_err(|error| tracing::warn!("{error}; containers cannot be named by cgroup"))
        .ok()
}

/// Whoever cannot tell one pod's sockets from another's must not trace for tenants.
fn refuse_blind(kernel: &Loaded, mount: Option<&Mount>, proc_root: &Path) -> anyhow::Result<()> {
    if !kernel.reads_cgroups() || !kernel.reads_namespaces() {
        anyhow::bail!(
            "the hook {} cannot read which cgroup and network namespace a socket belongs to on this kernel (no type \
             information, BTF): one pod's connections could not be told from another's",
            kernel.hook
        );
    }
    let by_cgroup = mount.is_some_and(|mount| mount.cgroup2.is_some() && mount.is_whole);
    if by_cgroup || cgroupfs::shows_the_host(proc_root) {
        return Ok(());
    }
    anyhow::bail!(
        "the host's cgroup2 hierarchy is not to be seen: mount the host's /sys/fs/cgroup read-only and name the \
         directory with --cgroup-root; where the host has none, mount its /proc and name that with --proc-root"
    )
}

fn node_facts(
    config: &AgentConfig,
    mount: Option<&Mount>,
    loaded: Result<&Loaded, &anyhow::Error>,
) -> NodeFacts {
    let mode = cgroup_mode(mount.map(|mount| mount.layout));
    let mut checks: Vec<_> = preflight::findings(config.hook);
    match loaded {
        Ok(kernel) => checks.extend(preflight::loaded(kernel)),
        Err(error) => checks.push(preflight::Finding {
            name: "hook",
            ok: false,
            required: true,
            detail: preflight::short(&format!("{error:#}")),
        }),
    }
    NodeFacts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: kernel::kernel_release(),
        hook: loaded.ok().map(|kernel| kernel.hook.to_string()),
        cgroup_mode: mode.as_str().to_owned(),
        preflight: NodeFacts::checks(&checks),
        trouble: loaded.err().map(|error| format!("{error:#}")),
        started: jiff::Timestamp::now(),
    }
}

fn board_facts(facts: &NodeFacts) -> Facts {
    Facts {
        version: facts.version.clone(),
        kernel: facts.kernel.clone(),
        hook: facts.hook.clone(),
        cgroup_mode: facts.cgroup_mode.clone(),
    }
}

fn start(
    config: &AgentConfig,
    run: RunId,
    kernel: Loaded,
    mount: Option<Mount>,
    diagnostics: &Diagnostics,
    ended: &Arc<Notify>,
) -> anyhow::Result<Running> {
    let facts = StartFacts {
        run,
        command_line: config.command_line.clone(),
        filters: None,
        ring_bytes: config.tuning.ring_bytes,
        layout: mount.as_ref().map(|mount| mount.layout),
        k8s: K8s::at(config.whereabouts.cluster.clone(), config.whereabouts.node.clone()),
    };
    let told = Arc::clone(ended);
    let queue = Queue::start(outlet::stdout()?, config.tuning.queue_bytes, move |_| told.notify_one())?;
    let setup = Setup {
        kernel,
        mount,
        proc_root: config.proc_root.clone(),
        target: Target::Cluster {
            identity_wait: config.identity_wait,
            lines_per_second: config.max_lines_per_second,
        },
        whereabouts: config.whereabouts.clone(),
        serialiser: match config.format {
            StreamFormat::Json => Serialiser::Json(Json::new(run.number())),
            StreamFormat::Ecs => Serialiser::Ecs(Ecs::new(run.number())),
        },
        queue,
        journal: None,
        diagnostics: Some(diagnostics.through_queue()),
        ids: connection_ids()?,
        run: run.to_string(),
        count: None,
    };
    let told = Arc::clone(ended);
    let running = pipeline::serve(setup, start_line(facts), move || told.notify_one())?;
    let handle = running.handle.clone();
    diagnostics.wake_by(move || handle.wake());
    Ok(running)
}
