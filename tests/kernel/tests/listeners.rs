//! A connection belongs to the very listener that it came out of, whichever listens beside it or listened before; and
//! the kernel keeps nothing of ours with a listening socket.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use aya::maps::{Map, MapData, MapError, SkStorage};
use kube_tcpstates_common::record::SOCKET_RECORD_LEN;
use kube_tcpstates_kernel_tests::line::Event;
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::programs::maps_of_process;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::tracer::{Setup, Tracer};
use kube_tcpstates_kernel_tests::traffic::{Churn, Running, Server};
use kube_tcpstates_kernel_tests::tuple::End;
use kube_tcpstates_kernel_tests::workload::Ending;
use rustix::net::{connect_unspec, listen};

/// One keeps the records of connections with the sockets, the other in a hash.
const HOOKS: [&str; 2] = ["tp_btf", "raw_tp"];
const NAMESPACES: usize = 4;
/// Listeners on one address.
const BESIDE: usize = 4;
/// Every listener has it: only addresses and namespaces tell them apart, and beside each other nothing does.
const PORT: u16 = 7104;
/// Connections in all.
const CHILDREN: u64 = 20_000;

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
    let namespaces: Vec<Netns> = (0..NAMESPACES).map(|_| Netns::new()).collect();
    let mut servers = Vec::new();
    for namespace in &namespaces {
        namespace.widen_ports();
        // Ends that come again could be another listener's.
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
    let each = CHILDREN / u64::try_from(NAMESPACES).expect("it fits");
    let churn = Churn::new(&to, each).threads(4);
    let clients: Vec<Running> =
        namespaces.iter().map(|namespace| churn.start(&Place::default().netns(namespace))).collect();
    let made: u64 = clients.into_iter().map(|client| client.report().connections).sum();
    assert_eq!(made, CHILDREN);
    let truth = accepted_by(&mut servers);
    for (hook, tracer) in HOOKS.into_iter().zip(tracers) {
        tracer.settle(Duration::from_millis(500));
        let finished = tracer.stop();
        let counts = finished.assert_clean();
        let lines = finished.transitions();
        let named = |line: &Event| line.number("process.pid");
        let judged: Vec<_> = lines.iter().filter_map(|line| Some((line, *truth.get(&ends(line))?))).collect();
        let wrong: Vec<_> = judged.iter().filter(|(line, pid)| named(line) != Some(*pid)).collect();
        println!("{hook}: {} children, {} wrong, {} lost", judged.len(), wrong.len(), counts.lost());
        assert!(wrong.is_empty(), "{} wrong, as {:?}", wrong.len(), wrong[0]);
        let missing = CHILDREN - u64::try_from(judged.len()).expect("it fits");
        assert!(missing <= counts.lost(), "{missing} have no line: {counts:?}");
    }
}

/// A connection's namespace, local and peer end.
type Connection = (u64, End, End);

fn ends(line: &Event) -> Connection {
    let tuple = line.tuple();
    (line.number("netns.inode").expect("a namespace"), tuple.local, tuple.peer)
}

