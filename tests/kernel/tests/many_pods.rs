//! A node on which everything meets that makes it hard to say whose a socket is: pods that share a network namespace, pods
//! in the host's, a runtime that forwards a port from inside a pod's, a process number that is used again, a listener of
//! MPTCP, listeners beside each other on one port. With cgroup2 each socket knows its cgroup; beside cgroup v1, and with
//! that alone, all pods are in one cgroup2 cgroup. Every line names its container, whatever keeps the records.
//!
//! `KUBE_TCPSTATES_TRANSITIONS` says how many there are to be.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use kube_tcpstates_kernel_tests::cgroup::{CgroupTree, Container, V1};
use kube_tcpstates_kernel_tests::counts::Counts;
use kube_tcpstates_kernel_tests::line::Event;
use kube_tcpstates_kernel_tests::netns::{Netns, Network};
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::tracer::Setup;
use kube_tcpstates_kernel_tests::traffic::{Churn, Running, Server};
use kube_tcpstates_kernel_tests::tuple::End;
use kube_tcpstates_kernel_tests::workload::{Ending, Ends};

/// One keeps the records of connections with the sockets, the other in a hash.
const HOOKS: [&str; 2] = ["tp_btf", "raw_tp"];
/// Pods with a network namespace of their own; two more share one, and two are in the host's.
const ALONE: usize = 8;
/// Of those, whose listener is of MPTCP.
const MPTCP: usize = 0;
/// Whose listener outlives the process that made it.
const DAEMON: usize = 1;
/// Whose process gets that one's number.
const SUCCESSOR: usize = 2;
/// Into whose namespace the runtime forwards a port.
const FORWARDED: usize = 3;
/// How connections end.
const ENDING: Ending = Ending::ClientFirst;
/// Where those listen that are beside each other.
const SHARED_PORT: u16 = 7_111;
/// Where the runtime connects to, in the namespace of a pod.
const INSIDE: Ipv4Addr = Ipv4Addr::new(127, 77, 16, 1);
const WANTED: u64 = 10_000;

#[test]
fn with_cgroup2_every_line_names_its_container() {
    require(&[]);
    assert_all_named(CgroupTree::new(), "true", "socket_cgroup");
}

#[test]
fn beside_cgroup_v1_every_line_names_its_container() {
    require(&[]);
    let hierarchy = V1::mount();
    assert_all_named(hierarchy.tree(), "true", "task_cgroup");
}

#[test]
fn on_cgroup_v1_alone_every_line_names_its_container() {
    require(&[]);
    let hierarchy = V1::mount();
    assert_all_named(hierarchy.tree(), &hierarchy.alone(), "task_cgroup");
}

/// The tracer never hears of the listener itself, and so cannot have looked at its process in time.
#[test]
fn a_listeners_number_that_is_anothers_by_now_names_nobody() {
    require(&[]);
    let hierarchy = V1::mount();
    let tree = hierarchy.tree();
    let filter = ["--transition", "SYN_RECV:ESTABLISHED", "--role", "server"];
    let tracers = HOOKS.map(|hook| Setup::json(["--hook", hook].into_iter().chain(filter)).start_ready());
    let at = SocketAddr::new(Ipv4Addr::new(127, 77, 15, 4).into(), 0);
    let mut daemon = Server::start_daemon(&Place::cgroup(tree.top().to_owned()), at, ENDING);
    let _successor = with_pid(daemon.pid(), &Place::container(&tree.container()));
    Churn::new(daemon.addresses(), 1).ending(ENDING).run(&Place::default());
    daemon.wait_for(1);
    for tracer in tracers {
        tracer.settle(Duration::from_millis(500));
        let mut lines = tracer.stop().transitions();
        let port = daemon.addresses()[0].port();
        lines.retain(|line| line.tuple().local == End::new(at.ip(), port));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0].owner(), (None, None), "{}", lines[0].0);
        assert_eq!(lines[0].must("tcpstates.attribution.status"), "host", "{}", lines[0].0);
    }
}

#[test]
fn beside_cgroup_v1_connections_that_were_open_before_name_their_container() {
    require(&[]);
    let hierarchy = V1::mount();
    let tree = hierarchy.tree();
    let namespace = Netns::new();
    let mut pods: Vec<(Container, Puppet, u64)> = Vec::new();
    for _ in 0..2 {
        let container = tree.container();
        let mut puppet = Puppet::start(&Place::container(&container).netns(&namespace));
        let at = puppet.listen("listener", (Ipv4Addr::LOCALHOST, 0).into());
        puppet.connect("client", at).expect("it listens");
        puppet.accept("server", "listener");
        pods.push((container, puppet, at.port().into()));
    }
    let tracers = HOOKS.map(|hook| Setup::json(["--hook", hook]).start_ready());
    for (_, puppet, _) in &mut pods {
        puppet.close("client");
        puppet.receive_to_end("server").expect("a FIN came");
        puppet.close("server");
    }
    for tracer in tracers {
        tracer.settle(Duration::from_millis(500));
        let finished = tracer.stop();
        finished.assert_clean();
        for (container, _, port) in &pods {
            let mut lines = finished.transitions();
            let ends = ["network.local.port", "network.peer.port"];
            lines.retain(|line| ends.iter().any(|end| line.number(end) == Some(*port)));
            assert_eq!(lines.len(), 6, "FIN_WAIT1, FIN_WAIT2, CLOSE; CLOSE_WAIT, LAST_ACK, CLOSE: {lines:?}");
            for line in lines {
                assert_eq!(line.text("container.id"), Some(container.id.as_str()), "{}", line.0);
                assert_eq!(line.must("tcpstates.attribution.source"), "task_cgroup", "{}", line.0);
            }
        }
    }
}

