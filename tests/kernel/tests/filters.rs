//! A filter keeps every line of the connections it matches, in order, and lets no other connection's record
//! leave the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use kube_tcpstates_kernel_tests::counts::Counts;
use kube_tcpstates_kernel_tests::line::Event;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::scene::Scene;
use kube_tcpstates_kernel_tests::tracer::Setup;
use kube_tcpstates_kernel_tests::workload::Ending;

/// The states of a client that closes first, as it leaves and enters them.
const CLIENT: [(&str, &str); 5] = [
    ("CLOSE", "SYN_SENT"),
    ("SYN_SENT", "ESTABLISHED"),
    ("ESTABLISHED", "FIN_WAIT1"),
    ("FIN_WAIT1", "FIN_WAIT2"),
    ("FIN_WAIT2", "CLOSE"),
];

/// The states of the server's side of such a connection.
const SERVER: [(&str, &str); 5] = [
    ("LISTEN", "SYN_RECV"),
    ("SYN_RECV", "ESTABLISHED"),
    ("ESTABLISHED", "CLOSE_WAIT"),
    ("CLOSE_WAIT", "LAST_ACK"),
    ("LAST_ACK", "CLOSE"),
];

/// The port of a client that did not bind is not known when it sends its SYN: of two connections in doubt the
/// right one is told from its beginning, the other one not at all.
#[test]
fn a_local_port_keeps_the_syn_sent_of_the_connection_that_gets_it() {
    let mut stage = Stage::new();
    // Two local ports, both of them taken at once.
    stage.scene.namespace.set("net/ipv4/ip_local_port_range", "18080 18081");
    let (lines, counts) = stage.trace(&["-L", "18080"], |client, scene| {
        let ends: Vec<_> = ["one", "two"].map(|name| client.connect(name, scene.address())).into();
        let mut ports: Vec<u16> =
            ends.into_iter().map(|ends| ends.expect("it listens").local.port()).collect();
        ports.sort_unstable();
        assert_eq!(ports, [18080, 18081], "local ports");
        client.close("one");
        client.close("two");
        scene.server.wait_for(2);
    });
    assert_eq!(states(&lines), CLIENT);
    assert_eq!(connections(&lines), 1);
    assert_eq!(lines[4].tuple().local.port, 18080);
    assert_nothing_else_left_the_kernel(&counts, 5);
}

#[test]
fn a_local_port_that_is_bound_is_matched_at_once() {
    let mut stage = Stage::new();
    let (lines, counts) = stage.trace(&["-L", "18090,18091"], |client, scene| {
        let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 18090));
        client.bind("bound", at);
        client.connect("bound", scene.address()).expect("it listens");
        client.close("bound");
        client.connect("other", scene.address()).expect("it listens");
        client.close("other");
        scene.server.wait_for(2);
    });
    assert_eq!(states(&lines), CLIENT);
    assert_eq!(lines[0].tuple().local.port, 18090);
    assert_nothing_else_left_the_kernel(&counts, 5);
}

#[test]
fn a_local_port_of_a_server_keeps_its_accepted_sockets() {
    let mut stage = Stage::new();
    let port = stage.scene.port().to_string();
    let (lines, counts) = stage.trace(&["-L", &port], one_connection);
    assert_eq!(states(&lines), SERVER);
    assert_nothing_else_left_the_kernel(&counts, 5);
}

#[test]
fn a_peer_port_keeps_the_clients_of_a_server() {
    let mut stage = Stage::new();
    let port = stage.scene.port().to_string();
    let (lines, counts) = stage.trace(&["-D", &port], one_connection);
    assert_eq!(states(&lines), CLIENT);
    assert_nothing_else_left_the_kernel(&counts, 5);
}

#[test]
fn a_peer_port_keeps_the_server_side_from_the_syn_on() {
    let mut stage = Stage::new();
    let (lines, _) = stage.trace(&["-D", "18095"], |client, scene| {
        client.bind("bound", SocketAddr::from((Ipv4Addr::UNSPECIFIED, 18095)));
        client.connect("bound", scene.address()).expect("it listens");
        client.close("bound");
        scene.server.wait_for(1);
    });
    assert_eq!(states(&lines), SERVER);
}

