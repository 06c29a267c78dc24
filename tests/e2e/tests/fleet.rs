//! What hundreds of agents cost an API server: `./x test fleet`. On request: it takes both processors for minutes.
//!
//! The agents are the real code in one process (`e2e-fleet`), with the rights and the token of the installed ones; nodes,
//! pods and traces are made by hand. What the server counts is printed for docs/scale.md. Asserted is what must hold
//! however slow the machine is: nothing is listed from etcd for each agent, all come into step, and at rest they write
//! as rarely as is promised.

mod fleet_counts;

use std::env;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates_e2e_tests::agent::{Agents, NAMESPACE, kubeconfig};
use kube_tcpstates_e2e_tests::cluster::daemon::Daemon;
use kube_tcpstates_e2e_tests::cluster::{Cluster, place};
use kube_tcpstates_e2e_tests::flood;
use kube_tcpstates_e2e_tests::operator::Operators;
use kube_tcpstates_e2e_tests::scene::Scene;
use kube_tcpstates_e2e_tests::wait;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};

use self::fleet_counts::Counts;

const PREFIX: &str = "fleet-";
const PATIENCE: Duration = Duration::from_mins(4);
/// At rest each agent writes its report once in it, give or take a fifth.
const REPORT_EVERY: f64 = 60.0;
const REST: Duration = Duration::from_secs(100);
/// The cluster's own controllers list a thing from etcd now and then.
const FEW: f64 = 10.0;
/// So long the server fails.
const FAILING: Duration = Duration::from_mins(1);

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
    let nobody = Counts::of(cluster, Value::Null)?;
    thread::sleep(Duration::from_secs(20));
    Counts::of(cluster, Value::Null)?.tell(&nobody, "nobody but the two installed agents");

    let stand = Stand { cluster, scene: &scene, agents };
    let fleet = stand.start("the start of all at once")?;
    stand.rest(&fleet)?;
    stand.without_server(&fleet)?;
    stand.without_etcd(&fleet)?;
    stand.with_errors(&fleet)?;
    drop(fleet);
    stand.start_refused()
}

/// Where the agents stand.
struct Stand<'a> {
    cluster: &'a Cluster,
    scene: &'a Scene<'a>,
    agents: usize,
}

impl Stand<'_> {
    fn count(&self, fleet: &Fleet) -> Result<Counts> {
        Counts::of(self.cluster, fleet.latest())
    }

    /// All agents at once.
    fn start(&self, when: &str) -> Result<Fleet> {
        let agents = self.agents;
        let before = Counts::of(self.cluster, Value::Null)?;
        let start = Instant::now();
        let fleet = Fleet::start(self.cluster, agents)?;
        fleet.until("all are in step", "in_sync", agents)?;
        eprintln!("{agents} agents are in step after {:.1} s", start.elapsed().as_secs_f64());
        fleet.until("all have reported", "have_reported", agents)?;
        eprintln!("and have reported after {:.1} s", start.elapsed().as_secs_f64());
        let now = self.count(&fleet)?;
        now.tell(&before, when);
        now.require_cached(&before, FEW)?;
        Ok(fleet)
    }

    fn rest(&self, fleet: &Fleet) -> Result<()> {
        // What was begun by the start has an end.
        thread::sleep(Duration::from_secs(30));
        let before = self.count(fleet)?;
        thread::sleep(REST);
        let now = self.count(fleet)?;
        now.tell(&before, "at rest");
        now.require_cached(&before, FEW)?;
        let rate = now.reports(&before);
        let promised = f64::from(u32::try_from(self.agents)?) / REPORT_EVERY;
        ensure!(
            rate < promised * 1.3 + 0.1,
            "{rate:.2} reports a second at rest, {promised:.2} are promised"
        );
        Ok(())
    }

    fn without_server(&self, fleet: &Fleet) -> Result<()> {
        self.cluster.kill_api_server()?;
        let away = fleet.answers()?;
        thread::sleep(Duration::from_secs(20));
        let meanwhile = fleet.answers()? - away;
        eprintln!("while the server was away for 20 s: {meanwhile} requests of all agents");
        self.cluster.start_api_server()?;
        // Its counters begin at nothing.
        let fresh = self.count(fleet)?;
        self.comes_back(fleet, &fresh, ("after-the-server", "the server's restart"), FEW)
    }

    /// A server that has what is in its cache, and of all else says nothing in time.
    fn without_etcd(&self, fleet: &Fleet) -> Result<()> {
        let before = self.count(fleet)?;
        self.cluster.kill_etcd()?;
        thread::sleep(FAILING);
        let failing = self.count(fleet)?;
        failing.tell(&before, "a server without etcd");
        self.cluster.start_etcd()?;
        let fresh = self.count(fleet)?;
        // Kubelets and controllers list pods and nodes anew, and the agents are many more than those.
        let few = f64::from(u32::try_from(self.agents)?) / 10.0;
        self.comes_back(fleet, &fresh, ("after-etcd", "etcd's return"), few)
    }

    /// The agents come to know of a trace that is made now, and after a while all is as it was.
    fn comes_back(&self, fleet: &Fleet, fresh: &Counts, (trace, what): (&str, &str), few: f64) -> Result<()> {
        self.follow(fleet, trace)?;
        thread::sleep(Duration::from_secs(40));
        let now = self.count(fleet)?;
        now.tell(fresh, what);
        now.require_cached(fresh, few)
    }

    /// A server that answers every report with 500: it cannot reach whom it must ask first.
    fn with_errors(&self, fleet: &Fleet) -> Result<()> {
        let kubectl = self.cluster.kubectl();
        let before = self.count(fleet)?;
        kubectl.apply(&nobody_to_ask().to_string())?;
        thread::sleep(FAILING);
        let failing = self.count(fleet)?;
        failing.tell(&before, "a server that answers reports with 500");
        ensure!(fleet.answers_with("5xx") > 0, "nobody got a 500: {}", fleet.latest());
        failing.require_cached(&before, FEW)?;
        kubectl.run(&["delete", "validatingwebhookconfiguration", "fleet"])?;
        self.follow(fleet, "after-errors")
    }

    /// A server that answers with 429 to whoever comes while it has something to do for another.
    fn start_refused(&self) -> Result<()> {
        let kubectl = self.cluster.kubectl();
        kubectl.apply(&one_at_a_time().to_string())?;
        // The server learns of it by a watch of its own.
        thread::sleep(Duration::from_secs(10));
        let fleet = self.start("the start of all at once, refused with 429")?;
        let refused = fleet.answers_with("429");
        ensure!(refused > 0, "nobody was refused: {}", fleet.latest());
        self.follow(&fleet, "while-refused")
    }

    /// A trace that is made now is in every report.
    fn follow(&self, fleet: &Fleet, name: &str) -> Result<()> {
        let start = Instant::now();
        let spec = json!({"podSelector": {"matchLabels": {"app": "fleet"}}});
        Agents::install(self.cluster)?.trace(self.scene.namespace(), name, &spec)?;
        let named = format!("\"{name}\"");
        wait::until("every report has the trace", PATIENCE, || {
            // What is asked for here must not be read from etcd either.
            let path = "/apis/tcpstates.dev/v1alpha1/tcpstatenodes?resourceVersion=0";
            let reports = match self.cluster.kubectl().get(path) {
                Ok(reports) => reports,
                // The server may not have come to itself.
                Err(error) => return Ok(Err(format!("{error:#}"))),
            };
            let reports = reports["items"].as_array().cloned().unwrap_or_default();
            let has = |report: &&Value| report["status"]["traces"].to_string().contains(&named);
            let count = reports.iter().filter(has).count();
            let is_done = count >= self.agents;
            Ok(if is_done { Ok(()) } else { Err(format!("{count} have; {:?}", fleet.latest())) })
        })?;
        eprintln!("{:.1} s after it was made all have reported a trace", start.elapsed().as_secs_f64());
        Ok(())
    }
}

