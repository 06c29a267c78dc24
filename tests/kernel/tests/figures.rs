//! The figures of 10,000 connections with losses: of each what `ss` says of the same socket, and in sum what the kernel
//! counts in the network namespace.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kube_tcpstates_kernel_tests::endings::connections;
use kube_tcpstates_kernel_tests::line::Event;
use kube_tcpstates_kernel_tests::listed::listed;
use kube_tcpstates_kernel_tests::netns::{Addresses, Netns, Network};
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::procfs::netstat;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::{Need, require};
use kube_tcpstates_kernel_tests::ss::{self, Said};
use kube_tcpstates_kernel_tests::tracer::Setup;
use kube_tcpstates_kernel_tests::tuple::End;

const CONNECTIONS: usize = 10_000;
/// Those of them whose handshakes lose segments.
const OPENED_WITH_LOSSES: usize = 400;
/// The listener's; Linux allows 4,096 by itself.
const BACKLOG: i32 = 4_096;
const PATIENCE: Duration = Duration::from_mins(1);
/// Of the round-trip time `ss` says the same within a tenth, or within so many microseconds.
const RTT_TOLERANCE: (f64, f64) = (0.1, 100.0);

type Sockets = HashMap<(End, End), Said>;

/// Clients and their server, each side a process in a namespace of its own, and what is open between them.
struct Stage {
    client: Puppet,
    server: Puppet,
    at: Addresses,
    pairs: Vec<Pair>,
    namespaces: [Netns; 2],
    network: Network,
}

/// A connection: its client's end, and what was sent to the server and to the client.
struct Pair {
    near: String,
    far: String,
    client: SocketAddr,
    up: usize,
    down: usize,
}

impl Stage {
    fn new() -> Self {
        let (network, near, far) = (Network::new(), Netns::new(), Netns::new());
        let [_, at] = [&near, &far].map(|namespace| network.join(namespace));
        let start = |namespace| Puppet::start(&Place::default().netns(namespace));
        let (client, server) = (start(&near), start(&far));
        Self { client, server, at, pairs: Vec::new(), namespaces: [near, far], network }
    }

    /// From now on every so many segments that come one is dropped, on both sides.
    fn lose_one_of(&self, segments: u32) {
        for namespace in &self.namespaces {
            namespace.nft(&format!(
                "table inet lossy {{ chain input {{ type filter hook input priority 0;
                    meta l4proto tcp numgen inc mod {segments} 0 drop
                }}
                }}"
            ));
        }
    }

    fn lose_none(&self) {
        self.namespaces.iter().for_each(|namespace| namespace.nft("flush ruleset"));
    }

    fn open(&mut self) {
        let to = self.server.listen_for("listener", (self.at.of(false), 0).into(), BACKLOG);
        // What the segments are addressed to is found before any is lost.
        for number in 0..CONNECTIONS - OPENED_WITH_LOSSES {
            let near = format!("near {number}");
            let client = self.client.connect(&near, to).expect("it listens").local;
            self.accept(HashMap::from([(client, near)]));
        }
        self.lose_one_of(5);
        let begun = (0..OPENED_WITH_LOSSES).map(|number| {
            let near = format!("lossy {number}");
            (self.client.begin_connect(&near, to), near)
        });
        let begun: HashMap<_, _> = begun.collect();
        self.lose_none();
        for near in begun.values() {
            self.client.finish_connect(near).expect("the SYN is sent again");
        }
        self.accept(begun);
    }

    /// Accepts the connections of these clients, in whatever order they come.
    fn accept(&mut self, mut clients: HashMap<SocketAddr, String>) {
        while !clients.is_empty() {
            let far = format!("far {}", self.pairs.len());
            let client = self.server.accept(&far, "listener").peer.expect("a client");
            let near = clients.remove(&client).expect("one of these");
            self.pairs.push(Pair { near, far, client, up: 0, down: 0 });
        }
    }

    /// Sends on every so-many-th connection, and does not wait for it to arrive.
    fn send(&mut self, every: usize, up: impl Fn(usize) -> usize, down: impl Fn(usize) -> usize) {
        for (number, pair) in self.pairs.iter_mut().enumerate().step_by(every) {
            let (up, down) = (up(number), down(number));
            self.client.send(&pair.near, up);
            self.server.send(&pair.far, down);
            (pair.up, pair.down) = (pair.up + up, pair.down + down);
        }
    }

    /// Reads all that was sent but for what was read before.
    fn receive(&mut self, read: impl Fn(&Pair) -> (usize, usize)) {
        for pair in &self.pairs {
            let (up, down) = read(pair);
            self.server.receive(&pair.far, pair.up - up);
            self.client.receive(&pair.near, pair.down - down);
        }
    }

    /// What `ss` says of the sockets of both sides once it says the same twice, and everything has been acknowledged.
    fn at_rest(&self) -> [Sockets; 2] {
        let begun = Instant::now();
        let mut before = self.said();
        loop {
            sleep(Duration::from_millis(300));
            let now = self.said();
            let open = now.iter().flatten().filter(|(_, said)| said.state != "LISTEN");
            let is_done = open.clone().all(|(_, said)| said.unacknowledged == 0);
            let figures = |sockets: &[Sockets; 2]| {
                let all = sockets.iter().flatten();
                all.map(|(ends, said)| (*ends, figures_of(said))).collect::<HashMap<_, _>>()
            };
            if is_done && figures(&before) == figures(&now) {
                return now;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not come to rest");
            before = now;
        }
    }

    fn said(&self) -> [Sockets; 2] {
        self.namespaces.each_ref().map(ss::sockets)
    }

    fn options(&self) -> Vec<String> {
        let options = self.namespaces.iter().map(|netns| ["--netns".to_owned(), netns.inode().to_string()]);
        options.flatten().collect()
    }
}

