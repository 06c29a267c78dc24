//! The cluster itself, before anything is asked of the agent.

use anyhow::Result;
use kube_tcpstates_e2e_tests::cluster::{Cluster, is_true};

pub(crate) const TESTS: &[(&str, crate::Test)] = &[
    ("both_nodes_are_ready", both_nodes_are_ready),
    ("an_api_server_that_was_killed_comes_back_with_what_it_knew", the_api_server_comes_back),
];

fn both_nodes_are_ready(cluster: &Cluster) -> Result<()> {
    for node in cluster.nodes() {
        let seen = cluster.kubectl().get(&["node", node.identity().name])?;
        assert!(is_true(&seen, "Ready"), "{seen}");
        assert_eq!(seen["status"]["nodeInfo"]["kubeletVersion"], "v1.20.2");
    }
    Ok(())
}

fn the_api_server_comes_back(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    kubectl.run(&["create", "configmap", "kept", "--from-literal=a=b"])?;
    cluster.kill_api_server()?;
    assert!(kubectl.run(&["get", "nodes"]).is_err(), "the API server answers after it was killed");
    cluster.start_api_server()?;
    assert_eq!(kubectl.get(&["configmap", "kept"])?["data"]["a"], "b");
    kubectl.run(&["delete", "configmap", "kept"]).map(drop)
}
