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

/// `EADDRNOTAVAIL` reaches neither `sk_err` nor the port: what stands there is the connection's before.
#[test]
fn a_connect_that_finds_no_free_port_says_so() {
    require(&[]);
    for hook in ["tp_btf", "raw_tp"] {
        let namespace = Netns::new();
        namespace.set("net/ipv4/ip_local_port_range", "40000 40001");
        let start = || Puppet::start(&Place::default().netns(&namespace));
        let (mut client, mut server) = (start(), start());
        let to = server.listen("listener", (Ipv4Addr::new(127, 77, 4, 3), 9000).into());
        let netns = namespace.inode().to_string();
        let tracer = Setup::json(["--hook", hook, "--netns", &netns, "--role", "client"]).start_ready();
        // One that has had a connection, and an error from it.
        client.connect("used", to).expect("it listens");
        server.accept("reset", "listener");
        server.reset("reset");
        client.receive_to_end("used").expect_err("it was reset");
        client.disconnect("used");
        for socket in ["one", "two"] {
            client.connect(socket, to).expect("there are two ports");
        }
        for socket in ["fresh", "used"] {
            let refused = client.connect(socket, to).expect_err("there is no third port");
            assert_eq!(refused, rustix::io::Errno::ADDRNOTAVAIL);
        }
        tracer.settle(Duration::from_millis(300));
        let finished = tracer.stop();
        finished.assert_clean();
        let mut failed = finished.transitions();
        failed.retain(|line| (line.tuple().old.as_str(), line.tuple().new.as_str()) == ("SYN_SENT", "CLOSE"));
        assert_eq!(failed.len(), 2, "{hook}: {failed:?}");
        for line in failed {
            assert_eq!(line.text("error.type"), Some("EADDRNOTAVAIL"), "{hook}: {line:?}");
            assert_eq!(line.number("network.local.port"), None, "{hook}: {line:?}");
        }
    }
}
