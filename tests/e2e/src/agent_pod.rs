//! One agent from close by: its pod, its process, the files that its log is in, its metrics.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::agent::{NAMESPACE, PODS, SELECTOR};
use crate::cluster::node::{Identity, Node};
use crate::cluster::{Cluster, is_true, place};
use crate::kubectl::Kubectl;
use crate::line::Line;
use crate::{process, wait};

/// The container's name, in the installed pods and in those that are made after their image.
pub(crate) const CONTAINER: &str = "agent";

/// A pod with an agent in it, as it was when it was asked for.
#[derive(Clone, Debug)]
pub struct AgentPod<'a> {
    kubectl: &'a Kubectl,
    node: &'a Node,
    /// As the API server had it.
    pub object: Value,
}

impl<'a> AgentPod<'a> {
    /// The installed one of a node.
    pub fn of_node(cluster: &'a Cluster, node: Identity) -> Result<Self> {
        let query = format!("{PODS}?labelSelector={SELECTOR}&fieldSelector=spec.nodeName={}", node.name);
        let mut pods = cluster.kubectl().get(&query)?;
        let alive = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null();
        let pods: Vec<_> = pods["items"].as_array_mut().context("a list of pods")?.drain(..).collect();
        let object = pods.into_iter().find(alive).with_context(|| format!("no agent on {}", node.name))?;
        Self::new(cluster, object)
    }

    /// A pod of the agents' namespace.
    pub fn named(cluster: &'a Cluster, name: &str) -> Result<Self> {
        let object = cluster.kubectl().get(&format!("{PODS}/{name}"))?;
        Self::new(cluster, object)
    }

    fn new(cluster: &'a Cluster, object: Value) -> Result<Self> {
        let name = object["spec"]["nodeName"].as_str().context("the pod has a node")?;
        let node = cluster.nodes().iter().find(|node| node.identity().name == name);
        let node = node.with_context(|| format!("{name} is no node of the harness"))?;
        Ok(Self { kubectl: cluster.kubectl(), node, object })
    }

    /// The pod's name.
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    fn uid(&self) -> &str {
        self.object["metadata"]["uid"].as_str().unwrap_or_default()
    }

    /// Whether the pod was Ready.
    pub fn is_ready(&self) -> bool {
        is_true(&self.object, "Ready")
    }

    fn container_status(&self) -> &Value {
        &self.object["status"]["containerStatuses"][0]
    }

    /// How often the container was started anew.
    pub fn restarts(&self) -> u64 {
        self.container_status()["restartCount"].as_u64().unwrap_or_default()
    }

    /// The process, by the machine's ids.
    pub fn process(&self) -> Result<u32> {
        process::of(&self.object)
    }

    /// The most memory that the container had since it started, as its limit counts it, in bytes.
    pub fn memory_peak(&self) -> Result<u64> {
        let ours = Path::new(place::CGROUPS).join("memory").join(place::NAME);
        let file = ours.join(process::cgroup(&self.object)?).join("memory.max_usage_in_bytes");
        let peak = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        peak.trim().parse().context("a number of bytes")
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let process = i32::try_from(self.process()?).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(process, signal).with_context(|| format!("send {signal:?} to {}", self.name()))
    }

    /// Where containerd writes what the container's n-th start says.
    fn log_file(&self, restarts: u64) -> PathBuf {
        let pod = format!("{NAMESPACE}_{}_{}", self.name(), self.uid());
        self.node.directory().join("log/pods").join(pod).join(CONTAINER).join(format!("{restarts}.log"))
    }

    /// The log of the container's current start. It can be read to its end even when the pod is gone.
    pub fn log(&self) -> Result<Log> {
        let path = self.log_file(self.restarts());
        Ok(Log(File::open(&path).with_context(|| format!("open {}", path.display()))?))
    }

    /// What it serves at `/metrics`.
    pub fn metrics(&self) -> Result<Metrics> {
        self.metrics_at(9464)
    }

    /// What it serves there, if it is an operator's pod.
    pub fn operator_metrics(&self) -> Result<Metrics> {
        self.metrics_at(9465)
    }

