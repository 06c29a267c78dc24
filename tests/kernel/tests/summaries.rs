//! Summaries: what the connections of two clients to two ports add up to, to the byte, made by real sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use kube_tcpstates_kernel_tests::line::Event;
use kube_tcpstates_kernel_tests::netns::{Addresses, Netns, Network};
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::tracer::{Finished, Setup, Tracer};

/// Connections of each client to each port.
const EACH: usize = 50;

/// Two clients and a server, each in a namespace of its own.
struct Stage {
    clients: [(Puppet, Addresses); 2],
    server: Puppet,
    at: Addresses,
    namespaces: Vec<Netns>,
    _network: Network,
}

impl Stage {
    fn new() -> Self {
        let network = Network::new();
        let namespaces: Vec<_> = (0..3).map(|_| Netns::new()).collect();
        let addresses: Vec<_> = namespaces.iter().map(|namespace| network.join(namespace)).collect();
        let start = |at: usize| Puppet::start(&Place::default().netns(&namespaces[at]));
        let (clients, server) = ([(start(0), addresses[0]), (start(1), addresses[1])], start(2));
        Self { clients, server, at: addresses[2], namespaces, _network: network }
    }

    fn trace(&self, options: &[&str]) -> Tracer {
        let mut all: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        for namespace in &self.namespaces {
            all.extend(["--netns".to_owned(), namespace.inode().to_string()]);
        }
        Setup::trace(all).start_ready()
    }

    /// One connection of a client, which sends so much and gets so much back.
    fn exchange(&mut self, client: usize, listener: &str, to: SocketAddr, (up, down): (usize, usize)) {
        let near = &mut self.clients[client].0;
        near.connect("c", to).expect("it listens");
        self.server.accept("s", listener);
        near.send("c", up);
        self.server.receive("s", up);
        self.server.send("s", down);
        near.receive("c", down);
        near.close("c");
        self.server.receive_to_end("s").expect("a FIN");
        self.server.close("s");
    }
}

/// What a summary says: connections, those that were closed, bytes sent and received, handshakes.
type Sums = [u64; 5];

/// By side, other end, and the server's port.
fn summaries(finished: &Finished) -> BTreeMap<(String, String, u64), Sums> {
    let lines = finished.events().into_iter().filter(|line| line.kind() == "summary");
    let mut all = BTreeMap::new();
    for line in lines {
        let (near, far) = (line.number("network.local.port"), line.number("network.peer.port"));
        assert!(near.is_none() || far.is_none(), "one of the ports is another each time: {line:?}");
        let key = (
            line.must("tcpstates.role").to_owned(),
            line.must("network.peer.address").to_owned(),
            near.or(far).expect("a port"),
        );
        let sums = all.entry(key).or_insert([0; 5]);
        let fields = ["connections", "by_outcome.closed", "sent.bytes", "received.bytes", "handshake.count"];
        for (sum, field) in sums.iter_mut().zip(fields) {
            *sum += line.number(&format!("tcpstates.summary.{field}")).unwrap_or(0);
        }
        within(&line);
    }
    all
}

/// Means are no longer than the longest, and the interval is the one that was asked for.
fn within(line: &Event) {
    let number = |field: &str| line.number(&format!("tcpstates.summary.{field}"));
    assert_eq!(number("interval_s"), Some(10));
    for times in ["handshake", "duration"] {
        let [mean, max] = ["mean_us", "max_us"].map(|which| number(&format!("{times}.{which}")));
        assert!(mean <= max && mean.is_some() == max.is_some(), "{line:?}");
    }
    let quantiles = ["p50_us", "p99_us", "max_us"].map(|which| number(&format!("handshake.{which}")));
    assert!(
        quantiles.is_sorted() && quantiles.iter().all(|us| us.is_some() == quantiles[0].is_some()),
        "{line:?}"
    );
    assert!(line.must("tcpstates.summary.from") < line.must("time"), "{line:?}");
}

