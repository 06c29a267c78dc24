//! The agent as users install it: its image on both nodes, `tcptrace.yaml`, and the log of every agent.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::agent_pod::{CONTAINER, said_behind};
use crate::cluster::network::API_SERVICE;
use crate::cluster::node::Node;
use crate::cluster::{Cluster, place};
use crate::kubectl::Kubectl;
use crate::line::Line;
use crate::wait;

/// Where the installer puts everything.
pub const NAMESPACE: &str = "kube-tcpstates";
/// In the API.
pub const DAEMON_SET: &str = "/apis/apps/v1/namespaces/kube-tcpstates/daemonsets/kube-tcpstates-agent";
/// The pods of that namespace.
pub(crate) const PODS: &str = "/api/v1/namespaces/kube-tcpstates/pods";
/// The agents among them, by label.
pub(crate) const SELECTOR: &str = "app.kubernetes.io/component=agent";
/// What the directories of their logs begin with: the pods' namespace and the name of the `DaemonSet`.
const POD_LOGS: &str = "kube-tcpstates_kube-tcpstates-agent-";
/// How long Kubernetes may take for what it does in seconds.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Of a trace, in the API.
pub fn trace_path(namespace: &str, name: &str) -> String {
    format!("/apis/tcpstates.dev/v1alpha1/namespaces/{namespace}/tcpstatetraces/{name}")
}

/// The agents of a cluster.
#[derive(Clone, Debug)]
pub struct Agents<'a> {
    kubectl: &'a Kubectl,
    nodes: &'a [Node],
    /// How long each log was when this was made.
    ends: BTreeMap<PathBuf, u64>,
}

impl<'a> Agents<'a> {
    /// Installs them, unless that is done, and waits until they are Ready.
    pub fn install(cluster: &'a Cluster) -> Result<Self> {
        /// Tests that run at the same time all find them missing.
        static INSTALLING: Mutex<()> = Mutex::new(());
        let files = log_files(cluster.nodes()).into_iter();
        let ends = files.filter_map(|file| fs::metadata(&file).ok().map(|log| (file, log.len()))).collect();
        let agents = Self { kubectl: cluster.kubectl(), nodes: cluster.nodes(), ends };
        let installing = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        if agents.kubectl.api().find(DAEMON_SET)?.is_none() {
            let installer = place::given("KUBE_TCPSTATES_MANIFESTS")?.join("tcptrace.yaml");
            let text =
                fs::read_to_string(&installer).with_context(|| format!("read {}", installer.display()))?;
            agents.kubectl.apply(&text)?;
        }
        drop(installing);
        agents.await_ready(cluster.nodes().len())?;
        Ok(agents)
    }

    fn await_ready(&self, nodes: usize) -> Result<()> {
        wait::until("the agents are Ready", PATIENCE, || {
            let status = self.kubectl.get(DAEMON_SET)?["status"].take();
            let is_done = status["numberReady"] == nodes && status["observedGeneration"].is_number();
            Ok(if is_done { Ok(()) } else { Err(format!("{status}; {}", self.last_words())) })
        })
    }

    /// Every line of the agents so far that mentions this.
    pub fn lines(&self, mention: &str) -> Result<Vec<Line>> {
        self.lines_behind(&BTreeMap::new(), mention)
    }

    /// Those written since [`Agents::install`] was called: those of the tests before are many.
    pub fn new_lines(&self, mention: &str) -> Result<Vec<Line>> {
        self.lines_behind(&self.ends, mention)
    }

    /// From the files that the runtime keeps: the tests ask again and again, and the API server would pass on all of it
    /// each time.
    fn lines_behind(&self, ends: &BTreeMap<PathBuf, u64>, mention: &str) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        for file in log_files(self.nodes) {
            let said = said_behind(&file, ends.get(&file).copied().unwrap_or(0))?;
            for line in said.lines().filter(|line| line.contains(mention)) {
                lines.extend(Line::parse_all(line)?);
            }
        }
        Ok(lines)
    }

    /// Waits until so many lines of a trace are there, and a moment longer for those too many.
    pub fn await_lines(&self, trace: &str, count: usize) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        let waited = wait::until(&format!("{count} lines of {trace} are there"), PATIENCE, || {
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

    /// Waits until the agents show so many lines of each of a trace's pods.
    pub fn await_pods(&self, trace: &str, pods: &[&str], count: usize) -> Result<()> {
        wait::until(&format!("each of {pods:?} has {count} lines of {trace}"), PATIENCE, || {
            let lines = self.of(trace)?;
            let of = |pod: &str| lines.iter().filter(|line| line.text("k8s.pod.name") == Some(pod)).count();
            let behind = pods.iter().find(|pod| of(pod) < count);
            Ok(behind.map_or(Ok(()), |pod| Err(format!("{pod} has {}", of(pod)))))
        })
    }

    /// The transition lines of one trace, which was made after [`Agents::install`] was called.
    pub fn of(&self, trace: &str) -> Result<Vec<Line>> {
        let mut lines = self.new_lines(trace)?;
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
        for line in self.new_lines("\"lost\"")?.iter().filter(|line| line.is("lost")) {
            let lost = line.get("tcpstates.lost.by_trace").and_then(|by_trace| by_trace.get(trace));
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

/// Of who is to the server as the installed agents are, by the token of their account. The file has a name of its own.
pub fn kubeconfig(cluster: &Cluster, name: &str) -> Result<PathBuf> {
    let kubectl = cluster.kubectl();
    let account =
        kubectl.get(&format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/kube-tcpstates-agent"))?;
    let secret = account["secrets"][0]["name"].as_str().context("the account has a token")?;
    let template = "--output=go-template={{.data.token | base64decode}}";
    let token = kubectl.run(&["get", "secret", secret, "--namespace", NAMESPACE, template])?;
    let config = json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": [{"name": "e2e", "cluster": {
            "server": format!("https://{API_SERVICE}"), "certificate-authority": cluster.pki().file("ca.crt"),
        }}],
        "users": [{"name": "agent", "user": {"token": token.trim()}}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "agent"}}],
        "current-context": "e2e",
    });
    let file = cluster.pki().file(&format!("{name}.kubeconfig"));
    fs::write(&file, config.to_string()).with_context(|| format!("write {}", file.display()))?;
    Ok(file)
}

/// Of every start of every installed agent that has a pod, in order.
fn log_files(nodes: &[Node]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for node in nodes {
        let pods = node.directory().join("log/pods");
        // There is none before the first pod, and one may go away with its pod.
        for pod in fs::read_dir(pods).into_iter().flatten().flatten() {
            if pod.file_name().to_string_lossy().starts_with(POD_LOGS) {
                let logs = fs::read_dir(pod.path().join(CONTAINER)).into_iter().flatten().flatten();
                // Those that were rotated away have the time behind their names.
                let logs = logs.map(|log| log.path());
                files.extend(logs.filter(|log| log.extension().is_some_and(|end| end == "log")));
            }
        }
    }
    files.sort();
    files
}
