//! What the other tests derive their expectations from: both ends of every connection tell the same.

use anyhow::Result;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::scene::{Scene, arguments};
use kube_tcpstates_e2e_workload::expect::{connections, disagreements};
use kube_tcpstates_e2e_workload::log::Ending;
use serde_json::json;

pub(crate) const TESTS: crate::Tests =
    &[("pods_of_both_nodes_reach_each_other_and_both_ends_agree", pods_of_both_nodes_reach_each_other)];

const ENDINGS: [&str; 5] = ["client-close", "server-close", "client-reset", "server-reset", "refused"];

fn pods_of_both_nodes_reach_each_other(cluster: &Cluster) -> Result<()> {
    const EACH: u64 = 200;
    let scene = Scene::new(cluster, "reach")?;
    let labels = json!({"app": "reach"});
    let servers = scene.servers(&labels, &[8080, 8081])?;
    for (name, node) in [("client-a", NODE_A), ("client-b", NODE_B)] {
        scene.client(name, &labels, node, &arguments(&servers, &ENDINGS, EACH)?)?;
    }
    let mut clients = Vec::new();
    for name in ["client-a", "client-b"] {
        clients.extend(scene.finished(name)?);
    }
    let refused = connections(&clients).filter(|connection| connection.ending == Ending::Refused).count();
    assert_eq!((connections(&clients).count(), refused), (2 * 200, 2 * 40));

    // A server's last line may be a moment later than its client's.
    let mut served = Vec::new();
    for server in &servers {
        let complete = |log: &[_]| match connections(log).count() {
            160 => Ok(()),
            other => Err(format!("its log has {other} connections")),
        };
        served.extend(scene.await_log(&server.name, "the server has logged its connections", complete)?);
    }
    assert_eq!(disagreements(connections(&clients), connections(&served)), Vec::<String>::new());
    Ok(())
}