/// Which process accepted which connection, by what the servers say once all are done.
fn accepted_by(servers: &mut [(u64, Server)]) -> HashMap<Connection, u64> {
    let mut truth = HashMap::new();
    for _ in 0..1_000 {
        truth.clear();
        for (namespace, server) in &mut *servers {
            for ends in server.report().ends {
                let peer = ends.peer.expect("a connected socket has a peer");
                let [local, peer] = [ends.local, peer].map(|end| End::new(end.ip(), end.port()));
                let before = truth.insert((*namespace, local, peer), server.pid().into());
                assert_eq!(before, None, "{ends:?} was accepted twice");
            }
        }
        if truth.len() as u64 == CHILDREN {
            return truth;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{} of {CHILDREN} connections were accepted", truth.len());
}

#[test]
fn a_child_is_that_of_who_listens_now() {
    require(&[]);
    for hook in HOOKS {
        let namespace = Netns::new();
        let start = || Puppet::start(&Place::default().netns(&namespace));
        let (mut first, mut second, mut client) = (start(), start(), start());
        let tracer = Setup::json(["--hook", hook, "--netns", &namespace.inode().to_string()]).start_ready();
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        // Neither says where it listens.
        let ports = [&mut first, &mut second].map(|puppet| puppet.listen_unbound("listener", any));
        let mut expected = vec![first.pid(), second.pid()];
        for port in ports {
            client.connect(&port.to_string(), (Ipv4Addr::LOCALHOST, port).into()).expect("it listens");
        }
        // The port goes over to the other one.
        first.close("listener");
        second.listen("heir", (Ipv4Addr::LOCALHOST, ports[0]).into());
        client.connect("heir", (Ipv4Addr::LOCALHOST, ports[0]).into()).expect("it listens");
        expected.push(second.pid());
        // A client's socket that listens in the end.
        first.connect("turned", (Ipv4Addr::LOCALHOST, ports[0]).into()).expect("it listens");
        expected.push(second.pid());
        first.disconnect("turned");
        let turned = first.bind("turned", (Ipv4Addr::LOCALHOST, 0).into());
        first.listen_on("turned").expect("it may listen");
        client.connect("turned", turned).expect("it listens");
        expected.push(first.pid());
        // And one that stops listening, connects again, and is a client.
        first.disconnect("turned");
        first.connect("turned", (Ipv4Addr::LOCALHOST, ports[0]).into()).expect("it listens");
        expected.push(second.pid());
        tracer.settle(Duration::from_millis(300));
        let finished = tracer.stop();
        finished.assert_clean();
        let lines = finished.transitions();
        let children: Vec<_> = lines.iter().filter(|line| line.tuple().old == "SYN_RECV").collect();
        let named: Vec<_> = children.iter().filter_map(|line| line.number("process.pid")).collect();
        assert_eq!(named, expected.into_iter().map(u64::from).collect::<Vec<_>>(), "{hook}: {children:#?}");
        let last = lines.iter().rfind(|line| line.tuple().new == "SYN_SENT").expect("it connected");
        assert_eq!(last.text("tcp.role"), Some("client"), "{last:?}");
    }
}

/// On kernels without the mend of July 2026 whatever is kept there can be freed while it is in use.
#[test]
fn no_listener_has_socket_storage() {
    require(&[]);
    let old = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
    let tracer = Setup::json(["--hook", "tp_btf"]).start_ready();
    let storage = storage_of(&tracer);
    let has_record = |socket: &dyn Socket| match storage.get(&socket.fd(), 0) {
        Ok(_) => true,
        Err(MapError::KeyNotFound) => false,
        Err(error) => panic!("look into the socket storage: {error}"),
    };
    let new = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("listen");
    for listener in [&old, &new] {
        let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("it listens");
        let (server, _) = listener.accept().expect("somebody connected");
        assert_eq!([&client, &server].map(|end| has_record(end)), [true; 2], "of a connection");
        assert!(!has_record(listener), "{listener:?}");
        // What it was before does not count.
        connect_unspec(&client).expect("end the connection");
        listen(&client, 1).expect("listen with the same socket");
        assert!(!has_record(&client), "a socket that was a client's, and listens now");
    }
    drop(tracer);
}

trait Socket {
    fn fd(&self) -> std::os::fd::RawFd;
}

impl<T: AsRawFd> Socket for T {
    fn fd(&self) -> std::os::fd::RawFd {
        self.as_raw_fd()
    }
}

#[track_caller]
fn storage_of(tracer: &Tracer) -> SkStorage<MapData, [u8; SOCKET_RECORD_LEN]> {
    let maps = maps_of_process(tracer.pid());
    let id = maps.get("SOCKET_STORAGE").expect("the tracer holds the map");
    let map = MapData::from_id(*id).expect("open the map");
    Map::SkStorage(map).try_into().expect("a socket storage of records")
}
