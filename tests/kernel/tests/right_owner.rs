//! Every line names the container that called `socket()` (for an accepted socket, the listener's), however the
//! kernel came to the transition; and the task on the CPU is often another one.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use kube_tcpstates_kernel_tests::cgroup::{CgroupTree, Container};
use kube_tcpstates_kernel_tests::counts::Counts;
use kube_tcpstates_kernel_tests::line::{Event, Row};
use kube_tcpstates_kernel_tests::netns::{Netns, Network};
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::tracer::{Setup, Tracer};
use kube_tcpstates_kernel_tests::traffic::{Churn, Running, Server};
use kube_tcpstates_kernel_tests::tuple::{End, Tuple};
use kube_tcpstates_kernel_tests::workload::{Ending, Ends};

/// Containers with a network namespace of their own; to them come two that share one, and one in the host's.
const ALONE: usize = 6;
/// Transitions to be judged.
const WANTED: usize = 100_000;
/// Connections that each of the nine containers makes, of 10 transitions each: as many as are wanted and some more,
/// because the kernel skips a program that would interrupt itself, and counts that.
const CONNECTIONS: u64 = 1_120;
/// How they end.
const ENDING: Ending = Ending::ClientFirst;
/// Where the container in the host's namespace serves and connects to.
const LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 77, 12, 1);

#[test]
fn every_line_names_the_container_that_made_the_socket() {
    require(&[]);
    let mut node = Node::new();
    // One with records in socket storage and one with records in a hash.
    let hooks = [("tp_btf", "socket_storage"), ("raw_tp", "hash")];
    // Three tracers and this test share the machine: what they cannot read at once may wait.
    let patient = ["--queue-size", "256MiB"];
    let tracers =
        hooks.map(|(hook, _)| Setup::json(["--hook", hook].into_iter().chain(patient)).start_ready());
    // Rows of the BCC table in one more process, at the same time: they tell who was on the CPU.
    let rows = Setup::trace(["-s", "--hook", "tp_btf"].into_iter().chain(patient)).start_ready();
    let truth = node.run_clients();
    for tracer in tracers.iter().chain([&rows]) {
        tracer.settle(Duration::from_millis(500));
    }
    let (finished, rows) = (tracers.map(Tracer::stop), rows.stop());

    for ((hook, storage), finished) in hooks.into_iter().zip(finished) {
        let counts = finished.assert_clean();
        let mut events = finished.events();
        assert_eq!(
            (events[0].text("tcpstates.hook"), events[0].text("tcpstates.storage")),
            (Some(hook), Some(storage))
        );
        events.retain(|event| event.kind() == "transition");
        let verdict = truth.judge(&events);
        let [gaps, failed] = ["gaps", "storage_failed"].map(|name| counts.get(name));
        println!("owner named, {hook}: {verdict:?}, {} lost, {gaps} gaps, {failed} no room", counts.lost());
        assert_eq!((verdict.wrong, verdict.unknown), (0, 0), "{verdict:?}");
        // A connection whose SYN was skipped has no process until it is closed.
        let skipped = usize::try_from(counts.lost()).expect("it fits");
        assert!(verdict.no_process <= 2 * skipped, "{verdict:?}");
        truth.assert_nothing_lacks(&verdict, &counts);
    }

    let counts = rows.assert_clean();
    let rows: Vec<Row> = rows.lines.iter().filter_map(|line| Row::parse(line.text())).collect();
    let on_cpu = truth.judge_on_cpu(&rows);
    println!("task on the CPU: {on_cpu:?}, {} lost", counts.lost());
    truth.assert_nothing_lacks(&on_cpu, &counts);
    assert!(on_cpu.wrong * 10 > WANTED, "this test cannot see the defect it is there for: {on_cpu:?}");
}

/// A container with a server, and where its clients connect to.
struct Member {
    container: Container,
    place: Place,
    server: Server,
}

/// The containers of one machine and what joins them.
struct Node {
    members: Vec<Member>,
    _tree: CgroupTree,
    _namespaces: Vec<Netns>,
    _network: Network,
}

impl Node {
    fn new() -> Self {
        let (network, tree) = (Network::new(), CgroupTree::new());
        let mut members = Vec::new();
        let mut namespaces = Vec::new();
        for tenants in std::iter::repeat_n(1, ALONE).chain([2]) {
            let namespace = Netns::new();
            namespace.widen_ports();
            // A port that comes again could have another owner.
            namespace.set("net/ipv4/tcp_tw_reuse", "0");
            let address = IpAddr::from(network.join(&namespace).v4);
            let first = tree.container();
            // Those that share a namespace are containers of one pod.
            let containers = [first.clone()].into_iter().chain((1..tenants).map(|_| tree.sibling(&first)));
            for container in containers {
                let place = Place::container(&container).netns(&namespace);
                members.push(Member::new(container, place, address));
            }
            namespaces.push(namespace);
        }
        let host_networked = tree.container();
        let place = Place::container(&host_networked);
        members.push(Member::new(host_networked, place, LOOPBACK.into()));
        Self { members, _tree: tree, _namespaces: namespaces, _network: network }
    }

    /// Every container connects to those of the others that it can reach, all at the same time.
    fn run_clients(&mut self) -> Truth {
        let clients: Vec<Running> = (0..self.members.len()).map(|index| self.start_clients(index)).collect();
        let mut truth = Truth::default();
        for (member, client) in self.members.iter().zip(clients) {
            truth.processes.insert(client.pid(), member.container.id.clone());
            let report = client.report();
            assert_eq!(report.cgroup, member.container.path(), "where the client called socket()");
            truth.add(&report.ends, &member.container);
        }
        self.add_servers(&mut truth);
        truth
    }

