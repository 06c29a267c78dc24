//! Figures of workloads: what real connections of two pods add up to, what of them is open, and what a full accept queue
//! drops.

#![expect(clippy::unwrap_used, reason = "what a test made itself is as it made it")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kube_tcpstates::cgroupfs::Mount;
use kube_tcpstates::connection::ConnectionIds;
use kube_tcpstates::filter::{Mode, TraceFilter};
use kube_tcpstates::kernel::{Options, load};
use kube_tcpstates::names::{Workload, WorkloadKind};
use kube_tcpstates::outlet::{Nowhere, Outlets};
use kube_tcpstates::pipeline::{self, Counting, Running, Setup, Whereabouts, task_hierarchy};
use kube_tcpstates::plan::{IdScope, Outcomes, Plan, View};
use kube_tcpstates::roster::{PodInfo, Roster};
use kube_tcpstates::workloads::{Figures, Workloads};
use kube_tcpstates_events::{Line, Outcome, Start};
use kube_tcpstates_kernel_tests::cgroup::{CgroupTree, Container};
use kube_tcpstates_kernel_tests::netns::{Netns, Network};
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;

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

fn start(view: View) -> Running {
    let mount = Mount::find(None).ok();
    let tasks = mount.as_ref().and_then(task_hierarchy);
    let setup = Setup {
        kernel: load(Options { hook: None, ring_bytes: 8 << 20, want_on_cpu: false, tasks })
            .expect("loading the programs"),
        mount,
        proc_root: "/proc".into(),
        whereabouts: Whereabouts::default(),
        outlets: Outlets::new(Box::new(Nowhere)),
        start_line: Box::new(|_| Line::Start(Box::<Start>::default())),
        diagnostics: None,
        summary: |_| {},
        ids: ConnectionIds::new("00000000-0000-4000-8000-000000000000", [7; 16]),
        run: "00000001".to_owned(),
        identity_wait: Duration::from_secs(2),
        lines_per_second: 0,
        count: None,
        counting: Counting::Workloads { every: Duration::from_millis(200) },
    };
    pipeline::start(setup, Some(view), || {}).expect("starting the pipeline")
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
    let running = start(view(&[&near, &far], pods(), Mode::Connections, 1));
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
    let of_web = wait(&running, "web", |figures| states(figures) == all);
    let ended = [(Outcome::Closed, CLOSED as u64), (Outcome::Refused, REFUSED as u64)];
    assert_eq!(outcomes(&of_web, "client"), ended, "the trace asks for refused ones alone, and all count");
    let of_db = wait(&running, "db", |figures| states(figures) == [("ESTABLISHED", OPEN as u64)].into());
    assert_eq!(outcomes(&of_db, "server"), [(Outcome::Closed, CLOSED as u64)]);
    let listening = of_db.listening.expect("it listens");
    assert_eq!((listening.listeners, listening.waiting, of_db.drops), (2, 3, 0));
    for (figures, role, sent, received) in [(&of_web, "client", UP, DOWN), (&of_db, "server", DOWN, UP)] {
        let (side, of_role) = figures.roles().next().expect("there is one");
        assert_eq!(side, role);
        let bytes = (of_role.sent as usize, of_role.received as usize);
        assert_eq!(bytes, (CLOSED * sent, CLOSED * received), "{role}");
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
    running.handle.stop();
    running.join().expect("the pipeline did not panic");
}
