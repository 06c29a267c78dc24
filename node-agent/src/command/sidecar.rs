//! `agent --scope pod`: one pod, from a container beside its own. What is traced is the network namespace that both share;
//! who it is says the downward API. No API server is asked, and nothing of the node is seen.

use std::{collections::BTreeMap, net::IpAddr, path::Path, sync::Arc};

use anyhow::Context as _;
use clap::Parser;
use kube_tcpstates_events::Level;

use super::{
    args::{AgentArguments, TraceArguments},
    config::TraceConfig,
    otlp,
    session::{Run, Session},
    tuning::Tuning,
};
use crate::{
    outlet::{Diagnostics, RunId},
    pipeline::{Counting, Tally, Whereabouts},
    plan::{Plan, View},
    render::TextOptions,
    roster::PodInfo,
};

/// A setting of the kernel that only the network namespace it started with has.
const OF_THE_HOST: &str = "/proc/sys/net/core/netdev_budget";
/// Labels that lines show.
const LABELS: usize = 16;

/// A run beside a pod.
#[derive(Debug)]
pub(super) struct SidecarConfig {
    trace: TraceConfig,
    pod: Arc<PodInfo>,
    labels: Vec<String>,
    max_lines_per_second: u32,
    netns: u32,
}

/// What follows `--`.
#[derive(Debug, Parser)]
#[command(name = "agent --scope pod --", disable_version_flag = true)]
struct OfTrace {
    #[command(flatten)]
    trace: TraceArguments,
}

impl SidecarConfig {
    /// Checks the arguments, and where this runs.
    pub(super) fn check(raw: &AgentArguments) -> Result<Self, String> {
        if !raw.allow_host_network {
            refuse_host(Path::new(OF_THE_HOST).exists(), raw.pod_ip, raw.host_ip)?;
        }
        let netns = own_namespace()?;
        let mut of_trace = of_trace(&raw.of_trace)?;
        of_trace.netns = vec![netns];
        // What fits together depends on it.
        of_trace.output = Some(raw.output);
        let pod = Arc::new(pod(raw)?);
        let mut trace = TraceConfig::check(&of_trace)?;
        trace.session.hook = raw.hook.as_deref().map(str::parse).transpose()?;
        if raw.pin.pin.is_some() {
            return Err("--pin is for the agent of a node: the pod ends with its sidecar".to_owned());
        }
        trace.session.text = TextOptions::default();
        trace.session.tuning = Tuning::check(&raw.tuning)?;
        trace.session.otlp = otlp::check(&raw.otlp)?;
        trace.session.whereabouts = Whereabouts {
            cluster: raw.cluster_name.clone().filter(|name| !name.is_empty()),
            node: Some(raw.node_name.clone()).filter(|name| !name.is_empty()),
            pod: Some(Arc::clone(&pod)),
        };
        let labels = pod.labels.keys().take(LABELS).cloned().collect();
        Ok(Self { trace, pod, labels, max_lines_per_second: raw.max_lines_per_second, netns })
    }
}

/// The node's network is not one pod's alone. The kernel shows it, unless the node is itself a container; the addresses do
/// in any case.
fn refuse_host(is_host: bool, pod: Option<IpAddr>, node: Option<IpAddr>) -> Result<(), String> {
    let (Some(pod), Some(node)) = (pod, node) else {
        return Err("--pod-ip and --host-ip (or POD_IP and HOST_IP) are missing: take them from the downward API, \
                    fieldPath status.podIP and status.hostIP; by them it shows whether the pod has a network of its own"
            .to_owned());
    };
    if is_host || pod == node {
        return Err(
            "this runs in the node's network namespace (hostNetwork), which is not one pod's alone: every \
                    connection of the node would be shown as this pod's. Trace with a TcpStateTrace, or give \
                    --allow-host-network"
                .to_owned(),
        );
    }
    Ok(())
}

