//! One socket, several connections: each is judged and shown by what it is, not by what the one before was.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use kube_tcpstates_kernel_tests::cgroup::CgroupTree;
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::tracer::Setup;

/// Nobody listens there.
const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 77, 4, 1)), 9);

#[test]
fn a_socket_that_was_refused_has_no_port_until_it_is_connected_again() {
    require(&[]);
    let (tree, namespace) = (CgroupTree::new(), Netns::new());
    let container = tree.container();
    let mut puppet = Puppet::start(&Place::container(&container).netns(&namespace));
    let to = puppet.listen("listener", (Ipv4Addr::new(127, 77, 4, 2), 0).into());
    let netns = namespace.inode().to_string();
    let tracer = Setup::json(["--netns", &netns, "--role", "client"]).start_ready();
    puppet.connect("socket", NOBODY).expect_err("nobody listens");
    let ends = puppet.connect("socket", to).expect("it listens");
    tracer.settle(Duration::from_millis(300));
    let finished = tracer.stop();
    finished.assert_clean();

    let mut events = finished.events();
    events.retain(|event| event.kind() == "transition");
    let seen: Vec<(String, Option<u64>)> = events
        .iter()
        .map(|event| (event.must("tcpstates.new_state").to_owned(), event.number("network.local.port")))
        .collect();
    println!("{seen:?}");
    let states: Vec<&str> = seen.iter().map(|(state, _)| state.as_str()).collect();
    assert_eq!(states, ["SYN_SENT", "CLOSE", "SYN_SENT", "ESTABLISHED"]);
    assert_eq!(seen[2].1, None, "the port of the connection before");
    assert_eq!(seen[3].1, Some(ends.local.port().into()));
    let ids: Vec<&str> = events.iter().map(|event| event.must("tcpstates.connection.id")).collect();
    assert!(ids[0] == ids[1] && ids[2] == ids[3] && ids[0] != ids[2], "{ids:?}");
}