#[test]
fn two_hundred_connections_are_eight_lines_and_every_byte_is_in_them() {
    require(&[]);
    let mut stage = Stage::new();
    let of_summaries = stage.trace(&["-o", "json", "--mode", "summary", "--interval", "10s"]);
    let table = stage.trace(&["-o", "table", "--mode", "summary", "--interval", "10s"]);
    let failed =
        stage.trace(&["-o", "json", "--mode", "summary", "--interval", "10s", "--outcome", "failed"]);
    let mut expected = BTreeMap::new();
    for listener in ["one", "other"] {
        let to = stage.server.listen(listener, (stage.at.of(false), 0).into());
        for client in 0..2 {
            let own = stage.clients[client].1.of(false).to_string();
            let (mut up, mut down) = (0, 0);
            for n in 0..EACH {
                let bytes = (100 + n, 1_000 * (client + 1) + n);
                stage.exchange(client, listener, to, bytes);
                (up, down) = (up + bytes.0 as u64, down + bytes.1 as u64);
            }
            let (port, count) = (u64::from(to.port()), EACH as u64);
            let far = to.ip().to_string();
            expected.insert((format!("client {own}"), far.clone(), port), [count, count, up, down, count]);
            expected.insert((format!("server {far}"), own, port), [count, count, down, up, count]);
        }
    }
    // Nobody listens there.
    let nobody = SocketAddr::new(stage.at.of(false), 9);
    stage.clients[0].0.connect("c", nobody).expect_err("nobody listens");
    for listener in ["one", "other"] {
        stage.server.close(listener);
    }
    sleep(Duration::from_millis(500));
    let finished = of_summaries.stop();
    let counts = finished.assert_clean();
    // The two clients have no owner that tells them apart but their cgroup: they add up to one.
    let mut sums: BTreeMap<(String, String, u64), Sums> = BTreeMap::new();
    for ((side, far, port), figures) in expected {
        let side = side.split(' ').next().expect("a side").to_owned();
        let sum = sums.entry((side, far, port)).or_insert([0; 5]);
        sum.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure);
    }
    sums.insert(("client".to_owned(), nobody.ip().to_string(), 9), [1, 0, 0, 0, 0]);
    assert_eq!(summaries(&finished), sums);
    assert_eq!(counts.get("summarised"), 4 * 2 * EACH as u64 + 1);
    assert_eq!((counts.get("written"), counts.get("told_twice")), (0, 0));
    let failed = failed.stop();
    failed.assert_clean();
    assert_eq!(summaries(&failed).len(), 1, "only the one that failed");
    let table = table.stop();
    let text: Vec<_> = table.lines.iter().map(|line| line.text().to_owned()).collect();
    assert!(text[0].starts_with("TIME     OWNER "), "{text:?}");
    assert_eq!(text.len(), 1 + sums.len(), "{text:?}");
}

#[test]
fn a_summary_is_told_when_its_interval_is_over_though_nothing_more_happens() {
    require(&[]);
    let mut stage = Stage::new();
    let tracer = stage.trace(&["-o", "json", "--mode", "summary", "--interval", "10s"]);
    let to = stage.server.listen("l", (stage.at.of(false), 0).into());
    stage.exchange(0, "l", to, (10, 20));
    sleep(Duration::from_secs(5));
    assert_eq!(summaries_of(&tracer), 0, "before its time");
    sleep(Duration::from_secs(6));
    assert_eq!(summaries_of(&tracer), 2, "of both sides");
    stage.exchange(1, "l", to, (1, 2));
    stage.server.close("l");
    sleep(Duration::from_millis(300));
    let finished = tracer.stop();
    finished.assert_clean();
    let told: Vec<_> = finished.events().into_iter().filter(|line| line.kind() == "summary").collect();
    assert_eq!(told.len(), 4, "what there is at the end is told");
    // The clock of the lines is read anew now and then.
    let seconds = |line: &Event, field| line.must(field)[17..29].parse::<f64>().expect("seconds");
    let between = seconds(&told[2], "tcpstates.summary.from") - seconds(&told[0], "time");
    assert!(between.abs() < 0.001, "{told:?}");
}

fn summaries_of(tracer: &Tracer) -> usize {
    tracer.lines_so_far().iter().filter(|line| line.json().kind() == "summary").count()
}
