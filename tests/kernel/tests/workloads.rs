//! What is counted beside the lines. Figures of workloads: what real connections of two pods add up to, what of them is open,
//! and what a full accept queue drops. Samples of a live view: the same, look by look.

#![expect(clippy::unwrap_used, reason = "what a test made itself is as it made it")]

mod pipelines;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kube_tcpstates::cgroupfs::Mount;
use kube_tcpstates::filter::{Mode, TraceFilter};
use kube_tcpstates::names::{Workload, WorkloadKind};
use kube_tcpstates::outlet::Nowhere;
use kube_tcpstates::pipeline::{Counting, Running};
use kube_tcpstates::plan::{IdScope, Outcomes, Plan, View};
use kube_tcpstates::roster::{ContainerInfo, PodInfo, Roster};
use kube_tcpstates::top::{Ended, Sample};
use kube_tcpstates::workloads::{Figures, Workloads};
use kube_tcpstates_events::{Outcome, Role};
use kube_tcpstates_kernel_tests::cgroup::{CgroupTree, Container};
use kube_tcpstates_kernel_tests::listed::listed;
use kube_tcpstates_kernel_tests::netns::{Netns, Network};
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;

use pipelines::start;

const CLOSED: usize = 180;
const REFUSED: usize = 20;
const OPEN: usize = 7;
const UP: usize = 100;
const DOWN: usize = 2_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// A pod that a workload owns.
fn pod(container: &Container, kind: WorkloadKind, workload: &str) -> PodInfo {
    PodInfo {
        uid: container.pod_uid.clone(),
        namespace: "shop".to_owned(),
        name: format!("{workload}-0"),
        workload: Some(Workload { kind, name: workload.to_owned() }),
        // What has no name yet waits for it, and is counted later.
        containers: vec![ContainerInfo { name: "app".to_owned(), ids: vec![container.id.clone()] }],
        ..PodInfo::default()
    }
}

/// Traces the connections that went wrong, in these namespaces.
fn view(namespaces: &[&Netns], pods: Vec<PodInfo>, mode: Mode, revision: u64) -> View {
    let inodes: BTreeSet<u32> = namespaces.iter().map(|netns| netns.inode().try_into().unwrap()).collect();
    let filter = TraceFilter { mode, netns: Some(inodes.into_iter().collect()), ..TraceFilter::default() };
    let outcomes = Outcomes::of([Outcome::Refused]);
    let mut plan = Plan::of_command_line(filter, (outcomes, 0), IdScope::default(), None);
    plan.revision = revision;
    let mut roster = Roster::default();
    roster.replace(pods, 0);
    View { plan: Arc::new(plan), roster: Some(Arc::new(roster)), refused: 0 }
}

fn figures(workloads: &Workloads, workload: &str) -> Figures {
    let is_it = |known: &Workload| known.name == workload;
    let mut all = workloads.all();
    let found = all.find(|(name, _)| name.and_then(|name| name.workload.as_ref()).is_some_and(is_it));
    found.map(|(_, figures)| figures.clone()).unwrap_or_default()
}

