//! What is open in twenty namespaces, beside what `ss` shows there, while connections come and go: what stays is listed
//! once, with its state, its side and the process that holds it.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use kube_tcpstates_kernel_tests::line::Event;
use kube_tcpstates_kernel_tests::listed::listed;
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::{Need, require};
use kube_tcpstates_kernel_tests::ss::{self, Said};
use kube_tcpstates_kernel_tests::tracer::Setup;
use kube_tcpstates_kernel_tests::traffic::{Churn, Running, Server};
use kube_tcpstates_kernel_tests::tuple::End;
use kube_tcpstates_kernel_tests::workload::Ending;

const NAMESPACES: usize = 20;
/// In this many of them connections come and go.
const BUSY: usize = 4;
/// Of each namespace. Both ends are there: 20,000 sockets in all.
const CONNECTIONS: usize = 500;
/// Connections of each namespace that are in `TIME_WAIT`, but for those that come and go.
const TIME_WAIT: usize = 250;
const LOOKS: usize = 2;

/// A namespace in which one process holds clients, and another their listener and servers.
struct Town {
    client: Puppet,
    server: Puppet,
    to: SocketAddr,
    churn: Option<(Running, Server)>,
    netns: Netns,
}

impl Town {
    fn new() -> Self {
        let netns = Netns::new();
        netns.widen_ports();
        let start = || Puppet::start(&Place::default().netns(&netns));
        let (client, mut server) = (start(), start());
        let to = server.listen("listener", (Ipv4Addr::LOCALHOST, 0).into());
        let mut town = Self { client, server, to, churn: None, netns };
        for number in 0..CONNECTIONS {
            let (near, far) = (format!("near {number}"), format!("far {number}"));
            town.open(&near, &far);
            match number % 10 {
                // FIN_WAIT2 and CLOSE_WAIT, whole sockets, on either side.
                0 => town.client.shut_down(&near),
                1 => town.server.shut_down(&far),
                2 => town.client.send(&near, 10),
                _ => {}
            }
        }
        town
    }

    fn open(&mut self, near: &str, far: &str) {
        self.client.connect(near, self.to).expect("it listens");
        self.server.accept(far, "listener");
    }

    fn make_time_wait(&mut self) {
        for _ in 0..TIME_WAIT {
            self.open("near", "far");
            self.client.close("near");
            self.server.receive_to_end("far").expect("a FIN");
            self.server.close("far");
        }
    }

    /// From now on connections come and go here too.
    fn begin_churn(&mut self) {
        // What has no room there is gone at once.
        self.netns.set("net/ipv4/tcp_max_tw_buckets", &(4 * TIME_WAIT).to_string());
        let place = Place::default().netns(&self.netns);
        let server = Server::start(&place, &[(Ipv4Addr::UNSPECIFIED, 0).into()], Ending::ClientFirst, false);
        let to = (Ipv4Addr::new(127, 77, 0, 1), server.addresses()[0].port()).into();
        let churn = Churn::new(&[to], u64::MAX).seconds(120).threads(2).spread(128);
        let churn = churn.pause(Duration::from_millis(1));
        self.churn = Some((churn.start(&place), server));
    }

    /// Which side a socket is, and which process holds it: of what stays, and of what comes and goes.
    fn side(&self, (local, peer): (End, End)) -> (&'static str, u32) {
        let stays = (self.client.pid(), self.server.pid(), self.to.port());
        let passes = self
            .churn
            .as_ref()
            .map(|(clients, server)| (clients.pid(), server.pid(), server.addresses()[0].port()));
        let is_at = |port| [local.port, peer.port].contains(&port);
        let (client, server, port) = passes.filter(|(.., port)| is_at(*port)).unwrap_or(stays);
        if local.port == port { ("server", server) } else { ("client", client) }
    }
}

type Sockets = HashMap<(End, End), Said>;

/// Of a namespace what `ss` showed before and after, and what was told in between.
struct Sight<'a> {
    town: &'a Town,
    before: &'a Sockets,
    after: &'a Sockets,
    lines: Vec<&'a Event>,
}