/// A webhook where nobody listens.
fn nobody_to_ask() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "fleet"},
        "webhooks": [{
            "name": "fleet.tcpstates.dev", "clientConfig": {"url": "https://127.0.0.1:1/"},
            "rules": [{
                "apiGroups": ["tcpstates.dev"], "apiVersions": ["*"], "operations": ["*"],
                "resources": ["tcpstatenodes", "tcpstatenodes/status"],
            }],
            "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 1,
        }],
    })
}

/// So much of the server as one request at a time takes is for the agents; what comes meanwhile is refused.
fn one_at_a_time() -> Value {
    let object = |kind: &str, spec: Value| {
        json!({
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1beta1", "kind": kind,
            "metadata": {"name": "fleet"}, "spec": spec,
        })
    };
    let limited = json!({"assuredConcurrencyShares": 1, "limitResponse": {"type": "Reject"}});
    let level = object("PriorityLevelConfiguration", json!({"type": "Limited", "limited": limited}));
    let all = json!(["*"]);
    let schema = object(
        "FlowSchema",
        json!({
            "priorityLevelConfiguration": {"name": "fleet"},
            "matchingPrecedence": 100,
            "rules": [{
                "subjects": [{
                    "kind": "ServiceAccount",
                    "serviceAccount": {"namespace": NAMESPACE, "name": "kube-tcpstates-agent"},
                }],
                "resourceRules": [{
                    "apiGroups": all, "resources": all, "verbs": all, "clusterScope": true, "namespaces": all,
                }],
            }],
        }),
    );
    json!({"apiVersion": "v1", "kind": "List", "items": [level, schema]})
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

/// The process with all the agents.
struct Fleet {
    process: Daemon,
    latest: Arc<Mutex<Value>>,
}

impl Fleet {
    /// On the second node: what its network carries is theirs, but for a little of the kubelet's.
    fn start(cluster: &Cluster, agents: usize) -> Result<Self> {
        let kubeconfig = kubeconfig(cluster, "fleet")?;
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

    /// How many have come.
    fn answers(&self) -> Result<u64> {
        let latest = self.latest();
        let answers = latest["answers"].as_object().context("the fleet counts answers")?;
        Ok(answers.values().filter_map(Value::as_u64).sum())
    }

    /// How many with this code.
    fn answers_with(&self, code: &str) -> u64 {
        let latest = self.latest();
        let answers = latest["answers"].as_object().into_iter().flatten();
        let of_code = answers.filter(|(what, _)| what.ends_with(&format!(" {code}")));
        of_code.filter_map(|(_, count)| count.as_u64()).sum()
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
