//! The classifier in the kernel gives the answers that a scan over the traces gives, and a swap of the rules judges
//! no transition by a mixture of old and new.
#![expect(clippy::unwrap_used, reason = "what a test made itself is as it made it")]

use std::{
    collections::{HashMap, HashSet},
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use kube_tcpstates::{
    decode::{self, NetworkType, Role, Transition},
    filter::{CgroupChoice, Cidr, PortRange, StateSet, TraceFilter, TransitionFilter, compile, linear},
    kernel::{Loaded, Options, Rings, load},
};
use kube_tcpstates_common::{
    classify::{Connection, address_words},
    counter::Counter,
    record::{Figures, TransitionRecord, UNKNOWN_NS, flag, role},
    rule::{CgroupSets, MAX_TRACES, TraceSet},
    state::State,
};
use kube_tcpstates_kernel_tests::{netns::Netns, requirements, workload::enter::enter};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, listen, socket, socket_with},
};

/// The trace that wants everything, so that every transition comes out with its verdict.
const EVERYTHING: usize = MAX_TRACES - 1;

fn loaded() -> (Loaded, Rings) {
    requirements::require(&[]);
    let options = Options { hook: None, ring_bytes: 8 << 20, want_on_cpu: false, tasks: None };
    let mut kernel = load(options, None).expect("loading the programs");
    let rings = kernel.rings.take().expect("fresh rings");
    (kernel, rings)
}

/// Connects to `to`, says a word, and closes from one side or the other.
fn converse(to: SocketAddr, client_first: bool) {
    let listener = TcpListener::bind(to).expect("listening on loopback");
    let address = listener.local_addr().expect("its address");
    let mut client = TcpStream::connect(address).expect("connecting on loopback");
    let (mut server, _) = listener.accept().expect("accepting");
    client.write_all(b"x").expect("writing");
    server.read_exact(&mut [0]).expect("reading");
    thread::sleep(Duration::from_millis(1));
    if client_first {
        drop(client);
        server.read_to_end(&mut Vec::new()).expect("reading to the end");
    } else {
        drop(server);
        client.read_to_end(&mut Vec::new()).expect("reading to the end");
    }
}

/// IPv4, IPv6 and IPv4 on an IPv6 socket, on ports that the rules below name.
fn traffic(ports: &[u16]) {
    for (index, &port) in ports.iter().enumerate() {
        let host = u8::try_from(index % 200).expect("few ports") + 1;
        converse((Ipv4Addr::new(127, host, 0, host), port).into(), index % 2 == 0);
        converse((Ipv6Addr::LOCALHOST, port).into(), index % 2 == 1);
        converse((Ipv4Addr::new(127, 0, 0, host).to_ipv6_mapped(), port).into(), index % 2 == 0);
    }
    for index in 0..8 {
        // Nobody listens there.
        let _ = TcpStream::connect((Ipv4Addr::new(127, 9, 9, index + 1), 9));
    }
}

/// Small and reproducible; what matters is that the rules vary.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

fn random_trace(random: &mut Random, ports: &[u16], netns: u32) -> TraceFilter {
    let pick_ports = |random: &mut Random| {
        let first = ports[usize::try_from(random.below(ports.len() as u64)).unwrap()];
        let last = first.saturating_add(u16::try_from(random.below(3)).unwrap());
        vec![PortRange::new(first, last).unwrap()]
    };
    let mut trace = TraceFilter::default();
    if random.one_in(4) {
        trace.cgroups = CgroupChoice::Selected;
    }
    if random.one_in(4) {
        trace.family = Some(if random.one_in(2) { NetworkType::Ipv4 } else { NetworkType::Ipv6 });
    }
    if random.one_in(4) {
        trace.role = Some(if random.one_in(2) { Role::Client } else { Role::Server });
    }
    if random.one_in(3) {
        trace.local_ports = pick_ports(random);
        if random.one_in(2) {
            // Some of the ports that clients get.
            let last = 32_768 + u16::try_from(random.below(32_768)).unwrap();
            trace.local_ports.push(PortRange::new(21_000, last).unwrap());
        }
    }
    if random.one_in(3) {
        trace.peer_ports = pick_ports(random);
    }
    if random.one_in(3) {
        let length = u8::try_from(random.below(25)).unwrap() + 8;
        let host = u8::try_from(random.below(32)).unwrap();
        let bits = u32::from(Ipv4Addr::new(127, host, 0, host)) & (u32::MAX << (32 - length));
        trace.peer_cidrs = vec![Cidr::new(Ipv4Addr::from(bits).into(), length).unwrap()];
    }
    if random.one_in(3) {
        let state = State(u8::try_from(random.below(11)).unwrap() + 1);
        // TIME_WAIT is refused.
        if let Ok(from) = StateSet::of([state]) {
            trace.transitions = vec![TransitionFilter::new(from, StateSet::ANY).unwrap()];
        }
    }
    if random.one_in(6) {
        trace.netns = Some([if random.one_in(2) { netns } else { 1 }].into());
    }
    if random.one_in(4) {
        trace.min_duration = Some(Duration::from_micros(random.below(3_000)));
    }
    trace
}