/// What a line says of bytes, segments, retransmissions and order, by the names of `ss`.
fn figures_of(said: &Said) -> [u64; 6] {
    let [acked, received, out, came, order] =
        ["bytes_acked", "bytes_received", "data_segs_out", "data_segs_in", "rcv_ooopack"]
            .map(|name| said.number(name));
    [acked, received, out, came, said.retransmits(), order]
}

fn number(line: &Event, name: &str) -> u64 {
    line.number(&format!("tcpstates.{name}")).unwrap_or_else(|| panic!("no {name}: {line:?}"))
}

#[test]
fn figures_of_ten_thousand_connections_are_those_of_ss_and_of_the_kernels_counters() {
    require(&[Need::Program("nft"), Need::Program("ss")]);
    let mut stage = Stage::new();
    let tracer = Setup::json([vec!["--mode".to_owned(), "connections".to_owned()], stage.options()].concat())
        .start_ready();
    stage.open();
    stage.lose_one_of(13);
    stage.send(1, |number| 1 + number % 97 * 100, |number| 1 + number % 89 * 90);
    // Many segments at once, some of which get lost.
    stage.send(50, |_| 40_000, |_| 30_000);
    stage.lose_none();
    stage.receive(|_| (0, 0));
    stage.at_rest();

    let read: HashMap<SocketAddr, _> =
        stage.pairs.iter().map(|pair| (pair.client, (pair.up, pair.down))).collect();
    stage.send(3, |number| number % 700, |_| 0);
    stage.at_rest();
    stage.network.pause();
    stage.send(7, |_| 0, |number| 500 + number % 2_000);
    sleep(Duration::from_millis(500));
    assert_listed_as_said(&stage);
    stage.network.resume();
    stage.receive(|pair| read[&pair.client]);

    let said = stage.at_rest();
    let counted = [&stage.client, &stage.server].map(|side| Counted::of(side.pid()));
    for (place, pair) in stage.pairs.iter().enumerate() {
        if is_reset(place) {
            stage.client.reset(&pair.near);
            stage.server.receive_to_end(&pair.far).expect_err("a RST");
        } else {
            stage.client.close(&pair.near);
            stage.server.receive_to_end(&pair.far).expect("a FIN");
        }
        stage.server.close(&pair.far);
    }
    tracer.settle(Duration::from_millis(500));
    let finished = tracer.stop();
    finished.assert_clean();
    let mut told: HashMap<(End, End), Event> = HashMap::new();
    for line in connections(&finished) {
        assert_eq!(told.insert(line.ends(), line), None, "twice");
    }
    assert_eq!(told.len(), 2 * CONNECTIONS);
    assert_told_as_said(&stage, &told, &said);
    for ((role, counted), of_side) in ["client", "server"].into_iter().zip(counted).zip(&said) {
        let lines = told.iter().filter(|(ends, _)| of_side.contains_key(ends));
        assert_eq!(Counted::from_lines(lines.map(|(_, line)| line)), counted, "{role}");
        println!("{role}: {counted:?}");
        assert!(
            counted.retransmits > 1_000 && counted.syn_retransmits > 10,
            "too few were lost: {counted:?}"
        );
    }
}

/// What the kernel counts in a network namespace, while nobody has closed anything there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    /// Segments sent again, SYNs and answers to them included.
    retransmits: u64,
    /// Those of them that were SYNs, or answers to one.
    syn_retransmits: u64,
    /// Segments with data, each once.
    originals: u64,
}

impl Counted {
    fn of(pid: u32) -> Self {
        assert_eq!(
            netstat(pid, "TcpExt", "TCPRetransFail"),
            0,
            "the machine's own interfaces take everything"
        );
        Self {
            retransmits: netstat(pid, "Tcp", "RetransSegs"),
            syn_retransmits: netstat(pid, "TcpExt", "TCPSynRetrans"),
            originals: netstat(pid, "TcpExt", "TCPOrigDataSent"),
        }
    }

