//! `agent`: the `DaemonSet`'s process. The pipeline traces by what the cluster's edge tells it; when the preflight
//! fails there is no pipeline, and the agent stays to say why.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use kube_tcpstates_events::Level;
use kube_tcpstates_probes::Pages;

use super::{
    args::AgentArguments,
    otlp,
    pinning::Pin,
    session::{Run, Session, SessionOptions},
    start_line::cgroup_mode,
    tuning::Tuning,
};
use crate::{
    cgroupfs::{self, Mount},
    cluster::{Cluster, ClusterConfig, NodeFacts},
    filter::duration::parse_duration,
    kernel::{self, Hook, Loaded, Pinning},
    outlet::{Diagnostics, RunId},
    pipeline::{Counting, Stop, Tally, Whereabouts},
    preflight,
    render::TextOptions,
    telemetry::{Facts, Telemetry},
};

/// A run of `agent`.
#[derive(Debug)]
pub(super) struct AgentConfig {
    session: SessionOptions,
    node: String,
    kubeconfig: Option<PathBuf>,
    metrics_addr: std::net::SocketAddr,
    /// How often what is open is counted for the metrics of workloads.
    workloads_every: Option<Duration>,
    cgroup_root: Option<PathBuf>,
    identity_wait: Duration,
    max_traces_per_namespace: usize,
    max_lines_per_second: u32,
    pin: Option<Pin>,
    /// Namespace and name of the agents' `DaemonSet`.
    daemon_set: Option<(String, String)>,
}

impl AgentConfig {
    /// Checks the arguments.
    pub(super) fn check(raw: &AgentArguments) -> Result<Self, String> {
        if !raw.of_trace.is_empty() || raw.allow_host_network {
            return Err("what follows -- and --allow-host-network are for --scope pod".to_owned());
        }
        if raw.node_name.is_empty() {
            return Err("--node-name (or NODE_NAME): give the name of the Node".to_owned());
        }
        let cluster = raw.cluster_name.clone().filter(|name| !name.is_empty());
        Ok(Self {
            session: SessionOptions {
                hook: raw.hook.as_deref().map(str::parse).transpose()?,
                format: raw.output,
                text: TextOptions::default(),
                journal: false,
                otlp: otlp::check(&raw.otlp)?,
                tuning: Tuning::check(&raw.tuning)?,
                command_line: super::command_line(),
                proc_root: raw.proc_root.clone(),
                whereabouts: Whereabouts { cluster, node: Some(raw.node_name.clone()), pod: None },
            },
            node: raw.node_name.clone(),
            kubeconfig: raw.kubeconfig.clone(),
            metrics_addr: raw.metrics_addr,
            workloads_every: raw.workload_metrics.as_deref().map(workloads_every).transpose()?,
            cgroup_root: raw.cgroup_root.clone(),
            identity_wait: parse_duration("--identity-wait", &raw.identity_wait)
                .map_err(|error| error.to_string())?,
            max_traces_per_namespace: raw.max_traces_per_namespace,
            max_lines_per_second: raw.max_lines_per_second,
            pin: Pin::check(&raw.pin)?,
            daemon_set: raw.daemon_set.as_deref().map(daemon_set).transpose()?,
        })
    }
}

/// `--daemon-set`.
fn daemon_set(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err(format!("--daemon-set {text:?}: give NAMESPACE/NAME")),
    }
}