/// A transition as the reference judges it: with everything known.
fn event(transition: &Transition) -> linear::Event {
    let bytes = |address: IpAddr| {
        let mut bytes = [0; 16];
        match address {
            IpAddr::V4(four) => bytes[..4].copy_from_slice(&four.octets()),
            IpAddr::V6(six) => bytes = six.octets(),
        }
        address_words(bytes)
    };
    let listener = transition.new_state == State::LISTEN
        || (transition.old_state == State::LISTEN && transition.new_state != State::SYN_RECV);
    linear::Event {
        connection: Connection {
            cgroup_id: transition.cgroup_id.unwrap_or(0),
            netns: transition.netns.unwrap_or(0),
            family: if transition.family == NetworkType::Ipv4 { 4 } else { 6 },
            role: match transition.role {
                Some(Role::Client) => role::CLIENT,
                Some(Role::Server) => role::SERVER,
                None => role::UNKNOWN,
            },
            local_port: transition.local.port,
            peer_port: transition.peer.map_or(0, |peer| peer.port),
            peer: transition.peer.map_or([0; 4], |peer| bytes(peer.address)),
            listener: u64::from(listener).wrapping_neg(),
        },
        old_state: transition.old_state.0,
        new_state: transition.new_state.0,
        duration_ns: transition.duration_ns.unwrap_or(UNKNOWN_NS),
    }
}

/// Other programs of this machine use TCP as well.
fn is_ours(transition: &Transition) -> bool {
    transition.process.is_some_and(|process| process.pid == std::process::id())
}

#[test]
fn the_kernel_judges_real_transitions_as_a_scan_over_the_traces_does() {
    let (mut kernel, mut rings) = loaded();
    let netns = std::fs::metadata("/proc/self/ns/net")
        .map(|file| std::os::unix::fs::MetadataExt::ino(&file))
        .unwrap();
    let netns = u32::try_from(netns).unwrap();
    let ports: Vec<u16> = (20_000..20_012).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    kernel.rules.swap(&compile([]).unwrap()).unwrap();
    kernel.attach().expect("attaching");
    let mut seen = Seen::default();
    let (mut compared, mut wanted_by_several) = (0, 0);
    for round in 0..12 {
        let count = [1, 2, 5, 20, 63][round % 5];
        let mut traces: Vec<(usize, TraceFilter)> =
            (0..count).map(|slot| (slot, random_trace(&mut random, &ports, netns))).collect();
        let ask_for_ports = round % 3 == 2;
        traces.push((EVERYTHING, if ask_for_ports { of_local_ports() } else { TraceFilter::default() }));
        if round % 2 == 1 && ask_for_ports {
            // Nobody is certain of a connect then: it waits in the kernel.
            for (_, trace) in traces.iter_mut().filter(|(_, trace)| trace.local_ports.is_empty()) {
                trace.local_ports = of_local_ports().local_ports;
            }
        }
        // Sockets of this process are all of one cgroup; let half of the traces select it.
        let own: TraceSet = random.0;
        let id = own_cgroup();
        let mut cgroups = HashMap::new();
        cgroups.insert(id, (own, 0));
        kernel.rules.set_cgroup(id, CgroupSets { matched: [own; 2], ..CgroupSets::default() }).unwrap();
        let generation =
            kernel.rules.swap(&compile(traces.iter().map(|(slot, trace)| (*slot, trace))).unwrap()).unwrap();
        traffic(&ports);
        while rings.events.drain(|record, _| seen.take(record)) > 0 {}
        let mut transitions = seen.take_all();
        transitions.retain(|transition| is_ours(transition) && transition.generation == generation);
        assert!(transitions.len() > 200, "round {round}: only {} transitions", transitions.len());
        for transition in &transitions {
            let expected = linear::judge(
                traces.iter().map(|(slot, trace)| (*slot, trace)),
                &cgroups,
                &event(transition),
            );
            // With everything known, what is still undecided (the port of a listener's child, say) never matches.
            let expected = expected.wanted & !expected.undecided;
            assert_eq!(
                transition.traces,
                expected,
                "round {round}: {transition:?}\njudged by {:#?}",
                traces
                    .iter()
                    .filter(|(slot, _)| (transition.traces ^ expected) >> slot & 1 == 1)
                    .collect::<Vec<_>>()
            );
            compared += 1;
            wanted_by_several += usize::from(expected.count_ones() > 1);
        }
    }
    let Seen { held, settled, .. } = seen;
    println!(
        "{compared} transitions compared, {wanted_by_several} wanted by several, {held} held, {settled} settled"
    );
    assert!(wanted_by_several > compared / 10, "the rules hardly match anything: the test sees too little");
    assert!(held > 0 && settled > 0, "the test has not seen all ways to the verdict");
}

