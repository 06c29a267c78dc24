//! `list`: what is open, beside what the kernel itself shows in each network namespace, and figures that are known.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use kube_tcpstates_common::state::State;
use kube_tcpstates_kernel_tests::cgroup::CgroupTree;
use kube_tcpstates_kernel_tests::line::Event;
use kube_tcpstates_kernel_tests::listed::listed;
use kube_tcpstates_kernel_tests::netns::{Netns, Network};
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::proc_net::{self, Row};
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;

const NAMESPACES: usize = 3;
/// What two looks at the same clock may differ by, with ticks of 10 ms.
const TICK_US: u64 = 10_000;

/// The only line of a kind.
#[track_caller]
fn only<'a>(lines: &'a [Event], kind: &str) -> &'a Event {
    let of_kind: Vec<_> = lines.iter().filter(|line| line.kind() == kind).collect();
    let [only] = of_kind[..] else { panic!("{} lines of {kind}: {lines:#?}", of_kind.len()) };
    only
}

fn with_state<'a>(lines: &'a [Event], state: &str) -> Vec<&'a Event> {
    lines.iter().filter(|line| line.text("tcpstates.state") == Some(state)).collect()
}

/// A namespace with a listener and connections in many states, in a container.
struct Busy {
    netns: Netns,
    _puppet: Puppet,
}

impl Busy {
    fn new(place: &Place, address: SocketAddr) -> Self {
        let netns = Netns::new();
        let mut puppet = Puppet::start(&place.clone().netns(&netns));
        let to = puppet.listen("listener", address);
        for number in 0..20 {
            let (client, server) = (format!("client {number}"), format!("server {number}"));
            puppet.connect(&client, to).expect("it listens");
            puppet.accept(&server, "listener");
            match number % 5 {
                0 => {}
                1 => puppet.send(&client, 700 + number),
                // FIN_WAIT2 and CLOSE_WAIT, whole sockets.
                2 => puppet.shut_down(&client),
                // The client is an orphan that the kernel keeps as it keeps TIME_WAIT; bytes wait before its FIN.
                3 => {
                    puppet.send(&client, 90);
                    puppet.close(&client);
                }
                // TIME_WAIT.
                _ => {
                    puppet.close(&client);
                    puppet.receive_to_end(&server).expect("a FIN came");
                    puppet.close(&server);
                }
            }
        }
        Self { netns, _puppet: puppet }
    }
}

