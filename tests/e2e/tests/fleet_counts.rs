//! What agents cost, counted up to a moment: by the API server, by the node's network, and by the agents themselves.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates_e2e_tests::agent_pod::Metrics;
use kube_tcpstates_e2e_tests::cluster::Cluster;
use serde_json::Value;

/// Resources that agents list and watch.
const RESOURCES: [&str; 5] = ["pods", "nodes", "tcpstatetraces", "clustertcpstatetraces", "tcpstatenodes"];

/// What was counted up to a moment.
pub(crate) struct Counts {
    at: Instant,
    /// Requests by verb and resource, of everybody, as the server counts them.
    requests: BTreeMap<String, f64>,
    /// Lists read from etcd, by type.
    from_etcd: BTreeMap<String, f64>,
    /// Seconds of a processor that the server took, and its resident memory.
    processor: f64,
    memory: f64,
    /// To and from the second node, in bytes.
    received: f64,
    sent: f64,
    /// By the agents.
    fleet: Value,
}

impl Counts {
    /// Up to now; `fleet` is what the agents tell.
    pub(crate) fn of(cluster: &Cluster, fleet: Value) -> Result<Self> {
        let page = Metrics::new(cluster.kubectl().api().text("/metrics")?);
        let mut requests = BTreeMap::new();
        for (labels, value) in page.samples("apiserver_request_total") {
            let (verb, resource) = (label(labels, "verb"), label(labels, "resource"));
            if RESOURCES.contains(&resource) {
                *requests.entry(format!("{verb} {resource}")).or_default() += value;
            }
        }
        let mut from_etcd = BTreeMap::new();
        for (labels, value) in page.samples("etcd_request_duration_seconds_count") {
            if label(labels, "operation") == "list" {
                *from_etcd.entry(label(labels, "type").to_owned()).or_default() += value;
            }
        }
        let mut devices = cluster.nodes()[1].command("cat");
        let devices = devices.arg("/proc/net/dev").output().context("read the node's devices")?;
        let devices = String::from_utf8_lossy(&devices.stdout).into_owned();
        let line = devices.lines().find_map(|line| line.trim().strip_prefix("node0:")).context("node0")?;
        let bytes: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        Ok(Self {
            at: Instant::now(),
            requests,
            from_etcd,
            processor: page.sum("process_cpu_seconds_total", &[""]),
            memory: page.sum("process_resident_memory_bytes", &[""]),
            received: *bytes.first().context("bytes that were received")?,
            sent: *bytes.get(8).context("bytes that were sent")?,
            fleet,
        })
    }

    /// Prints what has come since.
    pub(crate) fn tell(&self, before: &Self, when: &str) {
        let seconds = (self.at - before.at).as_secs_f64();
        let megabytes = |now: f64, before: f64| (now - before) / 1e6;
        eprintln!(
            "{when}, {seconds:.0} s: {:.2} MB received ({:.3}/s) and {:.2} MB sent by the node, {:.2} of a processor, {:.0} MB of memory",
            megabytes(self.received, before.received),
            megabytes(self.received, before.received) / seconds,
            megabytes(self.sent, before.sent),
            (self.processor - before.processor) / seconds,
            self.memory / 1e6,
        );
        for (what, (count, rate)) in changes(&self.requests, &before.requests, seconds) {
            eprintln!("    {what}: {count} ({rate:.2}/s)");
        }
        for (what, (count, _)) in changes(&self.from_etcd, &before.from_etcd, seconds) {
            eprintln!("    listed from etcd, {what}: {count}");
        }
        for (what, (count, rate)) in changes(&answers(&self.fleet), &answers(&before.fleet), seconds) {
            eprintln!("    answers to the agents, {what}: {count} ({rate:.2}/s)");
        }
        eprintln!("    the agents: {}", self.fleet);
    }

    /// An error if more than a few lists of what agents ask for were read from etcd.
    pub(crate) fn require_cached(&self, before: &Self, few: f64) -> Result<()> {
        let read = changes(&self.from_etcd, &before.from_etcd, 1.0);
        let asked_for = read.iter().filter(|(what, _)| {
            RESOURCES.iter().any(|resource| what.ends_with(resource))
                || what.contains("Pod")
                || what.contains("Node")
        });
        let count: f64 = asked_for.clone().map(|(_, (count, _))| count).sum();
        ensure!(count <= few, "lists were read from etcd: {:?}", asked_for.collect::<Vec<_>>());
        Ok(())
    }

    /// Reports a second, of all agents.
    pub(crate) fn reports(&self, before: &Self) -> f64 {
        let of = |counts: &Self| counts.fleet["reports"].as_f64().unwrap_or_default();
        (of(self) - of(before)) / (self.at - before.at).as_secs_f64()
    }
}

/// How many the agents got, by code. A watch is one when it begins.
fn answers(fleet: &Value) -> BTreeMap<String, f64> {
    let mut by_code = BTreeMap::new();
    for (what, count) in fleet["answers"].as_object().into_iter().flatten() {
        let code = what.rsplit_once(' ').map_or(what.as_str(), |(_, code)| code);
        *by_code.entry(code.to_owned()).or_default() += count.as_f64().unwrap_or_default();
    }
    by_code
}

fn changes(
    now: &BTreeMap<String, f64>,
    before: &BTreeMap<String, f64>,
    seconds: f64,
) -> BTreeMap<String, (f64, f64)> {
    let change = |(what, count): (&String, &f64)| {
        let change = count - before.get(what).copied().unwrap_or_default();
        (change > 0.0).then(|| (what.clone(), (change, change / seconds)))
    };
    now.iter().filter_map(change).collect()
}

fn label<'a>(labels: &'a str, name: &str) -> &'a str {
    let found = labels.split_once(&format!("{name}=\"")).and_then(|(before, rest)| {
        // `resource` is the end of other names, too.
        (before.is_empty() || before.ends_with(',')).then(|| rest.split_once('"')).flatten()
    });
    found.map_or("", |(value, _)| value)
}
