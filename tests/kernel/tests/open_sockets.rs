//! The walk that finds what is open when the tracer starts: in every network namespace, whoever asks, and while
//! connections come and go.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use kube_tcpstates_kernel_tests::line::Event;
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::{Need, is_emulated, require};
use kube_tcpstates_kernel_tests::scene::Scene;
use kube_tcpstates_kernel_tests::tracer::{Setup, Tracer};
use kube_tcpstates_kernel_tests::workload::Ending;

const NAMESPACES: usize = 10;
const CONNECTIONS: usize = 200;
/// Ten times what a start may take on an idle machine.
const STARTED: Duration = Duration::from_secs(10);
/// A pod: its own pid and network namespace, and what manifests/base/agent.yaml grants.
/// Before 5.11 whoever starts it must also let it lock memory.
const POD: [&str; 17] = [
    "sh",
    "-ec",
    "ulimit -l unlimited 2>/dev/null || :; exec \"$@\"",
    "sh",
    "unshare",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--net",
    "setpriv",
    "--bounding-set=-all,+bpf,+perfmon,+dac_read_search",
    "--inh-caps=-all,+bpf,+perfmon,+dac_read_search",
    "--ambient-caps=-all,+bpf,+perfmon,+dac_read_search",
    "--clear-groups",
    "--reuid=65534",
    "--regid=65534",
];

/// A namespace in which one process holds a listener and both ends of some connections.
struct Held {
    puppet: Puppet,
    connections: usize,
    netns: Netns,
}

impl Held {
    fn of(connections: usize) -> Self {
        Self::within(Netns::new(), connections)
    }

    fn within(netns: Netns, connections: usize) -> Self {
        let mut puppet = Puppet::start(&Place::default().netns(&netns));
        let to = puppet.listen("listener", (Ipv4Addr::LOCALHOST, 0).into());
        for number in 0..connections {
            puppet.connect(&client(number), to).expect("it listens");
            puppet.accept(&server(number), "listener");
        }
        Self { puppet, connections, netns }
    }

    /// Sockets that it holds.
    fn sockets(&self) -> usize {
        2 * self.connections + 1
    }

    /// Each connection ends at its client's side, then at its server's; then the listener.
    fn end(&mut self) {
        for number in 0..self.connections {
            self.puppet.close(&client(number));
            self.puppet.receive_to_end(&server(number)).expect("a FIN came");
            self.puppet.close(&server(number));
        }
        self.puppet.close("listener");
    }
}

fn client(number: usize) -> String {
    format!("client {number}")
}

fn server(number: usize) -> String {
    format!("server {number}")
}

fn options<'a>(namespaces: impl IntoIterator<Item = &'a Netns>) -> Vec<String> {
    namespaces.into_iter().flat_map(|netns| ["--netns".to_owned(), netns.inode().to_string()]).collect()
}

/// The lines with which old sockets leave the state that they were found in. Each must have the role, the owner and a
/// duration that begins at the start, and be there once.
#[track_caller]
fn assert_each_once(lines: &[Event], held: &[Held]) {
    let pids: HashSet<u64> = held.iter().map(|held| held.puppet.pid().into()).collect();
    let mut seen = HashSet::new();
    for line in lines.iter().filter(|line| since_attach(line)) {
        let tuple = line.tuple();
        let role = if tuple.old == "LISTEN" || tuple.new == "CLOSE_WAIT" { "server" } else { "client" };
        assert_eq!(line.text("tcpstates.role"), Some(role), "{line:?}");
        assert_eq!(line.text("tcpstates.owner.source"), Some("descriptor"), "{line:?}");
        assert!(line.number("process.pid").is_some_and(|pid| pids.contains(&pid)), "{line:?}");
        assert!(seen.insert(line.must("tcpstates.connection.id").to_owned()), "twice: {line:?}");
    }
    assert_eq!(seen.len(), held.iter().map(Held::sockets).sum::<usize>(), "some are missing");
}