/// Transitions as they come out of the ring, each with the last word about it.
#[derive(Default)]
struct Seen {
    transitions: Vec<Transition>,
    held: usize,
    settled: usize,
}

impl Seen {
    fn take(&mut self, record: &TransitionRecord) {
        self.held += usize::from(record.flags & flag::PENDING != 0);
        if let Some(settled) = decode::decided(record) {
            let is_meant = |earlier: &&mut Transition| {
                (earlier.socket, earlier.boot_ns) == (settled.socket, settled.boot_ns)
            };
            if let Some(earlier) = self.transitions.iter_mut().rev().find(is_meant) {
                assert_eq!(earlier.traces & settled.traces, 0, "it says again what was said: {settled:?}");
                *earlier = Transition {
                    traces: earlier.traces | settled.traces,
                    generation: earlier.generation,
                    ..settled
                };
                self.settled += 1;
            }
        }
        self.transitions.extend(decode::transitions(record));
    }

    /// All of them, those that came without a port with the one that their connection got.
    fn take_all(&mut self) -> Vec<Transition> {
        let mut all = std::mem::take(&mut self.transitions);
        let of = |transition: &Transition| (transition.socket, transition.birth_ns);
        let known = all.iter().filter(|transition| transition.local.port != 0);
        let local: HashMap<_, _> = known.map(|transition| (of(transition), transition.local)).collect();
        for transition in all.iter_mut().filter(|transition| transition.local.port == 0) {
            transition.local = local.get(&of(transition)).copied().unwrap_or(transition.local);
        }
        all
    }
}

/// A trace of the local ports that clients get.
fn of_local_ports() -> TraceFilter {
    TraceFilter { local_ports: vec![PortRange::new(1_024, 65_535).unwrap()], ..TraceFilter::default() }
}

/// A client that gets no answer: the accept queue of the listener is full.
fn unanswered() -> (OwnedFd, OwnedFd, TcpStream) {
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&listener, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    listen(&listener, 0).unwrap();
    let address = SocketAddr::try_from(getsockname(&listener).unwrap()).unwrap();
    let first = TcpStream::connect(address).unwrap();
    let client = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
    assert_eq!(connect(&client, &address), Err(Errno::INPROGRESS));
    (client, listener, first)
}

/// What came of this process's connects, as (traces, unsettled, settled).
fn connects(rings: &mut Rings) -> Vec<(TraceSet, bool, Option<TraceSet>)> {
    let mut found = Vec::new();
    let mut take = |record: &TransitionRecord, _: Option<&Figures>| {
        let settled = decode::decided(record);
        let of_connect =
            |transition: &Transition| transition.new_state == State::SYN_SENT && is_ours(transition);
        for transition in decode::transitions(record).into_iter().filter(of_connect) {
            found.push((transition.traces, decode::is_undecided(record), None));
        }
        if let Some(settled) = settled.filter(of_connect) {
            found.push((0, false, Some(settled.traces)));
        }
    };
    while rings.events.drain(&mut take) > 0 {}
    found
}

