//! A trace shows the pods it selects, each transition once and under the right names, and nobody else.

use anyhow::Result;
use kube_tcpstates_e2e_tests::agent::Agents;
use kube_tcpstates_e2e_tests::cluster::node::Identity;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::compare::{Source, judge};
use kube_tcpstates_e2e_tests::scene::{Scene, Server, arguments, pod_spec, workload};
use serde_json::{Value, json};

pub(crate) const TESTS: crate::Tests =
    &[("a_trace_shows_every_transition_of_the_pods_it_selects_and_of_no_other", selected_pods_alone)];

const ENDINGS: [&str; 5] = ["client-close", "server-close", "client-reset", "server-reset", "refused"];
/// By each of the four clients: 18 transitions in five connections, so that the four make more than 20,000.
const CONNECTIONS: u64 = 1400;
/// Between two of them.
const PACE_MS: u64 = 4;
/// Who is not selected makes as many times fewer, in the same time.
const OTHERS_REST: u64 = 3;
/// Kind, name and node of the clients, each with two pods.
const CLIENTS: [(&str, &str, Identity); 2] =
    [("Deployment", "web", NODE_A), ("StatefulSet", "ledger", NODE_B)];

fn selected_pods_alone(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    let (ours, others) = (Scene::new(cluster, "a")?, Scene::new(cluster, "b")?);
    let no_limit = json!({"linesPerSecondPerNode": 100_000, "burst": 200_000});
    agents.trace(
        "a",
        "clients",
        &json!({"podSelector": {"matchLabels": {"app": "client"}}, "rateLimit": no_limit}),
    )?;

    // Clients and servers of both namespaces, on both nodes, all talk to each other.
    let mut servers = Vec::new();
    for scene in [&ours, &others] {
        servers.extend(scene.servers(&json!({"app": "server"}), &[8080, 8081])?);
    }
    for scene in [&ours, &others] {
        for (kind, name, node) in CLIENTS {
            let rest = if scene.namespace() == "a" { 1 } else { OTHERS_REST };
            start(scene, (kind, name, node), "client", &servers, rest)?;
        }
    }
    start(&ours, ("Deployment", "bystander", NODE_A), "bystander", &servers, OTHERS_REST)?;

    let mut sources = Vec::new();
    for (kind, name, _) in CLIENTS {
        for pod in ours.await_pods(&format!("app=client,of={name}"), 2)? {
            let log = ours.finished(&pod)?;
            sources.push(ours.source(&pod, (&kind.to_lowercase(), name), log)?);
        }
    }
    check(&agents, &sources)
}

/// They rest before they start, until the agents have followed, and after they have finished, for their log.
fn start(
    scene: &Scene<'_>,
    (kind, name, node): (&str, &str, Identity),
    app: &str,
    servers: &[Server],
    rest: u64,
) -> Result<()> {
    let labels = json!({"app": app, "of": name});
    let mut client = vec!["client".to_owned()];
    client.extend(["--sleep-before-ms=3000", "--sleep-after-ms=600000"].map(str::to_owned));
    client.push(format!("--pace-ms={}", PACE_MS * rest));
    client.extend(arguments(servers, &ENDINGS, CONNECTIONS / rest)?);
    scene.create(workload(kind, name, &labels, 2, pod_spec(Some(node), &client)))
}

fn check(agents: &Agents<'_>, sources: &[Source]) -> Result<()> {
    let expected = judge(&[], sources).expected;
    assert!(expected >= 20_000, "only {expected} transitions were made");
    agents.await_lines("a/clients", expected)?;
    agents.require_no_loss("a/clients")?;
    // Every transition line there is, whichever trace it names: no other trace exists.
    let mut lines = agents.new_lines("\"transition\"")?;
    lines.retain(|line| {
        line.is("transition") && line.text("k8s.namespace.name").is_none_or(|name| name == "a" || name == "b")
    });
    let verdict = judge(&lines.iter().collect::<Vec<_>>(), sources);
    assert!(verdict.is_clean(), "{verdict}");
    assert!(lines.iter().all(|line| line.get("tcpstates.traces") == Some(&Value::from(vec!["a/clients"]))));
    Ok(())
}