/// The number of the network namespace this runs in. As long as it does, no other namespace gets it.
fn own_namespace() -> Result<u32, String> {
    let found =
        rustix::fs::stat("/proc/self/ns/net").map_err(|error| format!("/proc/self/ns/net: {error}"))?;
    u32::try_from(found.st_ino).map_err(|_| format!("/proc/self/ns/net has the number {}", found.st_ino))
}

/// Flags of `trace` that say what to trace. Those that say how it is shown are the agent's.
fn of_trace(flags: &[String]) -> Result<TraceArguments, String> {
    let program = std::iter::once("agent --scope pod --").chain(flags.iter().map(String::as_str));
    let OfTrace { trace } = OfTrace::try_parse_from(program).map_err(|error| error.to_string())?;
    let refused = [
        (!trace.netns.is_empty(), "--netns: it is the pod's own"),
        (trace.container.is_some() || trace.pod_uid.is_some(), "--container and --pod-uid: it is one pod"),
        (trace.output.is_some() || trace.csv, "-o and -s: give -o before the --"),
        (trace.time || trace.timestamp || trace.wide, "-T, -t and -w: an agent has no columns"),
        (trace.journal, "-Y: an agent writes to stdout alone"),
        (trace.hook.is_some(), "--hook: give it before the --"),
        (trace.pin.pin.is_some(), "--pin: the pod ends with its sidecar"),
        (trace.otlp.otlp_endpoint.is_some(), "--otlp-endpoint: give it before the --"),
    ];
    match refused.iter().find(|(given, _)| *given) {
        Some((_, why)) => Err(format!("behind --, {why}")),
        None => Ok(trace),
    }
}

fn pod(raw: &AgentArguments) -> Result<PodInfo, String> {
    let given = |value: &Option<String>, flag: &str, variable: &str, field: &str| {
        value.clone().filter(|value| !value.is_empty()).ok_or_else(|| {
            format!("{flag} (or {variable}) is missing: take it from the downward API, fieldPath {field}")
        })
    };
    let labels = match &raw.pod_labels {
        None => BTreeMap::new(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("--pod-labels {}: {error}", path.display()))?;
            labels(&text)
        }
    };
    Ok(PodInfo {
        uid: given(&raw.pod_uid, "--pod-uid", "POD_UID", "metadata.uid")?,
        namespace: given(&raw.pod_namespace, "--pod-namespace", "POD_NAMESPACE", "metadata.namespace")?,
        name: given(&raw.pod_name, "--pod-name", "POD_NAME", "metadata.name")?,
        labels,
        ..PodInfo::default()
    })
}

/// A file of the downward API: a line for each, `key="value"`, the value as Go quotes it. A label's value has nothing that
/// needs an escape.
fn labels(text: &str) -> BTreeMap<String, String> {
    let label = |line: &str| {
        let (key, value) = line.split_once('=')?;
        Some((key.to_owned(), value.strip_prefix('"')?.strip_suffix('"')?.to_owned()))
    };
    text.lines().filter_map(label).collect()
}

/// Traces until it is told to end. True when all went well.
pub(super) fn run(config: SidecarConfig, run: RunId, diagnostics: &Diagnostics) -> anyhow::Result<bool> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    runtime.block_on(sidecar(config, run, diagnostics))
}

async fn sidecar(config: SidecarConfig, id: RunId, diagnostics: &Diagnostics) -> anyhow::Result<bool> {
    let mut session = Session::begin(config.trace.session.clone())?;
    // What a container sees of cgroups is its own, and says nothing of its siblings.
    let kernel = session.load(None, None)?;
    if !kernel.reads_namespaces() {
        anyhow::bail!(
            "the hook {} cannot read a socket's network namespace on this kernel (no type information, BTF): one pod's \
             connections could not be told from another's",
            kernel.hook
        );
    }
    let filters = Some(told(&config));
    let run = Run {
        id,
        view: Some(view(&config)),
        filters,
        diagnostics: Some(diagnostics),
        summary: |tally: &Tally| tracing::info!("{tally}"),
        identity_wait: std::time::Duration::ZERO,
        lines_per_second: config.max_lines_per_second,
        count: config.trace.count,
        counting: Counting::Nothing,
        outlets: None,
    };
    session.start(kernel, None, run)?;
    let stop = session
        .until_end(async {
            match config.trace.duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        })
        .await;
    let outcome = session.end(stop, |tally| {
        diagnostics.straight();
        diagnostics.say(Level::Info, tally.to_string());
    });
    outcome.await
}

