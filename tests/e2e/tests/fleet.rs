//! What hundreds of agents cost an API server: `./x test fleet`. On request: it takes both processors for minutes.
//!
//! The agents are the real code in one process (`e2e-fleet`), with the rights and the token of the installed ones; nodes,
//! pods and traces are made by hand. What the server counts is printed for docs/scale.md. Asserted is what must hold
//! however slow the machine is: nothing is listed from etcd for each agent, all come into step, and at rest they write
//! as rarely as is promised.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates_e2e_tests::agent::{Agents, NAMESPACE};
use kube_tcpstates_e2e_tests::agent_pod::Metrics;
use kube_tcpstates_e2e_tests::cluster::daemon::Daemon;
use kube_tcpstates_e2e_tests::cluster::network::API_SERVICE;
use kube_tcpstates_e2e_tests::cluster::{Cluster, place};
use kube_tcpstates_e2e_tests::flood;
use kube_tcpstates_e2e_tests::operator::Operators;
use kube_tcpstates_e2e_tests::scene::Scene;
use kube_tcpstates_e2e_tests::wait;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};

const PREFIX: &str = "fleet-";
const PATIENCE: Duration = Duration::from_mins(4);
/// At rest each agent writes its report once in it, give or take a fifth.
const REPORT_EVERY: f64 = 60.0;
const REST: Duration = Duration::from_secs(100);
/// Resources that agents list and watch.
const RESOURCES: [&str; 5] = ["pods", "nodes", "tcpstatetraces", "clustertcpstatetraces", "tcpstatenodes"];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let run = || run().map_err(|error| Failed::from(format!("{error:#}")));
    let trial = Trial::test("hundreds_of_agents_list_nothing_from_etcd_and_write_as_rarely_as_promised", run);
    if libtest_mimic::run(&arguments, vec![trial]).has_failed() {
        ExitCode::from(101)
    } else {
        ExitCode::SUCCESS
    }
}

fn number(variable: &str, otherwise: usize) -> Result<usize> {
    match env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}={text}: not a number")),
        Err(_) => Ok(otherwise),
    }
}

fn run() -> Result<()> {
    let (agents, pods) = (number("FLEET_AGENTS", 200)?, number("FLEET_PODS", 8_000)?);
    let cluster = &Cluster::up(Path::new(env!("CARGO_BIN_EXE_e2e-guard")))?;
    Operators::installed(cluster)?;
    let scene = Scene::new(cluster, "fleet")?;
    make(cluster, &scene, agents, pods)?;
    let nobody = Counts::of(cluster, None)?;
    thread::sleep(Duration::from_secs(20));
    Counts::of(cluster, None)?.tell(&nobody, "nobody but the two installed agents");

    let before = Counts::of(cluster, None)?;
    let start = Instant::now();
    let fleet = Fleet::start(cluster, agents)?;
    fleet.until("all are in step", "in_sync", agents)?;
    eprintln!(
        "{agents} agents that started at once are in step after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    fleet.until("all have reported", "have_reported", agents)?;
    eprintln!("and have reported after {:.1} s", start.elapsed().as_secs_f64());
    let now = Counts::of(cluster, Some(&fleet))?;
    now.tell(&before, "the start of all at once");
    now.require_cached(&before)?;

    // What was begun by the start has an end.
    thread::sleep(Duration::from_secs(30));
    let before = Counts::of(cluster, Some(&fleet))?;
    thread::sleep(REST);
    let now = Counts::of(cluster, Some(&fleet))?;
    now.tell(&before, "at rest");
    now.require_cached(&before)?;
    let rate = now.reports(&before);
    let promised = f64::from(u32::try_from(agents)?) / REPORT_EVERY;
    ensure!(rate < promised * 1.3 + 0.1, "{rate:.2} reports a second at rest, {promised:.2} are promised");

    cluster.kill_api_server()?;
    let away = Counts::told_by(&fleet)?;
    thread::sleep(Duration::from_secs(20));
    let meanwhile = Counts::told_by(&fleet)? - away;
    eprintln!("while the server was away for 20 s: {meanwhile} requests of all agents");
    cluster.start_api_server()?;
    let back = Instant::now();
    // Its counters begin at nothing.
    let fresh = Counts::of(cluster, Some(&fleet))?;
    agents_follow(cluster, &scene, &fleet, agents)?;
    eprintln!("{:.1} s after it was back all know a trace that was made then", back.elapsed().as_secs_f64());
    thread::sleep(Duration::from_secs(40));
    let now = Counts::of(cluster, Some(&fleet))?;
    now.tell(&fresh, "the server's restart");
    now.require_cached(&fresh)
}

/// Nodes, their pods, and traces: one that selects everything, and fifty that select nothing.
fn make(cluster: &Cluster, scene: &Scene<'_>, agents: usize, pods: usize) -> Result<()> {
    let api = cluster.kubectl().api();
    let start = Instant::now();
    flood::create(
        api,
        agents,
        |number| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("{PREFIX}{number}")}}),
    )?;
    flood::create(api, 51, |number| {
        let app = if number == 0 { "fleet".to_owned() } else { format!("none-{number}") };
        trace(scene.namespace(), &format!("t{number}"), &app)
    })?;
    flood::create(api, pods, |number| {
        let node = format!("{PREFIX}{}", number % agents);
        let environment: Vec<_> = (0..20)
            .map(|key| json!({"name": format!("KEY_{key}"), "value": "a value of some length"}))
            .collect();
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": scene.namespace(), "name": format!("checkout-{number}"), "labels": {"app": "fleet"}},
            "spec": {
                "nodeName": node, "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "app", "image": "localhost/none", "env": environment}],
                "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
            },
        })
    })?;
    eprintln!("{agents} nodes and {pods} pods are there; it took {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn trace(namespace: &str, name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "tcpstates.dev/v1alpha1", "kind": "TcpStateTrace",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {"matchLabels": {"app": app}}},
    })
}