#[test]
fn a_family_is_what_the_connection_speaks() {
    for (option, expected) in [("-4", "ipv4"), ("-6", "ipv6")] {
        let mut stage = Stage::new();
        let (lines, counts) = stage.trace(&[option], |client, scene| {
            let mut server = Puppet::start(&Place::default().netns(&scene.namespace));
            let at = server.listen("listener", SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
            let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
            for address in [IpAddr::from(Ipv6Addr::LOCALHOST), Ipv4Addr::LOCALHOST.into(), mapped] {
                client.connect("client", SocketAddr::new(address, at.port())).expect("it listens");
                server.accept("server", "listener");
                client.close("client");
                server.receive_to_end("server").expect("a FIN came");
                server.close("server");
            }
        });
        // Listeners come from the puppet too; what counts here are connections.
        let connected: Vec<&Event> =
            lines.iter().filter(|line| line.text("tcpstates.new_state") == Some("ESTABLISHED")).collect();
        let wanted = if expected == "ipv4" { 4 } else { 2 };
        assert_eq!(connected.len(), wanted, "{option}: {connected:?}");
        assert!(lines.iter().all(|line| line.text("network.type") == Some(expected)), "{option}: {lines:?}");
        assert!(counts.get("filtered") > 0, "{counts:?}");
    }
}

#[test]
fn a_container_keeps_its_sockets_and_no_others() {
    let mut stage = Stage::new();
    let (client, server) = (stage.scene.client_container.clone(), stage.scene.server_container.clone());
    for (option, value, expected, owner) in [
        ("--container", client.id.clone(), CLIENT, &client),
        ("--container", server.id.clone(), SERVER, &server),
        ("--pod-uid", client.pod_uid.clone(), CLIENT, &client),
        ("--pod-uid", server.pod_uid.clone(), SERVER, &server),
    ] {
        let (lines, counts) = stage.trace(&[option, &value], one_connection);
        assert_eq!(states(&lines), expected, "{option} {value}");
        assert!(
            lines.iter().all(|line| line.owner() == (Some(&owner.id), Some(&owner.pod_uid))),
            "{lines:?}"
        );
        assert_nothing_else_left_the_kernel(&counts, 5);
    }
}

/// The cgroup is made after the trace began: nothing has told the kernel about it but the kernel itself.
#[test]
fn a_container_that_comes_later_is_matched_from_its_first_line() {
    let mut stage = Stage::new();
    let pod_uid = stage.scene.client_container.pod_uid.clone();
    let (lines, _) = stage.trace(&["--pod-uid", &pod_uid], |_, scene| {
        let late = scene.tree.sibling(&scene.client_container);
        let mut client = Puppet::start(&Place::container(&late).netns(&scene.namespace));
        client.connect("client", scene.address()).expect("it listens");
        client.close("client");
        scene.server.wait_for(1);
    });
    assert_eq!(states(&lines), CLIENT);
}

#[test]
fn a_role_keeps_one_side() {
    for (role, expected) in [("client", CLIENT), ("server", SERVER)] {
        let mut stage = Stage::new();
        let (lines, counts) = stage.trace(&["--role", role], one_connection);
        assert_eq!(states(&lines), expected, "{role}");
        assert_nothing_else_left_the_kernel(&counts, 5);
    }
}

#[test]
fn a_transition_keeps_that_line_alone() {
    let mut stage = Stage::new();
    let (lines, counts) = stage.trace(&["--transition", "ESTABLISHED:CLOSE_WAIT"], one_connection);
    assert_eq!(states(&lines), [("ESTABLISHED", "CLOSE_WAIT")]);
    assert_nothing_else_left_the_kernel(&counts, 1);
}

#[test]
fn a_peer_network_keeps_connections_to_it() {
    let mut stage = Stage::new();
    let (lines, counts) = stage.trace(&["--peer-cidr", "127.77.8.0/24"], |client, scene| {
        for address in [Ipv4Addr::new(127, 77, 8, 9), Ipv4Addr::new(127, 77, 9, 9)] {
            client.connect("client", (address, scene.port()).into()).expect("it listens");
            client.close("client");
        }
        scene.server.wait_for(2);
    });
    assert_eq!(states(&lines), CLIENT);
    assert_nothing_else_left_the_kernel(&counts, 5);
}

#[test]
fn a_minimum_duration_keeps_the_states_that_lasted() {
    let mut stage = Stage::new();
    let (lines, counts) = stage.trace(&["--min-duration", "200ms"], |client, scene| {
        client.connect("client", scene.address()).expect("it listens");
        std::thread::sleep(Duration::from_millis(300));
        client.close("client");
        scene.server.wait_for(1);
    });
    let mut found = states(&lines);
    found.sort_unstable();
    assert_eq!(found, [("ESTABLISHED", "CLOSE_WAIT"), ("ESTABLISHED", "FIN_WAIT1")]);
    for line in &lines {
        let lasted = line.number("tcpstates.state_duration_us").expect("a duration");
        assert!((200_000..5_000_000).contains(&lasted), "{lasted} us");
    }
    assert_nothing_else_left_the_kernel(&counts, 2);
}

/// A scene in which connections are made one by one.
struct Stage {
    scene: Scene,
}

impl Stage {
    fn new() -> Self {
        require(&[]);
        Self { scene: Scene::new(Ending::ClientFirst) }
    }

    /// The lines of what `act` does, in their order, and the final counts.
    fn trace(&mut self, options: &[&str], act: impl FnOnce(&mut Puppet, &mut Scene)) -> (Vec<Event>, Counts) {
        let mut arguments: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        arguments.extend(self.scene.only_this());
        let mut client = Puppet::start(&self.scene.client_place());
        let tracer = Setup::json(arguments).start_ready();
        act(&mut client, &mut self.scene);
        tracer.settle(Duration::from_millis(300));
        let finished = tracer.stop();
        (finished.transitions(), finished.assert_clean())
    }
}

fn one_connection(client: &mut Puppet, scene: &mut Scene) {
    let before = scene.server.report().connections;
    client.connect("client", scene.address()).expect("it listens");
    client.close("client");
    scene.server.wait_for(before + 1);
}

fn states(lines: &[Event]) -> Vec<(&str, &str)> {
    lines.iter().map(|line| (line.must("tcpstates.old_state"), line.must("tcpstates.new_state"))).collect()
}

fn connections(lines: &[Event]) -> usize {
    let mut ids: Vec<&str> = lines.iter().map(|line| line.must("tcpstates.connection.id")).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.len()
}

/// The decision is the kernel's: user space is handed the lines it writes and no others.
#[track_caller]
fn assert_nothing_else_left_the_kernel(counts: &Counts, lines: u64) {
    let emitted = ["emitted", "filtered_user", "written"].map(|name| counts.get(name));
    assert_eq!(emitted, [lines, 0, lines], "emitted, filtered in user space, written: {counts:?}");
}