#[test]
fn a_port_that_is_not_known_yet_holds_back_only_those_who_ask_for_it() {
    let (mut kernel, mut rings) = loaded();
    let (port, all) = (of_local_ports(), TraceFilter::default());
    for (traces, at_once, at_the_end) in [
        (vec![(0, &port)], vec![], vec![(0b01, false, None)]),
        (vec![(0, &port), (1, &all)], vec![(0b10, true, None)], vec![(0, false, Some(0b01))]),
        (vec![(1, &all)], vec![(0b10, false, None)], vec![]),
    ] {
        let (client, _listener, _first) = unanswered();
        drop(client);
        kernel.rules.swap(&compile(traces.clone()).unwrap()).unwrap();
        kernel.attach().expect("attaching");
        let (client, _listener, _first) = unanswered();
        // The first client's connect was answered at once.
        let found = connects(&mut rings);
        assert_eq!(found[found.len() - at_once.len()..], at_once, "of {traces:?}: {found:?}");
        assert_eq!(kernel.counters.snapshot().get(Counter::Pending), u64::from(at_once.is_empty()));
        drop(client);
        assert_eq!(connects(&mut rings), at_the_end, "of {traces:?}");
        kernel.detach();
        let counters = kernel.counters.snapshot();
        assert_eq!(counters.get(Counter::Pending), 0);
        let accounted = [Counter::OtherProtocol, Counter::Filtered, Counter::RingFull, Counter::Emitted];
        let sum: u64 = accounted.into_iter().map(|counter| counters.get(counter)).sum();
        assert_eq!(counters.get(Counter::Seen), sum);
    }
}

/// The inode number of this process's network namespace.
fn own_netns() -> u32 {
    let file = std::fs::metadata("/proc/self/ns/net").unwrap();
    u32::try_from(std::os::unix::fs::MetadataExt::ino(&file)).unwrap()
}

/// The cgroup2 id of this process.
fn own_cgroup() -> u64 {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).expect("a cgroup2 line");
    let mount = kube_tcpstates::cgroupfs::Mount::find(None).unwrap().cgroup2.expect("a cgroup2 mount");
    let directory = mount.join(path.trim_start_matches('/'));
    std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(directory).unwrap())
}

/// A set of traces that constrains every dimension and takes all of the traffic, on the bits of `mask`.
fn everything_constrained(mask: TraceSet, netns: u32) -> Vec<(usize, TraceFilter)> {
    let never = [State::TIME_WAIT, State::NEW_SYN_RECV, State::LISTEN];
    let entered = StateSet::of(State::all().filter(|state| !never.contains(state))).unwrap();
    let trace = TraceFilter {
        cgroups: CgroupChoice::Selected,
        family: Some(NetworkType::Ipv4),
        local_ports: vec![PortRange::new(1, 65_535).unwrap()],
        peer_ports: vec![PortRange::new(1, 65_535).unwrap()],
        peer_cidrs: vec!["127.0.0.0/8".parse().unwrap()],
        netns: Some([netns].into()),
        transitions: vec![TransitionFilter::new(StateSet::ANY, entered).unwrap()],
        ..TraceFilter::default()
    };
    (0..MAX_TRACES).filter(|slot| mask >> slot & 1 == 1).map(|slot| (slot, trace.clone())).collect()
}

/// Four sets in turn, so that a slot is never filled with what it held before.
const fn pattern(generation: u32) -> TraceSet {
    0x1111_1111_1111_1111 << (generation & 3)
}