/// `script` makes the tracer's view of the machine.
#[track_caller]
fn assert_all_named(tree: CgroupTree, script: &str, source: &str) {
    let wrapper =
        || ["unshare", "--mount", "sh", "-ec", &format!("{script}; exec \"$@\""), "sh"].map(str::to_owned);
    let start =
        |hook| Setup::json(["--hook", hook, "--queue-size", "256MiB"]).through(wrapper()).start_ready();
    let tracers = HOOKS.map(start);
    let mut node = Node::new(tree);
    let truth = node.run();
    for (hook, tracer) in HOOKS.into_iter().zip(tracers) {
        tracer.settle(Duration::from_millis(500));
        let finished = tracer.stop();
        truth.judge(hook, source, &finished.transitions(), &finished.assert_clean());
    }
}

/// Two ends and the namespace.
type Connection = (u64, End, End);

/// Whose each socket is; nothing for the host's.
#[derive(Default)]
struct Truth {
    sockets: HashMap<Connection, Option<Container>>,
}

impl Truth {
    fn add(&mut self, netns: u64, sockets: &[Ends], owner: Option<&Container>) {
        for Ends { local, peer } in sockets {
            let peer = peer.expect("a connected socket has a peer");
            let [local, peer] = [*local, peer].map(|end| End::new(end.ip(), end.port()));
            let before = self.sockets.insert((netns, local, peer), owner.cloned());
            assert!(before.is_none_or(|before| before.as_ref() == owner), "{local:?} had two owners");
        }
    }

    #[track_caller]
    fn judge(&self, hook: &str, source: &str, lines: &[Event], counts: &Counts) {
        let mut by_connection = BTreeMap::new();
        for line in lines {
            let tuple = line.tuple();
            let netns = line.number("tcpstates.netns.inode").expect("a namespace");
            if let Some(owner) = self.sockets.get(&(netns, tuple.local, tuple.peer)) {
                by_connection.insert(line.must("tcpstates.connection.id"), owner);
            }
        }
        let judged: Vec<_> = lines
            .iter()
            .filter_map(|line| Some((line, *by_connection.get(line.must("tcpstates.connection.id"))?)))
            .collect();
        let is_right = |line: &Event, owner: Option<&Container>| {
            let named = owner.map(|owner| (Some(owner.id.as_str()), Some(owner.pod_uid.as_str())));
            let status = if owner.is_some() { "resolved" } else { "host" };
            line.owner() == named.unwrap_or_default() && line.must("tcpstates.attribution.status") == status
        };
        let wrong: Vec<_> = judged.iter().filter(|(line, owner)| !is_right(line, owner.as_ref())).collect();
        println!("{hook}: {} lines, {} wrong or unknown, {} lost", judged.len(), wrong.len(), counts.lost());
        assert!(wrong.is_empty(), "{} of {}, as {:?}", wrong.len(), judged.len(), wrong[0]);
        let told =
            judged.iter().filter(|(line, _)| line.must("tcpstates.attribution.source") == source).count();
        assert!(told * 10 > judged.len() * 9, "{told} of {} told by {source}", judged.len());
        let made = self.sockets.len() as u64 * ENDING.transitions() / 2;
        let missing = made.saturating_sub(judged.len() as u64);
        assert!(missing <= counts.lost(), "{missing} of {made} have no line: {counts:?}");
    }
}

/// A pod of one container.
struct Pod {
    container: Container,
    place: Place,
    netns: u64,
    server: Server,
    /// Where others find its server.
    to: SocketAddr,
}

struct Node {
    pods: Vec<Pod>,
    runtime: Place,
    forwarded: Server,
    /// A process of the host in no group at all, whose listener outlives it as well.
    daemon: Server,
    _successors: [Puppet; 2],
    namespaces: Vec<Netns>,
    _network: Network,
    _tree: CgroupTree,
}