fn since_attach(line: &Event) -> bool {
    line.get("tcpstates.state_duration_since_attach").and_then(serde_json::Value::as_bool) == Some(true)
}

#[track_caller]
fn transitions(tracer: Tracer) -> Vec<Event> {
    tracer.settle(Duration::from_millis(500));
    let finished = tracer.stop();
    finished.assert_clean();
    finished.transitions()
}

#[test]
fn every_socket_of_every_namespace_is_found_once() {
    require(&[]);
    let mut held: Vec<Held> =
        (0..NAMESPACES).map(|_| Held::of(if is_emulated() { 40 } else { CONNECTIONS })).collect();
    let begun = Instant::now();
    let tracer = Setup::json(options(held.iter().map(|held| &held.netns))).start_ready();
    let took = begun.elapsed();
    let open: usize = held.iter().map(Held::sockets).sum();
    println!("{open} open sockets in {NAMESPACES} namespaces: started in {took:?}");
    assert!(took < STARTED, "{took:?}");
    assert_eq!(tracer.counts_now().get("socket_records"), u64::try_from(open).expect("a few"));
    for held in &mut held {
        held.end();
    }
    assert_each_once(&transitions(tracer), &held);
}

/// One chain, longer than one slice of the walk, in a hash table that no other namespace has.
#[test]
fn a_namespace_with_a_hash_table_of_its_own_is_walked_as_well() {
    require(&[]);
    if !Path::new("/proc/sys/net/ipv4/tcp_child_ehash_entries").exists() {
        println!("before 6.1 all namespaces share one");
        return;
    }
    let maker = Netns::new();
    maker.set("net/ipv4/tcp_child_ehash_entries", "1");
    let mut held = [Held::within(Netns::made_in(&maker), 2 * CONNECTIONS)];
    let tracer = Setup::json(options([&held[0].netns])).start_ready();
    held[0].end();
    assert_each_once(&transitions(tracer), &held);
}

/// What stays open is neither missed nor found twice because of what does not.
#[test]
fn what_stays_open_is_found_while_connections_come_and_go() {
    require(&[]);
    let scene = Scene::new(Ending::ClientFirst);
    let mut held = [Held::of(CONNECTIONS)];
    let churn = scene.churn(if is_emulated() { 10_000 } else { 20_000 });
    let place = scene.client_place();
    let tracer = std::thread::scope(|scope| {
        let churning = scope.spawn(|| churn.run(&place));
        std::thread::sleep(Duration::from_millis(200));
        let tracer = Setup::json(options([&held[0].netns])).start_ready();
        assert!(!churning.is_finished(), "the walk must go on while connections come and go");
        churning.join().expect("the clients do not fail");
        tracer
    });
    assert_eq!(tracer.counts_now().get("socket_records"), u64::try_from(held[0].sockets()).expect("a few"));
    held[0].end();
    assert_each_once(&transitions(tracer), &held);
}

/// Its own pid and network namespace, none of the host's files, three capabilities.
#[test]
fn a_pod_finds_what_is_open_on_its_node() {
    require(&[Need::Program("setpriv"), Need::Program("unshare")]);
    let folder = tempfile::tempdir().expect("make a temporary folder");
    let copy = readable_copy(folder.path());
    let mut held = [Held::of(3)];
    let mut arguments = options([&held[0].netns]);
    arguments.extend(["--duration".to_owned(), "5s".to_owned()]);
    let tracer = Setup::json(arguments).program(&copy).through(POD).start_ready();
    held[0].end();
    let finished = tracer.wait_end(Duration::from_mins(1));
    let start = finished.lines[0].json();
    let findings = start.get("tcpstates.preflight").and_then(serde_json::Value::as_array).expect("a list");
    let open = findings.iter().find(|finding| finding["name"] == "open_sockets").expect("it is told");
    assert_eq!(open["ok"], true, "{open}");
    assert_each_once(&finished.transitions(), &held);
}

