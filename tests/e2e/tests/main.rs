//! Every test on a Kubernetes: one program, one cluster, several tests at a time where they do not meet.
//!
//! A program of its own instead of the usual harness, because the cluster is brought up once for all of them.

mod attachment;
mod changes;
mod cluster;
mod connections;
mod ended_meanwhile;
mod helm;
mod hostile;
mod incidents;
mod kinds;
mod limits;
mod lines;
mod lines_many;
mod lines_readers;
mod monitoring;
mod namespaces;
mod open_sockets;
mod operator;
mod operator_rights;
mod outage;
mod peers;
mod plugin;
mod reading;
mod restart;
mod rights;
mod rollouts;
mod security;
mod selection;
mod short_lived;
mod sidecar;
mod size;
mod slots;
mod traffic;

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use kube_tcpstates_e2e_tests::cluster::Cluster;
use libtest_mimic::{Arguments, Failed, Trial};

/// A test; it fails by an error or a panic.
type Test = fn(&Cluster) -> Result<()>;

/// Tests of one module, by name.
type Tests = &'static [(&'static str, Test)];

/// One of them starts many pods, and a kubelet that starts many is late in telling the containers' ids: none of these
/// looks for the name of a container, for which the agent waits two seconds.
const NAMELESS: &[Tests] =
    &[rights::NAMELESS, changes::NAMELESS, traffic::TESTS, security::TESTS, cluster::TESTS];

/// How many of those run at once: they wait for most of their time.
const AT_ONCE: usize = 5;

/// They change what all see, count what all cause, measure time, or want both processors: one after the other.
const ALONE: &[Tests] = &[
    attachment::TESTS,
    rights::ALONE,
    changes::ALONE,
    kinds::TESTS,
    connections::TESTS,
    open_sockets::TESTS,
    plugin::TESTS,
    selection::TESTS,
    short_lived::TESTS,
    sidecar::TESTS,
    limits::TESTS,
    // An agent that watches namespaces for another trace goes on doing so when it may no longer.
    namespaces::TESTS,
    peers::TESTS,
    outage::TESTS,
    restart::TESTS,
    operator::TESTS,
    reading::TESTS,
    lines::TESTS,
    lines_readers::TESTS,
    slots::TESTS,
    // Last: thousands of pods are deleted by the controllers in their own time.
    size::TESTS,
];

/// Each takes a minute or more: they run when asked for.
const LONG: &[Tests] = &[
    incidents::TESTS,
    operator_rights::TESTS,
    lines_many::TESTS,
    rollouts::TESTS,
    ended_meanwhile::TESTS,
    hostile::TESTS,
    monitoring::TESTS,
    // Last: it takes away what the others have installed.
    helm::TESTS,
];

/// Made by the first test that runs. Why it could not be made is the reason why every test fails.
static CLUSTER: Mutex<Option<Arc<Result<Cluster, String>>>> = Mutex::new(None);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let mut has_failed = false;
    for (tests, at_once, is_long) in [(NAMELESS, AT_ONCE, false), (ALONE, 1, false), (LONG, 1, true)] {
        arguments.test_threads = Some(at_once);
        let tests = tests.concat().into_iter();
        let trial = |(name, test)| Trial::test(name, move || run(name, test)).with_ignored_flag(is_long);
        let trials = tests.map(trial).collect();
        has_failed |= libtest_mimic::run(&arguments, trials).has_failed();
    }
    // A static is never dropped; the cluster must go down before the program ends.
    drop(CLUSTER.lock().unwrap_or_else(PoisonError::into_inner).take());
    if has_failed { ExitCode::from(101) } else { ExitCode::SUCCESS }
}

/// Tells how long a test took, however it ends.
struct Stopwatch<'a> {
    name: &'a str,
    start: Instant,
}

impl Drop for Stopwatch<'_> {
    fn drop(&mut self) {
        eprintln!("{:7.1} s in all: {}", self.start.elapsed().as_secs_f64(), self.name);
    }
}

fn the_cluster() -> Arc<Result<Cluster, String>> {
    let mut cluster = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    let up = || Cluster::up(Path::new(env!("CARGO_BIN_EXE_e2e-guard"))).map_err(|error| format!("{error:#}"));
    Arc::clone(cluster.get_or_insert_with(|| Arc::new(up())))
}

fn run(name: &str, test: Test) -> Result<(), Failed> {
    let cluster = the_cluster();
    let cluster = cluster.as_ref().as_ref().map_err(|reason| format!("the cluster is not up: {reason}"))?;
    let _stopwatch = Stopwatch { name, start: Instant::now() };
    test(cluster).map_err(|error| {
        let pods = cluster.kubectl().run(&["get", "pods", "--all-namespaces", "--output=wide"]);
        format!("{error:#}\n{}", pods.unwrap_or_else(|error| format!("{error:#}"))).into()
    })
}