#[test]
fn what_is_open_is_listed_as_each_namespace_shows_it() {
    require(&[]);
    let tree = CgroupTree::new();
    let containers: Vec<_> = (0..NAMESPACES).map(|_| tree.container()).collect();
    let addresses =
        [(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into(), (Ipv4Addr::UNSPECIFIED, 0).into()];
    let busy: Vec<Busy> = containers
        .iter()
        .zip(addresses)
        .map(|(container, address)| Busy::new(&Place::container(container), address))
        .collect();
    let lines = listed(&[], busy.iter().map(|busy| &busy.netns));
    for (busy, container) in busy.iter().zip(&containers) {
        let inode = busy.netns.inode();
        let here: Vec<_> =
            lines.iter().filter(|line| line.number("tcpstates.netns.inode") == Some(inode)).collect();
        let mut shown = proc_net::sockets(&busy.netns);
        let time_wait = take_passed(&mut shown, &here);
        println!("{} sockets and {time_wait:?} in TIME_WAIT in {}", shown.len(), busy.netns.name());
        for line in here.iter().filter(|line| line.kind() != "time_wait") {
            assert_eq!(line.text("container.id"), Some(container.id.as_str()), "{line:?}");
            assert_eq!(line.text("tcpstates.owner.source"), Some("descriptor"), "{line:?}");
            let row = shown.remove(&key(line)).unwrap_or_else(|| panic!("not there, or twice: {line:?}"));
            assert_same(line, row);
        }
        assert_eq!(shown, BTreeMap::new(), "not listed");
    }
    let end = only(&lines, "snapshot");
    assert_eq!(end.number("tcpstates.sockets.open"), Some(24 * NAMESPACES as u64 + 4 * NAMESPACES as u64));
    assert_eq!(end.number("tcpstates.sockets.left_out"), Some(0));
    assert_eq!(end.number("tcpstates.listeners.shown"), Some(NAMESPACES as u64));
    assert_eq!(end.number("tcpstates.time_wait"), Some(4 * NAMESPACES as u64));
}

/// Takes away what only the counts of a namespace tell of, and holds them against it.
fn take_passed(shown: &mut BTreeMap<(u8, u16, u16), Row>, here: &[&Event]) -> (u64, u64) {
    let whole: Vec<_> = here.iter().filter(|line| line.kind() != "time_wait").map(|line| key(line)).collect();
    let is_passed = |key: &(u8, u16, u16), row: &Row| {
        row.state == State::TIME_WAIT.0 || row.state == State::FIN_WAIT2.0 && !whole.contains(key)
    };
    let passed: Vec<_> =
        shown.iter().filter(|(key, row)| is_passed(key, row)).map(|(key, row)| (*key, row.state)).collect();
    for (key, _) in &passed {
        shown.remove(key);
    }
    let time_wait = passed.iter().filter(|(_, state)| *state == State::TIME_WAIT.0).count() as u64;
    let fin_wait2 = passed.len() as u64 - time_wait;
    let [line] = here.iter().filter(|line| line.kind() == "time_wait").collect::<Vec<_>>()[..] else {
        panic!("one line tells of TIME_WAIT: {here:#?}")
    };
    assert_eq!(line.number("tcpstates.count"), Some(time_wait), "{line:?}");
    assert_eq!(line.number("tcpstates.fin_wait2"), Some(fin_wait2), "{line:?}");
    // Nobody else is in the namespace.
    assert!(line.text("container.id").is_some(), "{line:?}");
    (time_wait, fin_wait2)
}

fn key(line: &Event) -> (u8, u16, u16) {
    let port = |path| u16::try_from(line.number(path).unwrap_or(0)).expect("a port");
    let version = if line.text("network.type") == Some("ipv6") { 6 } else { 4 };
    (version, port("network.local.port"), port("network.peer.port"))
}

/// The kernel counts a FIN as a byte.
#[track_caller]
fn assert_same(line: &Event, row: Row) {
    if row.state == State::LISTEN.0 {
        assert_eq!(line.kind(), "listener");
        assert_eq!(line.number("tcpstates.accept_queue.length"), Some(row.unread), "{line:?}");
        assert_eq!(line.number("tcpstates.accept_queue.limit"), Some(128), "{line:?}");
        return;
    }
    assert_eq!(line.text("tcpstates.state"), State(row.state).name(), "{line:?}");
    let fin = u64::from(row.state == State::CLOSE_WAIT.0).min(row.unread);
    assert_eq!(line.number("tcpstates.unread_bytes"), Some(row.unread - fin), "{line:?}");
    assert_eq!(line.number("tcpstates.unsent_bytes"), Some(row.unacknowledged), "{line:?}");
}

/// 1,234 bytes and a FIN that the program has not read: what a leak looks like.
#[test]
fn bytes_that_nobody_reads_and_idle_time_are_told_of_a_leaked_connection() {
    require(&[]);
    let netns = Netns::new();
    let mut puppet = Puppet::start(&Place::default().netns(&netns));
    let to = puppet.listen("listener", (Ipv4Addr::LOCALHOST, 0).into());
    for name in ["one", "other"] {
        puppet.connect(name, to).expect("it listens");
        puppet.accept(&format!("leaked {name}"), "listener");
    }
    let before = Instant::now();
    puppet.send("one", 1_234);
    let after = Instant::now();
    puppet.close("one");
    puppet.close("other");
    thread::sleep(Duration::from_millis(600));
    let least = us(after);
    let lines = listed(&["--state", "CLOSE_WAIT"], [&netns]);
    let most = us(before);
    let leaked = with_state(&lines, "CLOSE_WAIT");
    assert_eq!((leaked.len(), lines.len()), (2, 3), "{lines:#?}");
    let unread: Vec<_> = leaked.iter().map(|line| line.number("tcpstates.unread_bytes")).collect();
    assert!(unread.contains(&Some(1_234)) && unread.contains(&Some(0)), "{unread:?}");
    for line in leaked {
        assert_eq!(line.text("tcpstates.role"), Some("server"), "{line:?}");
        assert_eq!(line.number("process.pid"), Some(puppet.pid().into()), "{line:?}");
        assert_eq!(line.number("tcpstates.unsent_bytes"), Some(0), "{line:?}");
        // No tracer has seen it enter the state.
        assert_eq!(line.number("tcpstates.state_age_us"), None, "{line:?}");
        let idle = line.number("tcpstates.idle_us").expect("it is known");
        if line.number("tcpstates.unread_bytes") == Some(1_234) {
            assert!(least <= idle + TICK_US && idle <= most + TICK_US, "{least} {idle} {most}");
        }
    }
}

fn us(since: Instant) -> u64 {
    since.elapsed().as_micros().try_into().expect("seconds")
}

#[test]
fn what_the_peer_does_not_acknowledge_is_unsent_and_sent_again() {
    require(&[]);
    let network = Network::new();
    let (left, right) = (Netns::new(), Netns::new());
    let [_, at] = [&left, &right].map(|netns| network.join(netns));
    let mut server = Puppet::start(&Place::default().netns(&right));
    let mut client = Puppet::start(&Place::default().netns(&left));
    let to = server.listen("listener", (at.v4, 0).into());
    client.connect("stuck", to).expect("it listens");
    network.pause();
    client.send("stuck", 5_000);
    thread::sleep(Duration::from_millis(700));
    let lines = listed(&[], [&left]);
    network.resume();
    let line = only(&lines, "socket");
    assert_eq!(line.number("tcpstates.unsent_bytes"), Some(5_000), "{line:?}");
    assert!(line.number("tcpstates.retransmits_pending").is_some_and(|count| count > 0), "{line:?}");
    assert_eq!(line.text("tcpstates.role"), Some("client"), "{line:?}");
}

/// Three wait to be accepted where two may, and one more takes itself for connected: its last ACK found no room.
#[test]
fn a_listener_tells_of_its_full_accept_queue() {
    require(&[]);
    let network = Network::new();
    let (left, right) = (Netns::new(), Netns::new());
    let [from, at] = [&left, &right].map(|netns| network.join(netns));
    let mut server = Puppet::start(&Place::default().netns(&right));
    let mut client = Puppet::start(&Place::default().netns(&left));
    let to = server.listen_for("listener", (at.v4, 0).into(), 2);
    for name in ["1", "2"] {
        client.connect(name, to).expect("it listens");
    }
    let idle = only(&listed(&["--state", "LISTEN"], [&right]), "listener").clone();
    assert_eq!(idle.number("tcpstates.accept_queue.drops"), Some(0), "{idle:?}");
    // What the server answers does not arrive until both requests are there.
    right.ip(&format!("neigh replace {} lladdr 02:00:00:00:00:99 dev eth0 nud permanent", from.v4));
    for name in ["3", "4"] {
        client.begin_connect(name, to);
    }
    let opening = only(&listed(&["--state", "LISTEN"], [&right]), "listener").clone();
    assert_eq!(opening.number("tcpstates.half_open.count"), Some(2), "{opening:?}");
    assert_eq!(opening.number("tcpstates.half_open.acknowledged"), Some(0), "{opening:?}");
    // Not its drops: the kernel counts there also a SYN that comes again, after a second, while the first is half open.
    right.ip(&format!("neigh del {} dev eth0", from.v4));
    for name in ["3", "4"] {
        client.finish_connect(name).expect("the handshake is done, for the client");
    }
    let full = only(&listed(&["--state", "LISTEN"], [&right]), "listener").clone();
    for (path, expected) in [
        ("accept_queue.length", 3),
        ("accept_queue.limit", 2),
        ("half_open.count", 1),
        ("half_open.acknowledged", 1),
    ] {
        assert_eq!(full.number(&format!("tcpstates.{path}")), Some(expected), "{path}: {full:?}");
    }
    assert!(full.number("tcpstates.accept_queue.drops").is_some_and(|drops| drops > 0), "{full:?}");
}

#[test]
fn a_limit_shows_the_longest_idle_and_counts_what_it_leaves_out() {
    require(&[]);
    let tree = CgroupTree::new();
    let container = tree.container();
    let netns = Netns::new();
    let mut puppet = Puppet::start(&Place::container(&container).netns(&netns));
    let to = puppet.listen("listener", (Ipv4Addr::LOCALHOST, 0).into());
    let mut oldest = None;
    for number in 0..6 {
        let ends = puppet.connect(&number.to_string(), to).expect("it listens");
        oldest.get_or_insert(ends.local.port());
        thread::sleep(Duration::from_millis(50));
    }
    let port = to.port().to_string();
    let lines = listed(&["--container", &container.id[..12], "--limit", "2", "-D", &port], []);
    assert_eq!(lines.iter().map(Event::kind).collect::<Vec<_>>(), ["socket", "socket", "snapshot"]);
    assert_eq!(lines[0].number("network.local.port"), oldest.map(u64::from), "{lines:#?}");
    let end = only(&lines, "snapshot");
    let counts = ["open", "shown", "left_out"].map(|name| end.number(&format!("tcpstates.sockets.{name}")));
    assert_eq!(counts, [Some(6), Some(2), Some(4)]);
}
