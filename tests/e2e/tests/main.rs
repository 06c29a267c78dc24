//! Every test on a Kubernetes: one program, one cluster, one test after the other.
//!
//! A program of its own instead of the usual harness, because the cluster is brought up once for all of them.

mod attachment;
mod changes;
mod cluster;
mod kinds;
mod limits;
mod namespaces;
mod outage;
mod reading;
mod restart;
mod rights;
mod security;
mod selection;
mod short_lived;
mod size;
mod slots;
mod traffic;

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use kube_tcpstates_e2e_tests::cluster::Cluster;
use libtest_mimic::{Arguments, Failed, Trial};

/// A test; it fails by an error or a panic.
type Test = fn(&Cluster) -> Result<()>;

/// Made by the first test that runs. Why it could not be made is the reason why every test fails.
static CLUSTER: Mutex<Option<Result<Cluster, String>>> = Mutex::new(None);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share the nodes, and what one of them does to the API server all would notice.
    arguments.test_threads = Some(1);
    let trials = |tests: &[&[(&'static str, Test)]]| -> Vec<Trial> {
        tests.concat().into_iter().map(|(name, test)| Trial::test(name, move || run(test))).collect()
    };
    let all = trials(&[
        cluster::TESTS,
        traffic::TESTS,
        attachment::TESTS,
        kinds::TESTS,
        selection::TESTS,
        changes::TESTS,
        short_lived::TESTS,
        limits::TESTS,
        reading::TESTS,
        slots::TESTS,
        outage::TESTS,
        restart::TESTS,
        rights::TESTS,
        security::TESTS,
        namespaces::TESTS,
        // Last: its pods are deleted by the controllers in their own time.
        size::TESTS,
    ]);
    let conclusion = libtest_mimic::run(&arguments, all);
    // A static is never dropped; the cluster must go down before the program ends.
    drop(CLUSTER.lock().unwrap_or_else(PoisonError::into_inner).take());
    conclusion.exit_code()
}

fn run(test: Test) -> Result<(), Failed> {
    let mut cluster = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = cluster.get_or_insert_with(|| {
        Cluster::up(Path::new(env!("CARGO_BIN_EXE_e2e-guard"))).map_err(|error| format!("{error:#}"))
    });
    let cluster = cluster.as_ref().map_err(|reason| format!("the cluster is not up: {reason}"))?;
    test(cluster).map_err(|error| {
        let pods = cluster.kubectl().run(&["get", "pods", "--all-namespaces", "--output=wide"]);
        format!("{error:#}\n{}", pods.unwrap_or_else(|error| format!("{error:#}"))).into()
    })
}
