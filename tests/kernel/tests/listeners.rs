//! A connection belongs to the very listener that it came out of, whichever listened before; and the kernel keeps
//! nothing of ours with a listening socket.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use aya::maps::{Map, MapData, MapError, SkStorage};
use kube_tcpstates_common::socket::SocketRecord;
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::programs::maps_of_process;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::tracer::{Setup, Tracer};
use rustix::net::{connect_unspec, listen};

/// One keeps the records of connections with the sockets, the other in a hash.
const HOOKS: [&str; 2] = ["tp_btf", "raw_tp"];
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
        assert_eq!(last.text("tcpstates.role"), Some("client"), "{last:?}");
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
    let mut connections = Vec::new();
    for listener in [&old, &new] {
        let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("it listens");
        let (server, _) = listener.accept().expect("somebody connected");
        connections.extend([&client, &server].map(|end| has_record(end)));
        assert!(!has_record(listener), "{listener:?}");
        // What it was before does not count.
        connect_unspec(&client).expect("end the connection");
        listen(&client, 1).expect("listen with the same socket");
        assert!(!has_record(&client), "a socket that was a client's, and listens now");
    }
    let finished = tracer.stop();
    let in_storage = finished.events()[0].text("tcpstates.storage") == Some("socket_storage");
    assert_eq!(connections, [in_storage; 4], "what this test looks for is there on connections");
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
fn storage_of(tracer: &Tracer) -> SkStorage<MapData, [u8; size_of::<SocketRecord>()]> {
    let maps = maps_of_process(tracer.pid());
    let id = maps.get("SOCKET_STORAGE").expect("the tracer holds the map");
    let map = MapData::from_id(*id).expect("open the map");
    Map::SkStorage(map).try_into().expect("a socket storage of records")
}
