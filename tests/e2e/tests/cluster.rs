//! The cluster itself, before anything is asked of the agent.

use anyhow::Result;
use kube_tcpstates_e2e_tests::cluster::{Cluster, is_true};

pub(crate) const TESTS: crate::Tests = &[("both_nodes_are_ready", both_nodes_are_ready)];

fn both_nodes_are_ready(cluster: &Cluster) -> Result<()> {
    for node in cluster.nodes() {
        let seen = cluster.kubectl().get(&format!("/api/v1/nodes/{}", node.identity().name))?;
        assert!(is_true(&seen, "Ready"), "{seen}");
        assert_eq!(seen["status"]["nodeInfo"]["kubeletVersion"], "v1.20.2");
    }
    Ok(())
}