impl Sight<'_> {
    /// What was there before and after, in the same state, is told once, and nothing is told twice. Returns how much
    /// there was.
    #[track_caller]
    fn assert_each_once(&self) -> usize {
        let mut told = HashMap::new();
        for line in self.lines.iter().filter(|line| line.kind() != "time_wait") {
            assert_eq!(told.insert(line.ends(), *line), None, "twice: {line:?}");
        }
        let mut stayed = HashSet::new();
        for (ends, said) in self.before {
            // What has no process any more is a smaller socket, and counted alone.
            let is_whole = !said.pids.is_empty();
            if is_whole && self.after.get(ends).is_some_and(|after| after.state == said.state) {
                stayed.insert(ends);
                let line = told.get(ends).unwrap_or_else(|| panic!("missed: {ends:?} {said:?}"));
                self.assert_same(line, *ends, said);
            }
        }
        let others = told.iter().filter(|(ends, _)| !stayed.contains(ends));
        for (ends, line) in others {
            assert!(self.town.churn.is_some(), "{line:?} was not there, or changed");
            let (side, pid) = self.town.side(*ends);
            assert_eq!(line.text("tcpstates.role"), Some(side), "{line:?}");
            let named = line.number("process.pid");
            assert!(named.is_none_or(|named| named == u64::from(pid)), "{pid}: {line:?}");
        }
        stayed.len()
    }

    #[track_caller]
    fn assert_same(&self, line: &Event, ends: (End, End), said: &Said) {
        let (side, pid) = self.town.side(ends);
        assert_eq!(said.pids, [pid], "this test knows who holds what: {said:?}");
        assert_eq!(line.number("process.pid"), Some(pid.into()), "{line:?}");
        assert_eq!(line.text("tcpstates.owner.source"), Some("descriptor"), "{line:?}");
        assert_eq!(line.text("tcpstates.role"), Some(side), "{line:?}");
        let state = match said.state.as_str() {
            "ESTAB" => "ESTABLISHED".to_owned(),
            other => other.replace("FIN-WAIT-", "FIN_WAIT").replace('-', "_"),
        };
        let told = line.text("tcpstates.state").or(Some("LISTEN").filter(|_| line.kind() == "listener"));
        assert_eq!(told, Some(state.as_str()), "{line:?}");
    }

    /// Where nothing comes, what is in `TIME_WAIT` only gets fewer. Returns how much there was.
    #[track_caller]
    fn assert_time_wait(&self) -> u64 {
        let in_time_wait =
            |sockets: &Sockets| sockets.values().filter(|said| said.state == "TIME-WAIT").count() as u64;
        let line = self.lines.iter().find(|line| line.kind() == "time_wait").expect("it is told");
        let told = line.number("tcpstates.count").expect("a count");
        let bounds = in_time_wait(self.after)..=in_time_wait(self.before);
        assert!(self.town.churn.is_some() || bounds.contains(&told), "{bounds:?}: {line:?}");
        told
    }
}

fn look(towns: &[Town], ask: fn(&Netns) -> Sockets) -> Vec<Sockets> {
    towns.iter().map(|town| ask(&town.netns)).collect()
}

fn of_namespace<'a>(lines: &'a [Event], netns: &Netns) -> Vec<&'a Event> {
    let inode = netns.inode();
    lines.iter().filter(|line| line.number("tcpstates.netns.inode") == Some(inode)).collect()
}

fn towns() -> Vec<Town> {
    let mut towns: Vec<_> = (0..NAMESPACES).map(|_| Town::new()).collect();
    towns.iter_mut().take(BUSY).for_each(Town::begin_churn);
    towns
}

#[test]
fn what_stays_open_in_twenty_namespaces_is_listed_once_and_as_ss_shows_it() {
    require(&[Need::Program("ss")]);
    let mut towns = towns();
    for _ in 0..LOOKS {
        towns.iter_mut().for_each(Town::make_time_wait);
        // Who holds what is asked once: `ss` reads the descriptors of every process for it.
        let before = look(&towns, ss::holders);
        let lines = listed(&[], towns.iter().map(|town| &town.netns));
        let after = look(&towns, ss::sockets);
        let (mut stayed, mut time_wait) = (0, 0);
        for ((town, before), after) in towns.iter().zip(&before).zip(&after) {
            let lines = of_namespace(&lines, &town.netns);
            let sight = Sight { town, before, after, lines };
            stayed += sight.assert_each_once();
            time_wait += sight.assert_time_wait();
        }
        let sockets = lines.iter().filter(|line| line.kind() == "socket").count();
        println!("{stayed} stayed, {sockets} told, {time_wait} in TIME_WAIT");
        assert!(stayed >= NAMESPACES * (2 * CONNECTIONS + 1), "{stayed} stayed");
        assert!(time_wait >= (NAMESPACES * TIME_WAIT) as u64, "{time_wait} in TIME_WAIT");
        let end = lines.last().expect("a snapshot has an end");
        assert_eq!(end.number("tcpstates.sockets.open"), Some(sockets as u64), "{end:?}");
        assert_eq!(end.number("tcpstates.sockets.left_out"), Some(0), "{end:?}");
        assert_eq!(end.number("tcpstates.time_wait"), Some(time_wait), "{end:?}");
    }
}

/// As many as a snapshot may show are open in the namespace, and have been for longer than what comes and goes there.
#[test]
fn what_stays_open_is_in_every_snapshot_beside_a_trace_once() {
    require(&[Need::Program("ss")]);
    let mut town = Town::new();
    town.begin_churn();
    let before = ss::holders(&town.netns);
    let netns = town.netns.inode().to_string();
    let options = ["--netns", &netns, "--mode", "summary", "--open-sockets", "1s,limit=1000"];
    let tracer = Setup::json(options).start_ready();
    sleep(Duration::from_secs(6));
    let finished = tracer.stop();
    finished.assert_clean();
    let after = ss::sockets(&town.netns);
    let lines = finished.events();
    let shown = ["socket", "listener", "time_wait", "snapshot"];
    let lines: Vec<_> = lines.iter().filter(|line| shown.contains(&line.kind())).collect();
    let snapshots: Vec<_> = lines.split_inclusive(|line| line.kind() == "snapshot").collect();
    assert!(snapshots.len() >= 5, "{} snapshots", snapshots.len());
    for snapshot in snapshots {
        let (end, lines) = snapshot.split_last().expect("it has an end");
        let sight = Sight { town: &town, before: &before, after: &after, lines: lines.to_vec() };
        let stayed = sight.assert_each_once();
        let numbers = ["open", "shown", "left_out"].map(|of| end.number(&format!("tcpstates.sockets.{of}")));
        println!("{stayed} stayed, {numbers:?}");
        assert!(stayed > 2 * CONNECTIONS, "{stayed} stayed: these and their listener");
        assert_eq!(numbers[1], Some(2 * CONNECTIONS as u64), "{end:?}");
    }
}