    fn metrics_at(&self, port: u16) -> Result<Metrics> {
        self.kubectl.api().text(&format!("{PODS}/{}:{port}/proxy/metrics", self.name())).map(Metrics)
    }

    /// Waits until its metrics are as they should be.
    pub fn await_metrics(
        &self,
        what: &str,
        patience: Duration,
        holds: impl Fn(&Metrics) -> bool,
    ) -> Result<Metrics> {
        wait::until(what, patience, || {
            Ok(match self.metrics() {
                Ok(metrics) if holds(&metrics) => Ok(metrics),
                Ok(metrics) => Err(metrics.0),
                Err(error) => Err(format!("{error:#}")),
            })
        })
    }
}

/// A container's log file that was opened.
#[derive(Debug)]
pub struct Log(File);

impl Log {
    /// Every line of it, in the order in which it was written. Only for the end of a log: a line that is being written
    /// is an error.
    pub fn lines(mut self) -> Result<Vec<Line>> {
        let mut text = String::new();
        self.0.read_to_string(&mut text).context("read a container's log")?;
        Line::parse_all(&said(&text)?)
    }
}

/// What a container has said behind so many bytes of its log, but for a line that is being written.
pub(crate) fn said_behind(log: &Path, start: u64) -> Result<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        // Whether a line begins there, the byte before it tells.
        file.seek(SeekFrom::Start(start.saturating_sub(1)))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(text)
    };
    let text = match read() {
        // It went away with its pod.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        text => text.with_context(|| format!("read {}", log.display()))?,
    };
    let text = String::from_utf8_lossy(&text);
    let text = if start == 0 { &*text } else { text.split_once('\n').map_or("", |(_, rest)| rest) };
    said(text.rfind('\n').map_or("", |end| &text[..=end]))
}

/// The container's own words. Each line of the file is `time stream P|F words`; P is continued by the next.
fn said(file: &str) -> Result<String> {
    let mut said = String::new();
    for line in file.lines() {
        let mut parts = line.splitn(4, ' ').skip(2);
        let (Some(tag), words) = (parts.next(), parts.next().unwrap_or_default()) else {
            bail!("not a line of a container's log: {line:?}");
        };
        ensure!(matches!(tag, "P" | "F"), "not a line of a container's log: {line:?}");
        said.push_str(words);
        if tag == "F" {
            said.push('\n');
        }
    }
    Ok(said)
}

/// An answer of `/metrics`.
#[derive(Clone, Debug)]
pub struct Metrics(String);

impl Metrics {
    /// Of a page's text.
    pub fn new(page: String) -> Self {
        Self(page)
    }

    /// The page as it is.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The samples of a metric: their labels as they are printed, and the value.
    pub fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let (sample, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
            let labels = if sample.is_empty() { "" } else { sample.strip_prefix('{')?.strip_suffix('}')? };
            Some((labels, value.parse().ok()?))
        })
    }

    /// The sum over the samples whose labels contain one of these texts.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let wanted = |given: &str| labels.iter().any(|label| given.contains(label));
        self.samples(name).filter(|(given, _)| wanted(given)).map(|(_, value)| value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_written_in_parts_is_put_together() {
        let file = "2026-11-22T00:00:00Z stdout P {\"a\":\n2026-11-22T00:00:00Z stdout F 1}\nt stderr F {}\n";
        assert_eq!(said(file).unwrap(), "{\"a\":1}\n{}\n");
        assert!(said("no container wrote this\n").is_err());
    }

    #[test]
    fn samples_are_told_apart_by_name_and_labels() {
        let metrics =
            Metrics("# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"2\",y=\"2\"} 4\nab 5\n".to_owned());
        assert_eq!(
            metrics.samples("a").collect::<Vec<_>>(),
            [("x=\"1\",y=\"2\"", 3.0), ("x=\"2\",y=\"2\"", 4.0)]
        );
        assert!((metrics.sum("a", &["x=\"1\"", "x=\"2\""]) - 7.0).abs() < f64::EPSILON);
        assert!((metrics.sum("ab", &[""]) - 5.0).abs() < f64::EPSILON);
    }
}