    fn start_clients(&self, index: usize) -> Running {
        let in_host = index + 1 == self.members.len();
        let reachable = |other: &usize| {
            if in_host { *other == index } else { *other + 1 < self.members.len() }
        };
        // Each begins with another server, so that no pair stays in step.
        let turn = (index..self.members.len()).chain(0..index).filter(reachable);
        let to: Vec<SocketAddr> = turn.map(|other| self.members[other].server.addresses()[0]).collect();
        Churn::new(&to, CONNECTIONS).ending(ENDING).list().start(&self.members[index].place)
    }

    /// Waits until all servers together are done with every connection.
    fn add_servers(&mut self, truth: &mut Truth) {
        let mut peers: HashMap<SocketAddr, u64> = HashMap::new();
        for to in truth.sockets.keys().map(|(_, peer)| *peer) {
            *peers.entry(SocketAddr::new(to.address, to.port)).or_default() += 1;
        }
        for member in &mut self.members {
            let expected = peers.get(&member.server.addresses()[0]).copied().unwrap_or(0);
            let report = member.server.wait_for(expected);
            assert_eq!(report.cgroup, member.container.path(), "where the server called socket()");
            truth.processes.insert(report.pid, member.container.id.clone());
            truth.add(&report.ends, &member.container);
        }
    }
}

impl Member {
    fn new(container: Container, place: Place, address: IpAddr) -> Self {
        let server = Server::start(&place, &[SocketAddr::new(address, 0)], ENDING, true);
        Self { container, place, server }
    }
}

/// Who made which socket, by what the processes themselves say.
#[derive(Default)]
struct Truth {
    sockets: HashMap<(End, End), Container>,
    processes: HashMap<u32, String>,
    transitions: u64,
}

/// How many lines were right.
#[derive(Debug, Default)]
struct Verdict {
    right: usize,
    wrong: usize,
    unknown: usize,
    no_process: usize,
    examples: Vec<String>,
}

impl Verdict {
    fn judged(&self) -> usize {
        self.right + self.wrong + self.unknown
    }

    fn note(&mut self, named: Option<&str>, owner: &str, what: &dyn std::fmt::Debug) {
        let place = match named {
            Some(named) if named == owner => &mut self.right,
            Some(_) => &mut self.wrong,
            None => &mut self.unknown,
        };
        *place += 1;
        if named != Some(owner) && self.examples.len() < 3 {
            self.examples.push(format!("{named:?} for {owner}: {what:?}"));
        }
    }
}

impl Truth {
    fn add(&mut self, sockets: &[Ends], container: &Container) {
        for ends in sockets {
            let peer = ends.peer.expect("a connected socket has a peer");
            let key = (End::new(ends.local.ip(), ends.local.port()), End::new(peer.ip(), peer.port()));
            // The same ports can come again only from the same container, or nobody could tell.
            let before = self.sockets.insert(key, container.clone());
            assert!(before.is_none_or(|before| before == *container), "{ends:?} had two owners");
        }
        let sockets = u64::try_from(sockets.len()).expect("it fits");
        self.transitions += sockets * ENDING.transitions() / 2;
    }

    /// Every transition has a line, but for those that the tracer itself counts as lost.
    #[track_caller]
    fn assert_nothing_lacks(&self, verdict: &Verdict, counts: &Counts) {
        let (judged, lost) = (verdict.judged(), usize::try_from(counts.lost()).expect("it fits"));
        let made = usize::try_from(self.transitions).expect("it fits");
        assert!(judged <= made && made - judged <= lost, "{made} made, {lost} lost: {verdict:?}");
        assert!(judged >= WANTED, "{judged} of {WANTED} were judged, {lost} lost: {verdict:?}");
    }

    /// Container, pod UID and process of every line about one of these sockets. The first line of a connection has no
    /// local port yet: its connection id leads to a line that has.
    fn judge(&self, transitions: &[Event]) -> Verdict {
        let mut verdict = Verdict::default();
        let id = |event: &Event| event.must("tcpstates.connection.id").to_owned();
        for (event, owner) in self.about_mine(transitions, id, Event::tuple) {
            let (container, pod) = event.owner();
            let process = event.number("process.pid").and_then(|pid| u32::try_from(pid).ok());
            verdict.no_process += usize::from(process.is_none());
            let process_of = process.map(|pid| self.processes.get(&pid).map(String::as_str));
            let named = match container {
                Some(_) if pod != Some(&owner.pod_uid) => Some("another pod"),
                Some(_) if process_of.is_some_and(|of| of != Some(&owner.id)) => Some("another process"),
                named => named,
            };
            verdict.note(named, &owner.id, event);
        }
        verdict
    }

    /// The container of the task that was on the CPU.
    fn judge_on_cpu(&self, rows: &[Row]) -> Verdict {
        let mut verdict = Verdict::default();
        for (row, owner) in self.about_mine(rows, |row| row.connection.clone(), |row| row.tuple.clone()) {
            verdict.note(self.processes.get(&row.on_cpu).map(String::as_str), &owner.id, row);
        }
        verdict
    }

    /// Those of `lines` that are about a socket of this test, with its owner.
    fn about_mine<'a, T>(
        &'a self,
        lines: &'a [T],
        id: impl Fn(&T) -> String,
        tuple: impl Fn(&T) -> Tuple,
    ) -> Vec<(&'a T, &'a Container)> {
        let mut by_connection = BTreeMap::new();
        for line in lines {
            let tuple = tuple(line);
            if let Some(owner) = self.sockets.get(&(tuple.local, tuple.peer)) {
                by_connection.insert(id(line), owner);
            }
        }
        lines.iter().filter_map(|line| Some((line, *by_connection.get(&id(line))?))).collect()
    }
}
