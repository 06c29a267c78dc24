//! Many agents in one process: each follows the API server and writes its report by the agent's own code. In the place of
//! the pipeline is one that says that it traces.
//!
//! Tells every second on stdout, in one JSON line, what all of them have done so far.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use kube_tcpstates::cluster::{Cluster, ClusterConfig, Knowledge, NodeFacts, Observer, Sink};
use kube_tcpstates::peers::News;
use kube_tcpstates::pipeline::Account;
use kube_tcpstates::plan::{Remembered, View};
use kube_tcpstates_client::Answer;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::sync::oneshot;

/// What to run.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many. The node of each is PREFIX and its number.
    #[arg(long)]
    agents: usize,
    /// What the names of the nodes begin with.
    #[arg(long)]
    prefix: String,
    /// Where the API server is, and who all of them are to it.
    #[arg(long)]
    kubeconfig: PathBuf,
}

/// What all of them have done.
#[derive(Debug, Default)]
struct Sums {
    /// Answers by resource and code.
    answers: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    reports: AtomicU64,
    unreported: AtomicU64,
    plans: AtomicU64,
}

/// One of them.
#[derive(Debug, Default)]
struct Agent {
    sums: Arc<Sums>,
    is_in_sync: AtomicBool,
    has_reported: AtomicBool,
}

impl Observer for Agent {
    fn answered(&self, answer: Answer) {
        let mut answers = self.sums.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry((answer.resource_label(), answer.ending.code())).or_default() += 1;
    }

    fn view_changed(&self) {}

    fn turned(&self, knowledge: &Knowledge, planned: bool) {
        self.is_in_sync.store(knowledge.missing().next().is_none(), Ordering::Relaxed);
        self.sums.plans.fetch_add(planned.into(), Ordering::Relaxed);
    }

    fn counted(&self, _: &Account) {}

    fn reported(&self, written: bool) {
        let count = if written { &self.sums.reports } else { &self.sums.unreported };
        count.fetch_add(1, Ordering::Relaxed);
        self.has_reported.fetch_or(written, Ordering::Relaxed);
    }
}

/// Traces whatever it is told to, and sees nothing.
#[derive(Debug)]
struct Blind;

impl Sink for Blind {
    fn view(&self, _: View) {}

    fn news(&self, _: News) {}

    fn account(&self) -> oneshot::Receiver<Account> {
        let (sender, receiver) = oneshot::channel();
        // Whoever asks waits for it.
        drop(sender.send(Account { attached: true, ..Account::default() }));
        receiver
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // Each has a connection for every watch.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .context("raise the number of files")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("start tokio")?.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let sums = Arc::new(Sums::default());
    let mut agents = Vec::new();
    for number in 0..arguments.agents {
        let agent = Arc::new(Agent { sums: Arc::clone(&sums), ..Agent::default() });
        let config = ClusterConfig {
            node: format!("{}{number}", arguments.prefix),
            kubeconfig: Some(arguments.kubeconfig.clone()),
            max_traces_per_namespace: 8,
            facts: facts(),
        };
        let cluster = Cluster::connect(config, Arc::clone(&agent)).await?;
        tokio::spawn(cluster.run(Some(Arc::new(Blind)), Remembered::default()));
        agents.push(agent);
    }
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        println!("{}", told(&sums, &agents));
    }
}

fn told(sums: &Sums, agents: &[Arc<Agent>]) -> serde_json::Value {
    let count = |is_so: fn(&Agent) -> &AtomicBool| {
        agents.iter().filter(|agent| is_so(agent).load(Ordering::Relaxed)).count()
    };
    let answers = sums.answers.lock().unwrap_or_else(PoisonError::into_inner);
    let answers: BTreeMap<_, _> =
        answers.iter().map(|((resource, code), number)| (format!("{resource} {code}"), *number)).collect();
    json!({
        "in_sync": count(|agent| &agent.is_in_sync),
        "have_reported": count(|agent| &agent.has_reported),
        "reports": sums.reports.load(Ordering::Relaxed),
        "unreported": sums.unreported.load(Ordering::Relaxed),
        "plans": sums.plans.load(Ordering::Relaxed),
        "answers": answers,
    })
}

fn facts() -> NodeFacts {
    NodeFacts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: "0.0.0-none".to_owned(),
        hook: Some("none".to_owned()),
        cgroup_mode: "v2".to_owned(),
        preflight: Vec::new(),
        trouble: None,
        started: jiff::Timestamp::now(),
    }
}