/// `--workload-metrics`.
fn workloads_every(every: &str) -> Result<Duration, String> {
    let option = "--workload-metrics";
    let every = parse_duration(option, every).map_err(|error| error.to_string())?;
    if every < Duration::from_secs(1) || every > Duration::from_hours(1) {
        return Err(format!("{option}: the time between two looks at what is open must be from 1s to 1h"));
    }
    Ok(every)
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
    let mut session = Session::begin(config.session.clone())?;
    let mount = Session::find_mount(config.cgroup_root.as_deref());
    let pinning = match &config.pin {
        None => None,
        Some(pin) => tokio::select! {
            pinning = pinned(pin) => pinning,
            // The pod of before is not ended until this one says that it is ready.
            served = wait_ready(config.metrics_addr) => return served,
            _ = session.until_end(std::future::pending()) => return Ok(true),
        },
    };
    let loaded = load(&session, mount.as_ref(), pinning)
        .and_then(|kernel| refuse_blind(&kernel, mount.as_ref(), &config.session.proc_root).map(|()| kernel));
    let facts = node_facts(config.session.hook, mount.as_ref(), loaded.as_ref());
    let telemetry = Telemetry::new(board_facts(&facts), facts.trouble.as_deref());
    let cluster_config = ClusterConfig {
        node: config.node.clone(),
        kubeconfig: config.kubeconfig.clone(),
        max_traces_per_namespace: config.max_traces_per_namespace,
        facts,
    };
    let cluster = Cluster::connect(cluster_config, Arc::clone(&telemetry)).await?;
    let handle = match loaded {
        Ok(kernel) => Some(session.start(kernel, mount, run_of(&config, run, diagnostics))?),
        Err(error) => {
            tracing::error!("nothing can be traced on this node: {error:#}");
            None
        }
    };
    let before = session.take_before();
    let is_removed = config.daemon_set.clone().map(|daemon_set| cluster.is_removed(daemon_set));
    let sink = handle.map(Arc::new);
    let (_, server) = kube_tcpstates_probes::serve(config.metrics_addr, Arc::clone(&telemetry)).await?;
    let mut stop = session
        .until_end(async {
            tokio::select! {
                () = cluster.run(sink, before) => {}
                () = server => {}
            }
        })
        .await;
    if let Some(is_removed) = is_removed.filter(|_| stop == Stop::AnotherGoesOn)
        && is_removed.await
    {
        stop = Stop::ForGood;
    }
    // The pipeline's queue takes no more diagnostics once it has ended.
    let outcome = session.end(stop, |tally| {
        diagnostics.straight();
        diagnostics.say(Level::Info, tally.to_string());
    });
    outcome.await
}

/// Loads the programs; what cannot be pinned is traced all the same.
fn load(session: &Session, mount: Option<&Mount>, pinning: Option<Pinning>) -> anyhow::Result<Loaded> {
    if pinning.is_some() {
        match session.load(mount, pinning) {
            Ok(kernel) => return Ok(kernel),
            Err(error) => tracing::warn!("nothing is traced between two agents: {error}"),
        }
    }
    Ok(session.load(mount, None)?)
}

/// Where tracing goes on when this agent ends. Where that cannot be, it ends with the agent.
async fn pinned(pin: &Pin) -> Option<Pinning> {
    match pin.locked("agent".to_owned()).await {
        Ok(pinning) => Some(pinning),
        Err(error) => {
            tracing::warn!("nothing is traced between two agents: {error}");
            None
        }
    }
}

/// What the probes are told while another agent works with what is pinned.
struct Waiting;

impl Pages for Waiting {
    fn metrics(self: &Arc<Self>) -> Result<String, std::fmt::Error> {
        Ok("# EOF\n".to_owned())
    }

    fn live(&self) -> Result<(), String> {
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Answers the probes for ever.
async fn wait_ready(address: std::net::SocketAddr) -> anyhow::Result<bool> {
    let (_, server) = kube_tcpstates_probes::serve(address, Arc::new(Waiting)).await?;
    server.await;
    Ok(true)
}

/// It waits for what the cluster asks.
fn run_of<'a>(config: &AgentConfig, id: RunId, diagnostics: &'a Diagnostics) -> Run<'a> {
    Run {
        id,
        view: None,
        filters: None,
        diagnostics: Some(diagnostics),
        summary: log_counts,
        identity_wait: config.identity_wait,
        lines_per_second: config.max_lines_per_second,
        count: None,
        counting: config.workloads_every.map_or(Counting::Nothing, |every| Counting::Workloads { every }),
        outlets: None,
    }
}

fn log_counts(tally: &Tally) {
    tracing::info!("{tally}");
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
    let tasks = mount.and_then(|mount| mount.tasks.as_ref());
    let by_task = kernel.reads_tasks() && tasks.is_some_and(|tasks| tasks.mount.is_some());
    if by_cgroup || by_task || cgroupfs::shows_the_host(proc_root) {
        return Ok(());
    }
    anyhow::bail!(
        "the host's cgroups are not to be seen: mount the host's /sys/fs/cgroup read-only and name the directory with \
         --cgroup-root, or mount its /proc and name that with --proc-root"
    )
}

fn node_facts(
    hook: Option<Hook>,
    mount: Option<&Mount>,
    loaded: Result<&Loaded, &anyhow::Error>,
) -> NodeFacts {
    let mode = cgroup_mode(mount.map(|mount| mount.layout));
    let mut checks: Vec<_> = preflight::findings(hook);
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
        version: crate::VERSION.to_owned(),
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
        started_s: facts.started.as_second(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::workloads_every;

    #[test]
    fn the_time_between_two_looks_is_a_second_to_an_hour() {
        for (text, seconds) in [("1s", 1), ("15s", 15), ("1h", 3_600)] {
            assert_eq!(workloads_every(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["999ms", "61m", "soon", ""] {
            assert!(workloads_every(text).unwrap_err().starts_with("--workload-metrics"), "{text}");
        }
    }
}
