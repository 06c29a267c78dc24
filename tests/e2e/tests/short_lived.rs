//! Pods that are gone before anyone could have asked about them.

use anyhow::Result;
use kube_tcpstates_e2e_tests::agent::Agents;
use kube_tcpstates_e2e_tests::cluster::Cluster;
use kube_tcpstates_e2e_tests::compare::judge;
use kube_tcpstates_e2e_tests::scene::{Scene, arguments, pod_spec};
use kube_tcpstates_e2e_workload::expect::connections;
use serde_json::json;

pub(crate) const TESTS: crate::Tests =
    &[("every_connection_of_a_job_whose_pods_live_for_a_moment_is_named", a_job_of_moments)];

const PODS: usize = 10;

fn a_job_of_moments(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "moments")?;
    agents.trace("moments", "all", &json!({"podSelector": {}}))?;
    // Its pods are selected as well: from here on both agents trace.
    let servers = scene.servers(&json!({"app": "server"}), &[8080])?;

    let client =
        [vec!["client".to_owned()], arguments(&servers, &["client-close", "server-close"], 4)?].concat();
    scene.create(json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "moment"},
        "spec": {
            "completions": PODS, "parallelism": 3,
            "template": {"metadata": {"labels": {"app": "moment"}}, "spec": pod_spec(None, &client)},
        },
    }))?;
    let mut sources = Vec::new();
    for pod in scene.await_pods("app=moment", PODS)? {
        let log = scene.finished(&pod)?;
        let times = connections(&log).map(|connection| (connection.opened_us, connection.closed_us));
        let (first, last) =
            times.fold((u64::MAX, 0), |(first, last), (open, close)| (first.min(open), last.max(close)));
        assert!(last - first < 500_000, "{pod} was no moment: {} us", last - first);
        sources.push(scene.source(&pod, ("job", "moment"), log)?);
    }

    let expected = judge(&[], &sources).expected;
    assert_eq!(expected, PODS * 4 * 5);
    agents.await_lines("moments/all", 2 * expected)?;
    // The servers' side of the same connections is the servers' own.
    let mut lines = agents.of("moments/all")?;
    lines.retain(|line| line.text("tcpstates.role") == Some("client"));
    let verdict = judge(&lines.iter().collect::<Vec<_>>(), &sources);
    assert!(verdict.is_clean(), "{verdict}");
    Ok(())
}