/// A trace that is made now is in every report.
fn agents_follow(cluster: &Cluster, scene: &Scene<'_>, fleet: &Fleet, agents: usize) -> Result<()> {
    Agents::install(cluster)?.trace(
        scene.namespace(),
        "late",
        &json!({"podSelector": {"matchLabels": {"app": "fleet"}}}),
    )?;
    wait::until("every report has the trace", PATIENCE, || {
        // What is asked for here must not be read from etcd either.
        let reports =
            cluster.kubectl().get("/apis/tcpstates.dev/v1alpha1/tcpstatenodes?resourceVersion=0")?;
        let reports = reports["items"].as_array().cloned().unwrap_or_default();
        let has = |report: &&Value| report["status"]["traces"].to_string().contains("\"late\"");
        let count = reports.iter().filter(has).count();
        Ok(if count >= agents { Ok(()) } else { Err(format!("{count} have; {:?}", fleet.latest())) })
    })
}

/// The process with all the agents.
struct Fleet {
    process: Daemon,
    latest: Arc<Mutex<Value>>,
}

impl Fleet {
    /// On the second node: what its network carries is theirs, but for a little of the kubelet's.
    fn start(cluster: &Cluster, agents: usize) -> Result<Self> {
        let kubeconfig = kubeconfig(cluster)?;
        let mut command =
            cluster.nodes()[1].command(&place::given("KUBE_TCPSTATES_FLEET")?.display().to_string());
        command.arg(format!("--agents={agents}")).arg(format!("--prefix={PREFIX}"));
        command.arg(format!("--kubeconfig={}", kubeconfig.display()));
        let mut process = Daemon::start_talking("fleet", &command)?;
        let output = process.stdout()?;
        let latest: Arc<Mutex<Value>> = Arc::default();
        let told = Arc::clone(&latest);
        thread::spawn(move || follow(output, &told));
        Ok(Self { process, latest })
    }

    fn latest(&self) -> Value {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn until(&self, what: &str, key: &str, count: usize) -> Result<()> {
        wait::until(what, PATIENCE, || {
            let latest = self.latest();
            Ok(if latest[key] == count { Ok(()) } else { Err(latest.to_string()) })
        })
    }
}

fn follow(output: impl Read, told: &Mutex<Value>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if let Ok(value) = serde_json::from_str(&line) {
            *told.lock().unwrap_or_else(PoisonError::into_inner) = value;
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill() {
            eprintln!("{error:#}");
        }
    }
}

/// As the installed agents are to the server: by the token of their account.
fn kubeconfig(cluster: &Cluster) -> Result<PathBuf> {
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
    let file = cluster.pki().file("fleet.kubeconfig");
    std::fs::write(&file, config.to_string()).context("write the fleet's kubeconfig")?;
    Ok(file)
}

/// What was counted up to a moment.
struct Counts {
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
    fn of(cluster: &Cluster, fleet: Option<&Fleet>) -> Result<Self> {
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
            fleet: fleet.map_or(Value::Null, Fleet::latest),
        })
    }

    /// Requests of all agents that have ended, watches among them.
    fn told_by(fleet: &Fleet) -> Result<u64> {
        let latest = fleet.latest();
        let answers = latest["answers"].as_object().context("the fleet counts answers")?;
        Ok(answers.values().filter_map(Value::as_u64).sum())
    }

    fn tell(&self, before: &Self, when: &str) {
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
        eprintln!("    the agents: {}", self.fleet);
    }

    /// An error if lists of what agents ask for were read from etcd.
    fn require_cached(&self, before: &Self) -> Result<()> {
        let read = changes(&self.from_etcd, &before.from_etcd, 1.0);
        let asked_for = read.iter().filter(|(what, _)| {
            RESOURCES.iter().any(|resource| what.ends_with(resource))
                || what.contains("Pod")
                || what.contains("Node")
        });
        // The cluster's own controllers list a thing now and then.
        let count: f64 = asked_for.clone().map(|(_, (count, _))| count).sum();
        ensure!(count <= 10.0, "lists were read from etcd: {:?}", asked_for.collect::<Vec<_>>());
        Ok(())
    }

    /// A second, by all agents.
    fn reports(&self, before: &Self) -> f64 {
        let of = |counts: &Self| counts.fleet["reports"].as_f64().unwrap_or_default();
        (of(self) - of(before)) / (self.at - before.at).as_secs_f64()
    }
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
