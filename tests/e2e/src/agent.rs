//! The agent as users install it: its image on both nodes, `tcptrace.yaml`, and the log of every agent.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cluster::{Cluster, place};
use crate::kubectl::Kubectl;
use crate::line::Line;
use crate::wait;

/// Where the installer puts everything.
pub const NAMESPACE: &str = "kube-tcpstates";
const DAEMON_SET: &str = "daemonset/kube-tcpstates-agent";
/// The pods, by label.
const SELECTOR: &str = "app.kubernetes.io/component=agent";
/// How long Kubernetes may take for what it does in seconds.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The agents of a cluster.
#[derive(Clone, Debug)]
pub struct Agents<'a> {
    kubectl: &'a Kubectl,
    since: Timestamp,
}

impl<'a> Agents<'a> {
    /// Installs them, unless that is done, and waits until they are Ready.
    pub fn install(cluster: &'a Cluster) -> Result<Self> {
        let agents = Self { kubectl: cluster.kubectl(), since: Timestamp::now() };
        if agents.kubectl.run(&["get", "--namespace", NAMESPACE, DAEMON_SET]).is_err() {
            let image = place::given("KUBE_TCPSTATES_AGENT_IMAGE")?;
            cluster.nodes().iter().try_for_each(|node| node.import(&image))?;
            let installer = place::given("KUBE_TCPSTATES_MANIFESTS")?.join("tcptrace.yaml");
            let text =
                fs::read_to_string(&installer).with_context(|| format!("read {}", installer.display()))?;
            agents.kubectl.apply(&text)?;
        }
        agents.await_ready(cluster.nodes().len())?;
        Ok(agents)
    }

    fn await_ready(&self, nodes: usize) -> Result<()> {
        wait::until("the agents are Ready", PATIENCE, || {
            let status = self.kubectl.get(&["--namespace", NAMESPACE, DAEMON_SET])?["status"].take();
            let is_done = status["numberReady"] == nodes && status["observedGeneration"].is_number();
            Ok(if is_done { Ok(()) } else { Err(format!("{status}; {}", self.last_words())) })
        })
    }

    /// Every line of every agent so far, by the command that the documentation tells.
    pub fn lines(&self) -> Result<Vec<Line>> {
        let flags = ["--namespace", NAMESPACE, "--selector", SELECTOR, "--container=agent", "--tail=-1"];
        let log = self.kubectl.run(&[&["logs"], &flags[..], &["--max-log-requests=1000"]].concat())?;
        Line::parse_all(&log)
    }

    /// Those written since [`Agents::install`] was called: those of the tests before are many, and reading them takes
    /// seconds.
    fn new_lines(&self) -> Result<Vec<Line>> {
        let since = format!("--since-time={}", self.since);
        let flags =
            ["--namespace", NAMESPACE, "--selector", SELECTOR, "--container=agent", "--tail=-1", &since];
        Line::parse_all(&self.kubectl.run(&[&["logs"], &flags[..]].concat())?)
    }

    /// Waits until so many lines of a trace are there, and a moment longer for those too many.
    pub fn await_lines(&self, trace: &str, count: usize, patience: Duration) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        let waited = wait::until(&format!("{count} lines of {trace} are there"), patience, || {
            lines = self.of(trace)?;
            Ok(if lines.len() >= count { Ok(()) } else { Err(format!("{} are", lines.len())) })
        });
        // Fewer lines than expected are for the test to explain, by connection.
        if let Err(error) = waited {
            eprintln!("{error:#}");
        }
        std::thread::sleep(Duration::from_secs(1));
        self.of(trace)
    }

    /// The transition lines of one trace, which was made after [`Agents::install`] was called.
    pub fn of(&self, trace: &str) -> Result<Vec<Line>> {
        let mut lines = self.new_lines()?;
        lines.retain(|line| line.is("transition") && line.is_of(trace));
        Ok(lines)
    }

    /// Applies a `TcpStateTrace`, new or changed. Returns with the API server's answer: the agents have yet to follow.
    pub fn trace(&self, namespace: &str, name: &str, spec: &Value) -> Result<()> {
        let trace = json!({
            "apiVersion": "tcpstates.dev/v1alpha1", "kind": "TcpStateTrace",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        });
        self.kubectl.apply(&trace.to_string()).map(drop)
    }

    /// An error if any agent has lost transitions of a trace.
    pub fn require_no_loss(&self, trace: &str) -> Result<()> {
        for line in self.new_lines()?.iter().filter(|line| line.is("lost")) {
            let lost = line.get("lost.by_trace").and_then(|by_trace| by_trace.get(trace));
            ensure!(lost.is_none(), "transitions of {trace} were lost: {}", line.0);
        }
        Ok(())
    }

    /// Deletes a `TcpStateTrace`, likewise.
    pub fn untrace(&self, namespace: &str, name: &str) -> Result<()> {
        let flags = ["--namespace", namespace, "--wait=false"];
        self.kubectl.run(&[&["delete", "tcpstatetrace", name], &flags[..]].concat()).map(drop)
    }

    fn last_words(&self) -> String {
        let flags = ["logs", "--namespace", NAMESPACE, "--selector", SELECTOR, "--tail=5"];
        self.kubectl.run(&flags).unwrap_or_else(|error| format!("{error:#}"))
    }
}
