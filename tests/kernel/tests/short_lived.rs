//! A container that lives 50 ms or less and makes one connection is named on every line about it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::scene::Scene;
use kube_tcpstates_kernel_tests::statistics::Sorted;
use kube_tcpstates_kernel_tests::tracer::Setup;
use kube_tcpstates_kernel_tests::traffic::Churn;
use kube_tcpstates_kernel_tests::workload::Ending;

/// Containers that must have been short-lived.
const WANTED: usize = 500;
/// A busy machine makes some live longer: then more are made, up to so many.
const AT_MOST: usize = 2_000;
const LIFE: Duration = Duration::from_millis(50);

#[test]
fn five_hundred_containers_of_50_ms_are_named_on_every_line() {
    require(&[]);
    let mut scene = Scene::new(Ending::ClientFirst);
    let tracer = Setup::json(scene.only_this()).start_ready();
    let mut lives = Vec::new();
    let mut owners = HashMap::new();
    while lives.iter().filter(|life| **life <= LIFE).count() < WANTED && lives.len() < AT_MOST {
        let born = Instant::now();
        let container = scene.tree.container();
        let report = Churn::new(&[scene.address()], 1)
            .list()
            .run(&Place::container(&container).netns(&scene.namespace));
        container.remove();
        lives.push(born.elapsed());
        scene.absorb(&report);
        owners.insert(report.ends[0].local.port(), container);
    }
    let short = lives.iter().filter(|life| **life <= LIFE).count();
    println!("{short} containers lived at most {LIFE:?}; all: {}", Sorted::new(lives.clone()).summary());
    assert!(short >= WANTED, "only {short} of {} containers lived at most {LIFE:?}", lives.len());
    tracer.settle(Duration::from_secs(1));
    let finished = tracer.stop();
    finished.assert_clean();

    let mut lines_of: HashMap<String, usize> = HashMap::new();
    let transitions = finished.transitions();
    for event in transitions.iter().filter(|event| event.text("tcpstates.role") == Some("client")) {
        let (container, pod) = event.owner();
        let container = container.unwrap_or_else(|| panic!("no container in {event:?}"));
        *lines_of.entry(container.to_owned()).or_default() += 1;
        if let Some(owner) = owners.get(&event.tuple().local.port) {
            assert_eq!((container, pod), (owner.id.as_str(), Some(owner.pod_uid.as_str())), "{event:?}");
        }
    }
    for container in owners.values() {
        assert_eq!(lines_of.get(&container.id), Some(&5), "lines that name {}", container.id);
    }
}
