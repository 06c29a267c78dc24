//! The harness itself: what the other tests take for granted about their traffic and their places.

use std::net::SocketAddr;
use std::path::Path;

use kube_tcpstates_kernel_tests::cgroup::CgroupTree;
use kube_tcpstates_kernel_tests::netns::{Netns, Network};
use kube_tcpstates_kernel_tests::peer::Peer;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::traffic::{Churn, Server};
use kube_tcpstates_kernel_tests::workload::Ending;

#[test]
fn a_workload_runs_in_the_cgroup_and_the_namespace_it_was_given() {
    require(&[]);
    let tree = CgroupTree::new();
    let container = tree.container();
    let namespace = Netns::new();
    let puppet = Puppet::start(&Place::container(&container).netns(&namespace));
    assert_eq!(puppet.cgroup(), container.path());
    let link = std::fs::read_link(format!("/proc/{}/ns/net", puppet.pid())).expect("read its namespace");
    assert_eq!(link, Path::new(&format!("net:[{}]", namespace.inode())));
}

#[test]
fn nothing_is_left_of_a_test_that_panicked() {
    require(&[]);
    let (made, tree) = std::sync::mpsc::channel();
    let failed = std::thread::spawn(move || {
        let tree = CgroupTree::new();
        let container = tree.container();
        let namespace = Netns::new();
        let _puppet = Puppet::start(&Place::container(&container).netns(&namespace));
        made.send((container.folder, namespace.name().to_owned())).expect("the test listens");
        panic!("as a failing test does");
    });
    let (folder, namespace) = tree.recv().expect("the thread got that far");
    failed.join().expect_err("it panicked");
    assert!(!folder.exists(), "{} is left", folder.display());
    assert!(!Path::new("/run/netns").join(namespace).exists(), "the network namespace is left");
}

#[test]
fn every_ending_makes_the_number_of_transitions_it_says() {
    require(&[]);
    for ending in [Ending::ClientFirst, Ending::ServerFirst, Ending::Reset] {
        let network = Network::new();
        let (near, far) = (Netns::new(), Netns::new());
        let (_, server_addresses) = (network.join(&near), network.join(&far));
        let listen = SocketAddr::new(server_addresses.v6.into(), 0);
        let mut server = Server::start(&Place::default().netns(&far), &[listen], ending, false);
        let to = server.addresses().to_vec();
        let peer = Peer::start();
        let report = Churn::new(&to, 50).ending(ending).run(&Place::default().netns(&near));
        assert_eq!(report.connections, 50);
        server.wait_for(50);
        let mut seen = peer.stop();
        seen.retain(|tuple| [tuple.local.port, tuple.peer.port].contains(&to[0].port()));
        assert_eq!(u64::try_from(seen.len()), Ok(50 * ending.transitions()), "{ending:?}: {seen:#?}");
    }
}

#[test]
fn a_paused_bridge_passes_nothing_until_it_is_resumed() {
    require(&[]);
    let network = Network::new();
    let (near, far) = (Netns::new(), Netns::new());
    let (_, addresses) = (network.join(&near), network.join(&far));
    let mut server = Puppet::start(&Place::default().netns(&far));
    let mut client = Puppet::start(&Place::default().netns(&near));
    let to = server.listen("listener", SocketAddr::new(addresses.v4.into(), 0));
    client.connect("first", to).expect("the bridge passes frames");
    network.pause();
    client.begin_connect("second", to);
    network.resume();
    // The SYN that was dropped is sent again after a second.
    client.finish_connect("second").expect("the bridge passes frames again");
}