fn view(config: &SidecarConfig) -> View {
    let trace = &config.trace;
    let plan = Plan::of_command_line(
        trace.filter.clone(),
        (trace.outcomes, trace.interval_ns),
        trace.scope.clone(),
        trace.open,
    );
    View { plan: Arc::new(plan.with_pod_labels(&config.labels)), roster: None, refused: 0 }
}

/// What is traced, for the first line.
fn told(config: &SidecarConfig) -> String {
    let SidecarConfig { trace, pod, netns, .. } = config;
    let (namespace, name, filter) = (&pod.namespace, &pod.name, &trace.filter);
    format!(
        "pod {namespace}/{name} by its network namespace {netns}, containers are not told apart; {filter}"
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{SidecarConfig, labels, of_trace, refuse_host};
    use crate::command::args::{Arguments, Command};

    fn flags(flags: &[&str]) -> Result<String, String> {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        of_trace(&flags).map(|trace| format!("{:?} {:?}", trace.mode, trace.remote_ports))
    }

    #[test]
    fn filters_are_those_of_trace_and_what_is_the_agents_is_refused_by_name() {
        assert_eq!(flags(&[]).unwrap(), "Transitions None");
        assert_eq!(flags(&["--mode", "connections", "-D", "443"]).unwrap(), "Connections Some(\"443\")");
        for (given, why) in [
            (&["--netns", "7"][..], "behind --, --netns: it is the pod's own"),
            (&["-o", "json"], "behind --, -o and -s: give -o before the --"),
            (&["-w"], "behind --, -T, -t and -w: an agent has no columns"),
            (&["--pod-uid", "6f9d1c2e"], "behind --, --container and --pod-uid: it is one pod"),
        ] {
            assert_eq!(flags(given).unwrap_err(), why);
        }
        assert!(flags(&["--no-such-flag"]).unwrap_err().contains("--no-such-flag"));
    }

    #[test]
    fn filters_that_bcc_has_go_with_snapshots_as_an_agent_has_no_columns() {
        let arguments = "agent --scope=pod --allow-host-network --pod-name p --pod-namespace n --pod-uid u -- -D 5432 \
                         --open-sockets 30s";
        let Command::Agent(arguments) =
            Arguments::parse_from(["kube-tcpstates"].into_iter().chain(arguments.split_whitespace())).command
        else {
            panic!("it is the agent")
        };
        let config = SidecarConfig::check(&arguments).unwrap();
        assert!(config.trace.open.is_some());
        assert_eq!(config.trace.session.format.name, "json");
    }

    #[test]
    fn the_nodes_network_is_refused_however_it_shows() {
        let (pod, node) = ("10.1.2.3".parse().ok(), "192.0.2.1".parse().ok());
        assert_eq!(refuse_host(false, pod, node), Ok(()));
        for (is_host, pod, node) in [(true, pod, node), (false, node, node)] {
            assert!(refuse_host(is_host, pod, node).unwrap_err().contains("hostNetwork"));
        }
        for (pod, node) in [(None, node), (pod, None)] {
            assert!(refuse_host(false, pod, node).unwrap_err().contains("status.podIP"));
        }
    }

    #[test]
    fn labels_are_read_as_the_downward_api_writes_them() {
        let read = labels("app=\"cart\"\napp.kubernetes.io/part-of=\"shop\"\nempty=\"\"\nno value\n");
        let read: Vec<_> = read.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(read, [("app", "cart"), ("app.kubernetes.io/part-of", "shop"), ("empty", "")]);
    }
}
