//! Two containers flood a ring whose reader is hardly there; nine others beside them lose nothing.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use kube_tcpstates_kernel_tests::cgroup::Container;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::scene::Scene;
use kube_tcpstates_kernel_tests::tracer::{Setup, Tracer};
use kube_tcpstates_kernel_tests::traffic::{Churn, Server};
use kube_tcpstates_kernel_tests::workload::Ending;
use rustix::process::Signal;

const ENDING: Ending = Ending::ClientFirst;
const QUIET: usize = 9;
/// Of the quiet ones, between two connections.
const PAUSE: Duration = Duration::from_millis(100);
const FLOOD: u64 = 25_000;

/// Both ends of its connections are its own.
struct Quiet {
    container: Container,
    server: Server,
}

impl Quiet {
    fn new(scene: &Scene, number: usize) -> Self {
        let container = scene.tree.container();
        let last = u8::try_from(number + 1).expect("a few");
        let at = SocketAddr::from((Ipv4Addr::new(127, 78, 0, last), 0));
        let place = Place::container(&container).netns(&scene.namespace);
        Self { server: Server::start(&place, &[at], ENDING, false), container }
    }

    fn churn(&self, connections: u64) -> Churn {
        Churn::new(self.server.addresses(), connections).pause(PAUSE).ending(ENDING)
    }
}

#[test]
fn who_floods_the_ring_takes_nothing_from_others() {
    require(&[]);
    // The reader is away for more than nine tenths of the time.
    assert_only_floods_lose("512KiB", 60, |tracer| {
        tracer.signal(Signal::STOP);
        thread::sleep(Duration::from_millis(47));
        tracer.signal(Signal::CONT);
        thread::sleep(Duration::from_millis(3));
    });
}

#[test]
fn while_nobody_reads_a_flood_leaves_room_for_others() {
    require(&[]);
    assert_only_floods_lose("8MiB", 40, |tracer| {
        tracer.signal(Signal::STOP);
        thread::sleep(Duration::from_millis(50));
    });
}

/// `connections`: by each of the quiet ones. `hinder` is called again and again while there is traffic.
#[track_caller]
fn assert_only_floods_lose(ring_size: &str, connections: u64, hinder: impl Fn(&Tracer)) {
    let mut scene = Scene::new(ENDING);
    let mut quiet: Vec<Quiet> = (0..QUIET).map(|number| Quiet::new(&scene, number)).collect();
    let options = ["--ring-size", ring_size, "--queue-size", "256MiB"].map(str::to_owned);
    let tracer = Setup::json([&options[..], &scene.only_this()].concat()).start_ready();

    let flood = scene.churn(FLOOD);
    let place = scene.client_place();
    let reports = thread::scope(|scope| {
        let flood = scope.spawn(|| flood.run(&place));
        let others: Vec<_> = quiet
            .iter()
            .map(|quiet| {
                let churn = quiet.churn(connections);
                let place = Place::container(&quiet.container).netns(&scene.namespace);
                scope.spawn(move || churn.run(&place))
            })
            .collect();
        while !flood.is_finished() || others.iter().any(|other| !other.is_finished()) {
            hinder(&tracer);
        }
        flood.join().expect("no panic")
    });
    scene.absorb(&reports);
    for quiet in &mut quiet {
        quiet.server.wait_for(connections);
    }
    tracer.signal(Signal::CONT);
    tracer.settle(Duration::from_secs(1));
    let finished = tracer.stop();

    let counts = finished.assert_clean();
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    for line in finished.transitions() {
        *lines.entry(line.text("container.id").unwrap_or_default().to_owned()).or_default() += 1;
    }
    let of = |container: &Container| lines.get(&container.id).copied().unwrap_or(0);
    let floods = of(&scene.client_container) + of(&scene.server_container);
    let happened = scene.transitions();
    println!("{happened} by two that flood: {floods} lines; {counts:?}");
    assert!(floods < happened / 2, "the ring held most of it: nothing was tested");
    assert_eq!(counts.get("lost_queue"), 0, "lost behind the ring: {counts:?}");
    let expected = connections * ENDING.transitions();
    for quiet in &quiet {
        assert_eq!(of(&quiet.container), expected, "lines of a container that is quiet: {lines:?}");
    }
    let is_named =
        |line: &str| line.contains("beyond their share") && line.contains(&scene.client_container.id);
    assert!(finished.stderr.lines().any(is_named), "it is not said who floods: {}", finished.stderr);
    // What is not in a line is counted.
    let recursion = counts.get("recursion");
    let lost = counts.lost();
    let missing = happened - floods;
    assert!((lost - recursion..=lost).contains(&missing), "{missing} are missing, {counts:?}");
}
