//! What is open, as a trace of a cluster shows it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use kube_tcpstates_e2e_tests::agent::Agents;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A};
use kube_tcpstates_e2e_tests::line::Line;
use kube_tcpstates_e2e_tests::scene::{CONTAINER, Scene, pod, pod_spec};
use kube_tcpstates_e2e_tests::wait;
use serde_json::json;

pub(crate) const TESTS: crate::Tests =
    &[("a_leak_of_fifty_connections_that_began_before_the_trace_is_shown_whole", a_leak_is_shown_whole)];

const LEAKED: u64 = 50;
const TRACE: &str = "leak/leaks";
/// A snapshot at once, and the next after ten seconds.
const PATIENCE: Duration = Duration::from_mins(1);

fn a_leak_is_shown_whole(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "leak")?;
    for name in ["leaker", "stranger"] {
        let arguments = ["leak".to_owned(), format!("--count={LEAKED}")];
        let labels = json!({"app": name});
        scene.create(pod(name, &labels, &pod_spec(Some(NODE_A), &arguments)))?;
    }
    scene.finished("leaker")?;
    scene.finished("stranger")?;
    scene.await_ready("leaker")?;

    agents.trace(
        "leak",
        "leaks",
        &json!({
            "podSelector": {"matchLabels": {"app": "leaker"}},
            "transitions": [{"from": ["CLOSE_WAIT"], "to": ["LAST_ACK"]}],
            "openSockets": {"every": "10s", "states": ["CLOSE_WAIT"]},
        }),
    )?;
    let ends = |lines: &[Line]| lines.iter().filter(|line| line.is("snapshot")).count();
    let lines = wait::until("two snapshots were taken", PATIENCE, || {
        let mut lines = agents.new_lines(TRACE)?;
        lines.retain(|line| line.is_of(TRACE));
        Ok(if ends(&lines) >= 2 { Ok(lines) } else { Err(format!("{} were", ends(&lines))) })
    })?;

    let first = lines.iter().position(|line| line.is("snapshot")).expect("it was waited for");
    let (before, behind) = lines.split_at(first);
    let second: Vec<&Line> = behind[1..].iter().take_while(|line| !line.is("snapshot")).collect();
    for (snapshot, least_us) in [(before.iter().collect::<Vec<_>>(), 0), (second, 9_000_000)] {
        let places: BTreeSet<_> = snapshot.iter().filter_map(|line| line.place()).collect();
        assert_eq!((snapshot.len(), places.len()), (50, 50), "fifty of fifty, each once");
        for line in snapshot {
            assert!(line.is("socket"), "{line:?}");
            for (path, name) in [
                ("tcpstates.state", "CLOSE_WAIT"),
                ("k8s.pod.name", "leaker"),
                ("k8s.container.name", CONTAINER),
            ] {
                assert_eq!(line.text(path), Some(name), "{line:?}");
            }
            let age_us = line.number("tcpstates.state_age_us");
            assert!(age_us.is_some_and(|age_us| age_us >= least_us), "{least_us}: {line:?}");
            assert!(line.get("tcpstates.state_age_since_attach").is_some(), "{line:?}");
        }
    }
    let end = &lines[first];
    let counts = ["open", "shown", "left_out"].map(|name| end.number(&format!("tcpstates.sockets.{name}")));
    assert_eq!(counts, [Some(LEAKED), Some(LEAKED), Some(0)], "{end:?}");
    agents.untrace("leak", "leaks")
}
