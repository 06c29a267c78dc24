//! A connection belongs to the very listener that it came out of, whichever listened before; and the kernel keeps
//! nothing of ours with a listening socket.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData, MapError, SkStorage};
use kube_tcpstates::{
    filter::{TraceFilter, compile},
    kernel::{Options, load},
};
use kube_tcpstates_common::socket::SocketRecord;
use kube_tcpstates_events::{Hook, Storage};
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::programs::maps_of_process;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::tracer::Setup;
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
    let storage = storage_of(tracer.pid());
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

/// What a tracer knows of sockets ends when it detaches: they may close while nobody watches, and others may stand at
/// their addresses.
#[test]
fn nothing_is_kept_of_a_socket_over_a_detach() {
    require(&[]);
    for hook in [Hook::TpBtf, Hook::RawTp] {
        let mut kernel =
            load(Options { hook: Some(hook), ring_bytes: 1 << 20, want_on_cpu: false, tasks: None }, None)
                .expect("load");
        let everything = TraceFilter::default();
        kernel.rules.swap(&compile([(0, &everything)]).expect("one trace")).expect("rules");
        kernel.attach().expect("attach");
        let before = hashed();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("it listens");
        let (server, _) = listener.accept().expect("somebody connected");
        let made: BTreeSet<_> = hashed().difference(&before).copied().collect();
        let in_storage = kernel.storage == Storage::SocketStorage;
        assert_eq!(made.len(), if in_storage { 1 } else { 3 }, "{hook}: {made:x?}");
        kernel.detach();
        if in_storage {
            let storage = storage_of(std::process::id());
            for end in [&client, &server] {
                assert!(matches!(storage.get(&end.as_raw_fd(), 0), Err(MapError::KeyNotFound)), "{end:?}");
            }
        }
        drop((listener, client, server));
        kernel.rules.swap(&compile([(0, &everything)]).expect("one trace")).expect("rules");
        kernel.attach().expect("attach");
        assert!(hashed().is_disjoint(&made), "{hook}");
    }
}

/// Sockets that have records in hashes of this process, by the hash.
fn hashed() -> BTreeSet<(&'static str, u64)> {
    let maps = maps_of_process(std::process::id());
    let mut all = BTreeSet::new();
    for name in ["LISTENERS", "SOCKET_HASH"] {
        let map =
            MapData::from_id(*maps.get(name).expect("this process holds the map")).expect("open the map");
        let map: HashMap<_, u64, [u8; size_of::<SocketRecord>()]> =
            Map::HashMap(map).try_into().expect("a hash of records");
        all.extend(map.keys().flatten().map(|socket| (name, socket)));
    }
    all
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
fn storage_of(pid: u32) -> SkStorage<MapData, [u8; size_of::<SocketRecord>()]> {
    let maps = maps_of_process(pid);
    let id = maps.get("SOCKET_STORAGE").expect("the tracer holds the map");
    let map = MapData::from_id(*id).expect("open the map");
    Map::SkStorage(map).try_into().expect("a socket storage of records")
}