#[test]
fn swapping_rules_under_load_judges_no_transition_by_a_mixture() {
    let (mut kernel, mut rings) = loaded();
    let namespace = Netns::new();
    let netns = u32::try_from(namespace.inode()).unwrap();
    let sets = [0, 1, 2, 3].map(|generation| {
        let traces = everything_constrained(pattern(generation), netns);
        compile(traces.iter().map(|(slot, trace)| (*slot, trace))).unwrap()
    });
    let own = CgroupSets { matched: [TraceSet::MAX; 2], ..CgroupSets::default() };
    kernel.rules.set_cgroup(own_cgroup(), own).unwrap();
    // The first swap makes generation 1.
    assert_eq!(kernel.rules.swap(&sets[1]).unwrap(), 1);
    kernel.attach().expect("attaching");
    let stop = AtomicBool::new(false);
    let connections = AtomicU64::new(0);
    let mut judged = Judged::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            enter(None, Some(namespace.name())).expect("enter the namespace");
            connect_until(&stop, &connections);
        });
        for expected in 2..=150_u32 {
            let generation = kernel.rules.swap(&sets[expected as usize % 4]).unwrap();
            assert_eq!(generation, expected);
            while rings.events.drain(|record, _| judged.take(record)) > 0 {}
        }
        stop.store(true, Ordering::Relaxed);
    });
    thread::sleep(Duration::from_millis(50));
    kernel.detach();
    while rings.events.drain(|record, _| judged.take(record)) > 0 {}
    let counters = kernel.counters.snapshot();
    let [filtered, gaps, inferred] =
        [Counter::Filtered, Counter::Gap, Counter::Inferred].map(|counter| counters.get(counter));
    let made = connections.load(Ordering::Relaxed);
    // Which the kernel ran no program for: each shows in what came behind it.
    let missed = judged.without_birth.len() as u64 + gaps - inferred;
    let Judged { seen, .. } = judged;
    println!("149 swaps, {made} connections, {seen} transitions, {filtered} filtered, {missed} missed");
    assert!(made > 500, "only {made} connections under 149 swaps");
    let of_listeners = made / PER_LISTENER * 2;
    assert!(filtered <= of_listeners, "a mixture of two sets accepts nothing: {filtered} filtered");
    assert_eq!(seen + missed, made * 10, "{missed} missed");
    assert_eq!(counters.get(Counter::Pending), 0, "a transition still waits");
}

#[test]
fn what_a_socket_did_while_its_cgroup_was_nobodys_is_no_gap() {
    let (mut kernel, _rings) = loaded();
    let traces = everything_constrained(pattern(1), own_netns());
    let rules = compile(traces.iter().map(|(slot, trace)| (*slot, trace))).unwrap();
    let wanted = CgroupSets { matched: [TraceSet::MAX; 2], ..CgroupSets::default() };
    kernel.rules.set_cgroup(own_cgroup(), wanted).unwrap();
    kernel.rules.swap(&rules).unwrap();
    kernel.attach().expect("attaching");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let emitted = || kernel.counters.snapshot().get(Counter::Emitted);
    assert!(emitted() >= 4, "both ends are followed");
    kernel.rules.set_cgroup(own_cgroup(), CgroupSets::default()).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    server.read_to_end(&mut Vec::new()).unwrap();
    kernel.rules.set_cgroup(own_cgroup(), wanted).unwrap();
    drop((server, client));
    thread::sleep(Duration::from_millis(50));
    kernel.detach();
    assert_eq!(kernel.counters.snapshot().get(Counter::Gap), 0);
}

/// Connections to one listener.
const PER_LISTENER: u64 = 50;

/// Connections of ten transitions each: the server closes first.
fn connect_until(stop: &AtomicBool, connections: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for _ in 0..PER_LISTENER {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            drop(listener.accept().unwrap());
            client.read_to_end(&mut Vec::new()).unwrap();
            connections.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What came out of the kernel under rules that change.
#[derive(Default)]
struct Judged {
    seen: u64,
    /// Connections whose first transition no program got, by socket and the time they were first seen.
    without_birth: HashSet<(u64, u64)>,
}

impl Judged {
    /// Each verdict is the whole set of its generation.
    fn take(&mut self, record: &TransitionRecord) {
        let expected = pattern(record.generation);
        for transition in decode::transitions(record) {
            assert_eq!(transition.traces, expected, "generation {}: {transition:?}", record.generation);
            self.seen += 1;
            if !transition.birth_known {
                self.without_birth.insert((transition.socket, transition.birth_ns));
            }
        }
    }
}