fn readable_copy(folder: &Path) -> std::path::PathBuf {
    use std::fs::{Permissions, copy, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;
    let to = folder.join("kube-tcpstates");
    copy(kube_tcpstates_kernel_tests::tracer::program(), &to).expect("copy the program");
    for path in [folder, &to] {
        set_permissions(path, Permissions::from_mode(0o755)).expect("let everybody run it");
    }
    to
}

/// Since 1.24 every Go program's listener is one of MPTCP, and its connections mostly are not.
#[test]
fn an_mptcp_listeners_old_connections_are_its_process_servers() {
    require(&[]);
    if !Path::new("/proc/sys/net/mptcp").exists() {
        println!("this kernel was built without MPTCP");
        return;
    }
    let (netns, at) = (Netns::new(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    netns.set("net/mptcp/enabled", "1");
    let mut program = Puppet::start(&Place::default().netns(&netns));
    let mut peer = Puppet::start(&Place::default().netns(&netns));
    let to = program.listen_mptcp("listener", at);
    peer.connect("accepted", to).expect("it listens");
    program.accept("accepted", "listener");
    // No descriptor yet: it waits to be accepted.
    peer.connect("waiting", to).expect("it listens");
    let tracer = Setup::json(options([&netns])).start_ready();
    peer.close("accepted");
    peer.close("waiting");
    program.close("accepted");
    program.close("listener");
    let lines = transitions(tracer);
    let of_server = lines
        .iter()
        .filter(|line| since_attach(line) && line.number("network.local.port") == Some(to.port().into()));
    let mut sources = Vec::new();
    for line in of_server {
        assert_eq!(line.text("tcpstates.role"), Some("server"), "{line:?}");
        assert_eq!(line.number("process.pid"), Some(program.pid().into()), "{line:?}");
        sources.push(line.text("tcpstates.owner.source").unwrap_or_default().to_owned());
    }
    sources.sort_unstable();
    assert_eq!(sources, ["descriptor", "descriptor", "listen"]);
}

/// Without its listener nothing says which side an old connection is, and it is not taken for a client.
#[test]
fn an_old_connection_without_a_listener_has_no_role() {
    require(&[]);
    let mut held = Held::of(1);
    held.puppet.close("listener");
    let tracer = Setup::json(options([&held.netns])).start_ready();
    held.puppet.close(&client(0));
    held.puppet.close(&server(0));
    let lines = transitions(tracer);
    let old: Vec<_> = lines.iter().filter(|line| since_attach(line)).collect();
    assert_eq!(old.len(), 2, "{lines:#?}");
    for line in old {
        assert_eq!(line.text("tcpstates.role"), None, "{line:?}");
        assert_eq!(line.number("process.pid"), Some(held.puppet.pid().into()), "{line:?}");
    }
}

/// A listener for both families, and one for an address of its own.
#[test]
fn a_dual_stack_listeners_old_connections_are_servers() {
    require(&[]);
    let netns = Netns::new();
    let mut program = Puppet::start(&Place::default().netns(&netns));
    let to = program.listen("listener", (Ipv6Addr::UNSPECIFIED, 0).into());
    for (name, address) in [("4", Ipv4Addr::LOCALHOST.into()), ("6", Ipv6Addr::LOCALHOST.into())] {
        program.connect(&format!("client {name}"), SocketAddr::new(address, to.port())).expect("it listens");
        program.accept(&format!("server {name}"), "listener");
    }
    let tracer = Setup::json(options([&netns])).start_ready();
    for name in ["4", "6"] {
        program.close(&format!("server {name}"));
        program.close(&format!("client {name}"));
    }
    let lines = transitions(tracer);
    let roles: Vec<_> = lines
        .iter()
        .filter(|line| since_attach(line))
        .map(|line| {
            let of_server = line.number("network.local.port") == Some(to.port().into());
            (of_server, line.text("tcpstates.role"))
        })
        .collect();
    assert_eq!(roles.len(), 4, "{lines:#?}");
    for (of_server, role) in roles {
        assert_eq!(role, Some(if of_server { "server" } else { "client" }));
    }
}