    fn from_lines<'a>(lines: impl Iterator<Item = &'a Event>) -> Self {
        let mut all = Self { retransmits: 0, syn_retransmits: 0, originals: 0 };
        for line in lines {
            let (again, syns) = (number(line, "retransmits"), number(line, "syn_retransmits"));
            all.retransmits += again + syns;
            all.syn_retransmits += syns;
            all.originals += number(line, "sent.segments") - again;
        }
        all
    }
}

/// Each line beside what `ss` said of its socket before it was closed, and what its programs had sent.
#[track_caller]
fn assert_told_as_said(stage: &Stage, told: &HashMap<(End, End), Event>, said: &[Sockets; 2]) {
    let pairs = stage.pairs.iter().enumerate();
    let pairs: HashMap<End, _> =
        pairs.map(|(place, pair)| (End::new(pair.client.ip(), pair.client.port()), (place, pair))).collect();
    let mut furthest_us = 0.0_f64;
    for (role, of_side) in ["client", "server"].into_iter().zip(said) {
        let open: Vec<_> = of_side.iter().filter(|(_, said)| said.state == "ESTAB").collect();
        assert_eq!(open.len(), CONNECTIONS, "{role}");
        for (ends, said) in open {
            let line = told.get(ends).unwrap_or_else(|| panic!("no line of {ends:?}"));
            assert_eq!(line.text("tcpstates.role"), Some(role), "{line:?}");
            let is_client = role == "client";
            let (place, pair) = pairs[if is_client { &ends.0 } else { &ends.1 }];
            let sent = if is_client { pair.up } else { pair.down };
            assert_eq!(number(line, "sent.bytes"), sent as u64, "{line:?}");
            let of_line = [
                // The kernel counts the SYN as a byte.
                number(line, "sent.bytes") + u64::from(is_client),
                number(line, "received.bytes"),
                number(line, "sent.segments"),
                number(line, "received.segments"),
                number(line, "retransmits") + number(line, "syn_retransmits"),
                number(line, "out_of_order"),
            ];
            assert_eq!(of_line, figures_of(said), "{line:?}: {said:?}");
            if is_reset(place) {
                furthest_us = furthest_us.max(assert_round_trip(line, said));
            }
        }
    }
    println!("round-trip times are {furthest_us:.1} us apart at most");
}

/// Returns how far apart the two are, us.
#[track_caller]
#[expect(clippy::cast_precision_loss, reason = "round-trip times are short")]
fn assert_round_trip(line: &Event, said: &Said) -> f64 {
    let mut furthest_us = 0.0_f64;
    for (name, of_ss) in [("srtt_us", "rtt"), ("min_rtt_us", "minrtt")] {
        let (told, said) = (number(line, name) as f64, said.micros(of_ss));
        let apart = (told - said).abs();
        let (part, us) = RTT_TOLERANCE;
        assert!(apart <= us.max(part * said), "{name} {told}, {said}: {line:?}");
        furthest_us = furthest_us.max(apart);
    }
    furthest_us
}

/// Half of them end by a reset, which adds nothing to what was said before. A FIN has an acknowledgement of its own,
/// and with it one more round trip is measured.
const fn is_reset(place: usize) -> bool {
    place.is_multiple_of(2)
}

/// `list` beside what `ss` says before it and after it, while every seventh connection has something on its way that
/// does not arrive.
#[track_caller]
fn assert_listed_as_said(stage: &Stage) {
    let before = stage.said();
    let lines = listed(&[], &stage.namespaces);
    let after = stage.said();
    let sockets = lines.iter().filter(|line| line.kind() == "socket");
    let listed: HashMap<_, _> = sockets.clone().map(|line| (line.ends(), line)).collect();
    assert_eq!(listed.len(), sockets.count(), "twice");
    let (mut unread, mut unsent, mut again) = (0, 0, 0);
    for (before, after) in before.iter().zip(&after) {
        let open = before.iter().filter(|(_, said)| said.state == "ESTAB");
        for (ends, said) in open {
            let line = listed.get(ends).unwrap_or_else(|| panic!("not listed: {ends:?}"));
            assert_eq!(number(line, "unread_bytes"), said.unread, "{line:?}");
            assert_eq!(number(line, "unsent_bytes"), said.unacknowledged, "{line:?}");
            let pending = said.retransmits_pending..=after[ends].retransmits_pending;
            assert!(pending.contains(&number(line, "retransmits_pending")), "{pending:?}: {line:?}");
            unread += u64::from(said.unread > 0);
            unsent += u64::from(said.unacknowledged > 0);
            again += u64::from(*pending.start() > 0);
        }
    }
    println!("of {}: {unread} unread, {unsent} unsent, {again} sent again", listed.len());
    assert_eq!(listed.len(), 2 * CONNECTIONS);
    assert!(unread > 3_000 && unsent > 1_400 && again > 1_400, "{unread} {unsent} {again}");
}
