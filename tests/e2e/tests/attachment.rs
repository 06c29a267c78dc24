//! Who asks for nothing pays for nothing: the programs are in the kernel only while a trace selects a pod of the node.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube_tcpstates_e2e_tests::agent::Agents;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A};
use kube_tcpstates_e2e_tests::scene::{Scene, arguments};
use kube_tcpstates_e2e_tests::wait;
use serde_json::json;

pub(crate) const TESTS: crate::Tests =
    &[("nothing_is_attached_to_the_kernel_while_no_trace_selects_a_pod_of_the_node", attached_when_asked)];

/// The namespaces of the tests before are still being deleted, traces and all.
const PATIENCE: Duration = Duration::from_secs(30);

fn attached_when_asked(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "attachment")?;
    scene.server("server", &json!({"app": "server"}), NODE_A, &[8080])?;
    await_attached(&[])?;

    // It selects nobody.
    agents.trace("attachment", "idle", &json!({"podSelector": {"matchLabels": {"app": "nobody"}}}))?;
    std::thread::sleep(Duration::from_secs(1));
    await_attached(&[])?;

    // On the pod's own node alone.
    for round in 0..2 {
        agents.trace("attachment", "server", &json!({"podSelector": {"matchLabels": {"app": "server"}}}))?;
        await_attached(&["node-a"])?;
        let server = kube_tcpstates_e2e_tests::scene::Server {
            name: "server".to_owned(),
            address: scene.pod("server")?["status"]["podIP"].as_str().context("an address")?.parse()?,
            ports: vec![8080],
        };
        let client = format!("client-{round}");
        scene.client(
            &client,
            &json!({"app": "client"}),
            NODE_A,
            &arguments([&server], &["client-close"], 3)?,
        )?;
        scene.finished(&client)?;
        let lines = agents.await_lines("attachment/server", (round + 1) * 3 * 5)?;
        assert_eq!(lines.len(), (round + 1) * 3 * 5, "round {round}");
        agents.untrace("attachment", "server")?;
        await_attached(&[])?;
    }
    Ok(())
}

fn await_attached(nodes: &[&str]) -> Result<()> {
    wait::until(&format!("programs are attached on {nodes:?} alone"), PATIENCE, || {
        let mut attached = Vec::new();
        for (node, links) in agents_links()? {
            if links > 0 {
                attached.push(node);
            }
        }
        attached.sort();
        Ok(if attached == nodes { Ok(()) } else { Err(format!("on {attached:?}")) })
    })
}

/// The node of every agent, and how many programs it has attached: a link is a descriptor, and says so.
fn agents_links() -> Result<Vec<(String, usize)>> {
    let mut agents = Vec::new();
    for process in fs::read_dir("/proc")?.flatten() {
        let process = process.path();
        let is_agent = fs::read_to_string(process.join("comm")).is_ok_and(|name| name == "kube-tcpstates\n");
        let Ok(environment) = fs::read(process.join("environ")) else { continue };
        let node = environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"NODE_NAME="));
        let (true, Some(node)) = (is_agent, node) else { continue };
        let descriptors = fs::read_dir(process.join("fdinfo"))?.flatten();
        let links = descriptors
            .filter(|fd| fs::read_to_string(fd.path()).is_ok_and(|text| text.contains("link_type:")))
            .count();
        agents.push((String::from_utf8_lossy(node).into_owned(), links));
    }
    Ok(agents)
}