/// Asks for the figures until they are as they should be.
#[track_caller]
fn wait(running: &Running, workload: &str, is: impl Fn(&Figures) -> bool) -> Figures {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let workloads =
            running.handle.account().blocking_recv().unwrap().workloads.expect("they are counted");
        let figures = figures(&workloads, workload);
        if is(&figures) {
            return figures;
        }
        assert!(Instant::now() < deadline, "{workloads:#?}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn states(figures: &Figures) -> BTreeMap<&str, u64> {
    figures.states().collect()
}

fn outcomes(figures: &Figures, role: &str) -> Vec<(Outcome, u64)> {
    let mut all = figures.roles().filter(|(side, _)| *side == role);
    all.next().map(|(_, of_role)| of_role.outcomes().collect()).unwrap_or_default()
}

/// Connects, both send, and the client closes first.
fn exchange(client: &mut Puppet, server: &mut Puppet, to: SocketAddr) {
    client.connect("c", to).expect("it listens");
    server.accept("s", "listener");
    client.send("c", UP);
    server.receive("s", UP);
    server.send("s", DOWN);
    client.receive("c", DOWN);
    client.close("c");
    server.receive_to_end("s").expect("a FIN");
    server.close("s");
}

#[test]
fn figures_of_workloads_are_what_was_made_and_what_is_open() {
    require(&[]);
    let (tree, network) = (CgroupTree::new(), Network::new());
    let (near, far) = (Netns::new(), Netns::new());
    let (_, at) = (network.join(&near), network.join(&far));
    let (web, db) = (tree.container(), tree.container());
    let mut client = Puppet::start(&Place::container(&web).netns(&near));
    let mut server = Puppet::start(&Place::container(&db).netns(&far));
    let to = server.listen("listener", (at.of(false), 0).into());
    let small = server.listen_for("small", (at.of(false), 0).into(), 1);
    let pods = || vec![pod(&web, WorkloadKind::Deployment, "web"), pod(&db, WorkloadKind::StatefulSet, "db")];
    let counting = Counting::Workloads { every: Duration::from_millis(200) };
    let running =
        start(Nowhere, Mount::find(None).ok(), view(&[&near, &far], pods(), Mode::Connections, 1), counting);
    // What a listener drops is told from the first look on.
    wait(&running, "db", |figures| figures.listening.is_some());

    for _ in 0..CLOSED {
        exchange(&mut client, &mut server, to);
    }
    for _ in 0..REFUSED {
        client.connect("r", SocketAddr::new(at.of(false), 9)).expect_err("nobody listens");
    }
    for number in 0..OPEN {
        client.connect(&format!("open {number}"), to).expect("it listens");
        if number >= 3 {
            server.accept(&format!("accepted {number}"), "listener");
        }
    }
    let all = [("ESTABLISHED", OPEN as u64), ("TIME_WAIT", CLOSED as u64)].into();
    let made = |figures: &Figures, role, count: usize| {
        outcomes(figures, role).iter().map(|(_, count)| count).sum::<u64>() >= count as u64
    };
    let of_web =
        wait(&running, "web", |figures| states(figures) == all && made(figures, "client", CLOSED + REFUSED));
    let ended = [(Outcome::Closed, CLOSED as u64), (Outcome::Refused, REFUSED as u64)];
    assert_eq!(outcomes(&of_web, "client"), ended, "the trace asks for refused ones alone, and all count");
    let of_db = wait(&running, "db", |figures| {
        states(figures) == [("ESTABLISHED", OPEN as u64)].into() && made(figures, "server", CLOSED)
    });
    assert_eq!(outcomes(&of_db, "server"), [(Outcome::Closed, CLOSED as u64)]);
    let listening = of_db.listening.expect("it listens");
    assert_eq!((listening.listeners, listening.waiting, of_db.drops), (2, 3, 0));
    for (figures, role, sent, received) in [(&of_web, "client", UP, DOWN), (&of_db, "server", DOWN, UP)] {
        let (side, of_role) = figures.roles().next().expect("there is one");
        assert_eq!(side, role);
        let expected = ((CLOSED * sent) as u64, (CLOSED * received) as u64);
        assert_eq!((of_role.sent, of_role.received), expected, "{role}");
        assert_eq!(of_role.handshakes.count(), CLOSED as u64, "{role}");
    }

    // Two find room, the SYN of the third does not.
    for number in 0..2 {
        client.connect(&format!("small {number}"), small).expect("there is room");
    }
    client.begin_connect("small 2", small);
    let of_db = wait(&running, "db", |figures| figures.drops > 0);
    assert_eq!(of_db.listening.expect("it listens").fullest_permille, 2_000, "two wait, one may");
    wait(&running, "web", |figures| states(figures).get("SYN_SENT") == Some(&1));

    // Once nobody asks for connections, what was open is not told any more, and what has ended still is.
    running.handle.view(view(&[&near, &far], pods(), Mode::Transitions, 2));
    let of_web = wait(&running, "web", |figures| states(figures).is_empty());
    assert_eq!(outcomes(&of_web, "client")[..], ended);
    running.handle.stop(kube_tcpstates::pipeline::Stop::ForGood);
    running.join().expect("the pipeline did not panic");
}

/// A listener's own count begins when it begins to listen, the workload's when the listener is first seen.
#[test]
fn what_a_listener_dropped_before_it_was_first_seen_does_not_count() {
    require(&[]);
    let (tree, netns) = (CgroupTree::new(), Netns::new());
    let db = tree.container();
    let mut client = Puppet::start(&Place::default().netns(&netns));
    let mut server = Puppet::start(&Place::container(&db).netns(&netns));
    let to = server.listen_for("small", (Ipv4Addr::LOCALHOST, 0).into(), 0);
    client.connect("waits", to).expect("there is room for one");
    let mut drop_a_syn = || {
        client.begin_connect("dropped", to);
        client.close("dropped");
    };
    (0..3).for_each(|_| drop_a_syn());
    let counted = || {
        let lines = listed(&["--state", "LISTEN"], [&netns]);
        lines[0].number("tcpstates.accept_queue.drops").expect("the kernel tells")
    };
    assert_eq!(counted(), 3);
    let pods = vec![pod(&db, WorkloadKind::StatefulSet, "db")];
    let counting = Counting::Workloads { every: Duration::from_millis(200) };
    let view = view(&[&netns], pods, Mode::Connections, 1);
    let running = start(Nowhere, Mount::find(None).ok(), view, counting);
    wait(&running, "db", |figures| figures.listening.is_some());
    (0..2).for_each(|_| drop_a_syn());
    wait(&running, "db", |figures| figures.drops >= 2);
    // One more look, by which what came before would show.
    thread::sleep(Duration::from_millis(300));
    assert_eq!((wait(&running, "db", |_| true).drops, counted()), (2, 5));
    running.handle.stop(kube_tcpstates::pipeline::Stop::ForGood);
    running.join().expect("the pipeline did not panic");
}

#[test]
fn samples_of_a_live_view_have_each_connection_once_and_all_that_is_open() {
    require(&[]);
    let (tree, netns) = (CgroupTree::new(), Netns::new());
    let container = tree.container();
    let (near, far) = (Place::container(&container).netns(&netns), Place::default().netns(&netns));
    let (mut client, mut server) = (Puppet::start(&near), Puppet::start(&far));
    let to = server.listen("listener", (Ipv4Addr::LOCALHOST, 0).into());
    let inode = u32::try_from(netns.inode()).unwrap();
    let filter = TraceFilter { mode: Mode::Summary, netns: Some([inode].into()), ..TraceFilter::default() };
    let plan = Plan::of_command_line(filter, (Outcomes::ANY, 3_600_000_000_000), IdScope::default(), None);
    let (counting, mut samples) = Counting::live(Duration::from_millis(200));
    let view = View { plan: Arc::new(plan), roster: None, refused: 0 };
    let running = start(Nowhere, Mount::find(None).ok(), view, counting);
    let first: Sample = samples.blocking_recv().unwrap();
    assert_eq!((first.span_ns, first.ended.len(), first.open.unwrap().len()), (0, 0, 0));

    for _ in 0..CLOSED {
        exchange(&mut client, &mut server, to);
    }
    for _ in 0..REFUSED {
        client.connect("r", SocketAddr::new(to.ip(), 9)).expect_err("nobody listens");
    }
    for number in 0..OPEN {
        client.connect(&format!("open {number}"), to).expect("it listens");
        server.accept(&format!("accepted {number}"), "listener");
    }
    let mut ended: BTreeMap<(bool, u16), (u64, u64, u64)> = BTreeMap::new();
    let deadline = Instant::now() + PATIENCE;
    let last = loop {
        let sample = samples.blocking_recv().unwrap();
        assert_eq!(sample.lost, 0);
        for Ended { owner, port, role, sums, .. } in &sample.ended {
            let is_client = *role == Some(Role::Client);
            assert_eq!(container.id.starts_with(&**owner), is_client, "{owner}");
            let sum = ended.entry((is_client, *port)).or_default();
            *sum = (sum.0 + sums.connections, sum.1 + sums.failed(), sum.2 + sums.sent);
        }
        let all: u64 = ended.values().map(|(connections, ..)| connections).sum();
        if all >= (2 * CLOSED + REFUSED) as u64 {
            break samples.blocking_recv().unwrap();
        }
        assert!(Instant::now() < deadline, "{ended:?}");
    };
    let (closed, refused) = (CLOSED as u64, REFUSED as u64);
    let expected = [
        ((false, to.port()), (closed, 0, closed * DOWN as u64)),
        ((true, 9), (refused, refused, 0)),
        ((true, to.port()), (closed, 0, closed * UP as u64)),
    ];
    assert_eq!(ended, expected.into());
    let mut open: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for one in last.open.iter().flatten() {
        let state = one.state.name().expect("the kernel has a name for it");
        *open.entry((one.role.map_or("", Role::as_str), state)).or_default() += 1;
    }
    let established = "ESTABLISHED";
    assert_eq!(open[&("client", established)], OPEN);
    assert_eq!(open[&("server", established)], OPEN);
    assert_eq!(open[&("", "TIME_WAIT")], CLOSED);
    running.handle.stop(kube_tcpstates::pipeline::Stop::ForGood);
    running.join().expect("the pipeline did not panic");
}