impl Node {
    fn new(tree: CgroupTree) -> Self {
        let (network, host) = (Network::new(), fs_inode("/proc/self/ns/net"));
        let (mut pods, mut namespaces) = (Vec::new(), Vec::new());
        for tenants in std::iter::repeat_n(1, ALONE).chain([2]) {
            let namespace = Netns::new();
            namespace.widen_ports();
            // Ends that come again could be another's.
            namespace.set("net/ipv4/tcp_tw_reuse", "0");
            let address = IpAddr::from(network.join(&namespace).v4);
            for _ in 0..tenants {
                let container = tree.container();
                let place = Place::container(&container).netns(&namespace);
                let any = SocketAddr::new(address, 0);
                let server = match (pods.len(), tenants) {
                    (MPTCP, _) => Server::start_mptcp(&place, any, ENDING),
                    (DAEMON, _) => Server::start_daemon(&place, any, ENDING),
                    (_, 1) => Server::start(&place, &[any], ENDING, true),
                    _ => Server::start_beside(&place, SocketAddr::new(address, SHARED_PORT), ENDING),
                };
                let to = server.addresses()[0];
                pods.push(Pod { container, place, netns: namespace.inode(), server, to });
            }
            namespaces.push(namespace);
        }
        for last in [1, 2] {
            let container = tree.container();
            let place = Place::container(&container);
            let at = SocketAddr::new(Ipv4Addr::new(127, 77, 15, last).into(), 0);
            let server = Server::start(&place, &[at], ENDING, true);
            let to = server.addresses()[0];
            pods.push(Pod { container, place, netns: host, server, to });
        }
        let inside = SocketAddr::new(INSIDE.into(), 0);
        let forwarded = Server::start(&pods[FORWARDED].place, &[inside], ENDING, true);
        let at = SocketAddr::new(Ipv4Addr::new(127, 77, 15, 3).into(), 0);
        let daemon = Server::start_daemon(&Place::cgroup(tree.top().to_owned()), at, ENDING);
        let successors =
            [pods[DAEMON].server.pid(), daemon.pid()].map(|pid| with_pid(pid, &pods[SUCCESSOR].place));
        let runtime = Place::cgroup(tree.service("runtime.service"));
        Self {
            pods,
            runtime,
            forwarded,
            daemon,
            _successors: successors,
            namespaces,
            _network: network,
            _tree: tree,
        }
    }

    /// Everybody connects to all that can be reached, and the runtime to a pod from inside of it.
    fn run(&mut self) -> Truth {
        let wanted = std::env::var("KUBE_TCPSTATES_TRANSITIONS")
            .map_or(WANTED, |text| text.parse().expect("a number"));
        let each = wanted / ENDING.transitions() / (self.pods.len() as u64 + 2) + 1;
        let host = self.pods.last().expect("there are pods");
        let to_daemon = Churn::new(self.daemon.addresses(), each).ending(ENDING).list().start(&host.place);
        let (host, last) = (host.netns, host.container.clone());
        let clients: Vec<Running> = self
            .pods
            .iter()
            .map(|pod| {
                let reachable = |other: &&Pod| (other.netns == host) == (pod.netns == host);
                let to: Vec<SocketAddr> = self.pods.iter().filter(reachable).map(|other| other.to).collect();
                Churn::new(&to, each).ending(ENDING).list().start(&pod.place)
            })
            .collect();
        let forward = Churn::new(self.forwarded.addresses(), each).ending(ENDING).list();
        let forward = forward.inside(&self.namespaces[FORWARDED]).start(&self.runtime);
        let mut truth = Truth::default();
        for (pod, client) in self.pods.iter().zip(clients) {
            truth.add(pod.netns, &client.report().ends, Some(&pod.container));
        }
        truth.add(self.pods[FORWARDED].netns, &forward.report().ends, None);
        truth.add(host, &to_daemon.report().ends, Some(&last));
        truth.add(host, &self.daemon.wait_for(each).ends, None);
        let served = self.forwarded.wait_for(each);
        truth.add(self.pods[FORWARDED].netns, &served.ends, Some(&self.pods[FORWARDED].container));
        self.add_servers(&mut truth, each * self.pods.len() as u64);
        truth
    }

    /// Waits until all servers together are done with every connection.
    fn add_servers(&mut self, truth: &mut Truth, connections: u64) {
        for _ in 0..1_000 {
            let reports: Vec<_> = self.pods.iter_mut().map(|pod| pod.server.report()).collect();
            if reports.iter().map(|report| report.connections).sum::<u64>() < connections {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            for (pod, report) in self.pods.iter().zip(reports) {
                truth.add(pod.netns, &report.ends, Some(&pod.container));
            }
            return;
        }
        panic!("not all of {connections} connections were carried to their end");
    }
}

/// A process with a number that was another's.
fn with_pid(pid: u32, place: &Place) -> Puppet {
    // /proc tells when a process started to a hundredth of a second.
    std::thread::sleep(Duration::from_millis(50));
    for _ in 0..100 {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).expect("choose the next number");
        let puppet = Puppet::start(place);
        if puppet.pid() == pid {
            return puppet;
        }
    }
    panic!("no process got the number {pid}");
}

fn fs_inode(path: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).expect("it is there").ino()
}
