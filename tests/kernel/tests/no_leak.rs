//! After 200,000 connections no record is left of a socket that is closed.

use std::time::Duration;

use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::scene::Scene;
use kube_tcpstates_kernel_tests::tracer::Setup;
use kube_tcpstates_kernel_tests::workload::Ending;

const CONNECTIONS: u64 = 200_000;

#[test]
fn closed_sockets_leave_no_record_behind() {
    require(&[]);
    let mut scene = Scene::new(Ending::ClientFirst);
    let tracer = Setup::json(scene.only_this()).to_nowhere().start_ready();
    let at_rest = tracer.counts_now().get("socket_records");
    let churn = scene.churn(CONNECTIONS).threads(4).seconds(200);
    let report = scene.run(&churn);
    assert_eq!(report.connections, CONNECTIONS, "the machine is too slow for this test");
    // Records are freed with their sockets, after a grace period.
    std::thread::sleep(Duration::from_secs(1));
    let counts = tracer.counts_now();
    println!("{at_rest} records before; after {CONNECTIONS} connections: {counts:?}");
    // At rest there are those of sockets of the whole machine that were open before; they may close meanwhile.
    assert!(counts.get("socket_records") <= at_rest, "{at_rest} before: {counts:?}");
    assert_eq!(counts.get("closed_socket_records"), 0, "{counts:?}");
    tracer.stop().assert_clean();
}

/// Where there is no socket storage, the program itself has to delete what it made.
#[test]
fn closed_sockets_leave_nothing_in_the_hash_either() {
    require(&[]);
    let mut scene = Scene::new(Ending::ClientFirst);
    let options = ["--hook", "raw_tp"].map(str::to_owned).into_iter().chain(scene.only_this());
    let tracer = Setup::json(options).to_nowhere().start_ready();
    let churn = scene.churn(20_000).threads(4).seconds(60);
    scene.run(&churn);
    let counts = tracer.counts_now();
    println!("after 20,000 connections: {counts:?}");
    // The listener is older than the tracer and never changes its state. A close that the kernel skipped leaves one
    // record, which is rare. Nothing deleted leaves some twenty only: the kernel uses the addresses again at once.
    assert!(counts.get("socket_records") <= 5, "{counts:?}");
    tracer.stop().assert_clean();
}

/// Without this the count of the other test could be a constant.
#[test]
fn an_open_socket_has_a_record() {
    require(&[]);
    let scene = Scene::new(Ending::ClientFirst);
    let tracer = Setup::json(scene.only_this()).to_nowhere().start_ready();
    let at_rest = tracer.counts_now().get("socket_records");
    let mut client = Puppet::start(&scene.client_place());
    for number in 0..10 {
        client.connect(&number.to_string(), scene.address()).expect("the server listens");
    }
    let counts = tracer.counts_now();
    // Some of those at rest may be gone.
    let fresh = counts.get("socket_records").saturating_sub(at_rest);
    assert!((10..=20).contains(&fresh), "10 connections with two sockets each: {counts:?}");
}
