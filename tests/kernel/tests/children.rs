//! Many connections out of many listeners that have all but their process in common: each names its own listener's.
//!
//! `KUBE_TCPSTATES_CHILDREN` says how many there are to be.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use kube_tcpstates_kernel_tests::line::Event;
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::tracer::Setup;
use kube_tcpstates_kernel_tests::traffic::{Churn, Running, Server};
use kube_tcpstates_kernel_tests::tuple::End;
use kube_tcpstates_kernel_tests::workload::Ending;

/// One keeps the records of connections with the sockets, the other in a hash.
const HOOKS: [&str; 2] = ["tp_btf", "raw_tp"];
const NAMESPACES: usize = 4;
/// Listeners on one address.
const BESIDE: usize = 4;
/// Every listener has it: only addresses and namespaces tell them apart, and beside each other nothing does.
const PORT: u16 = 7104;
/// Connections in all.
const WANTED: u64 = 20_000;

/// Where the groups of a namespace listen, and how their clients call that.
fn groups() -> [(SocketAddr, SocketAddr); 4] {
    let v4 = |last| IpAddr::from(Ipv4Addr::new(127, 77, 14, last));
    let [any, one] = [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST].map(IpAddr::from);
    [(v4(1), v4(1)), (v4(2), v4(2)), (one, one), (any, v4(3))]
        .map(|(at, to)| (SocketAddr::new(at, PORT), SocketAddr::new(to, PORT)))
}

#[test]
fn of_many_listeners_every_child_names_its_own() {
    require(&[]);
    let children =
        std::env::var("KUBE_TCPSTATES_CHILDREN").map_or(WANTED, |text| text.parse().expect("a number"));
    let namespaces: Vec<Netns> = (0..NAMESPACES).map(|_| Netns::new()).collect();
    let mut servers = Vec::new();
    for namespace in &namespaces {
        namespace.widen_ports();
        // Ends that come again may be another listener's; so there are few.
        namespace.set("net/ipv4/tcp_tw_reuse", "0");
        for (at, _) in groups() {
            for _ in 0..BESIDE {
                let place = Place::default().netns(namespace);
                servers.push((namespace.inode(), Server::start_beside(&place, at, Ending::ClientFirst)));
            }
        }
    }
    let filter = ["--transition", "SYN_RECV:ESTABLISHED", "--role", "server", "--queue-size", "256MiB"];
    let tracers = HOOKS.map(|hook| Setup::json(["--hook", hook].into_iter().chain(filter)).start_ready());
    let to = groups().map(|(_, to)| to);
    let each = children / u64::try_from(NAMESPACES).expect("it fits");
    let churn = Churn::new(&to, each).threads(4);
    let clients: Vec<Running> =
        namespaces.iter().map(|namespace| churn.start(&Place::default().netns(namespace))).collect();
    let made: u64 = clients.into_iter().map(|client| client.report().connections).sum();
    assert_eq!(made, children);
    let truth = accepted_by(&mut servers, children);
    for (hook, tracer) in HOOKS.into_iter().zip(tracers) {
        tracer.settle(Duration::from_millis(500));
        let finished = tracer.stop();
        let counts = finished.assert_clean();
        let lines = finished.transitions();
        let (mut judged, mut wrong, mut accepted) = (0, Vec::new(), truth.clone());
        for line in &lines {
            let Some(pids) = accepted.get_mut(&ends(line)) else { continue };
            judged += 1;
            match pids.iter().position(|pid| line.number("process.pid") == Some(*pid)) {
                Some(index) => drop(pids.swap_remove(index)),
                None => wrong.push(line),
            }
        }
        println!("{hook}: {judged} children, {} wrong, {} lost", wrong.len(), counts.lost());
        assert!(wrong.is_empty(), "{} wrong, as {:?}", wrong.len(), wrong[0]);
        let missing = children - judged;
        assert!(missing <= counts.lost(), "{missing} have no line: {counts:?}");
    }
}

/// A connection's namespace, local and peer end.
type Connection = (u64, End, End);

fn ends(line: &Event) -> Connection {
    let tuple = line.tuple();
    (line.number("tcpstates.netns.inode").expect("a namespace"), tuple.local, tuple.peer)
}

/// Which processes accepted which connection, by what the servers say once all are done.
fn accepted_by(servers: &mut [(u64, Server)], children: u64) -> HashMap<Connection, Vec<u64>> {
    let mut accepted = 0;
    for _ in 0..1_000 {
        let mut truth: HashMap<_, Vec<_>> = HashMap::new();
        accepted = 0;
        for (namespace, server) in &mut *servers {
            for ends in server.report().ends {
                let peer = ends.peer.expect("a connected socket has a peer");
                let [local, peer] = [ends.local, peer].map(|end| End::new(end.ip(), end.port()));
                truth.entry((*namespace, local, peer)).or_default().push(server.pid().into());
                accepted += 1;
            }
        }
        if accepted == children {
            return truth;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{accepted} of {children} connections were accepted");
}
