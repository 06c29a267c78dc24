//! The policy that an agent writes the report of its own node alone.

use anyhow::{Result, ensure};
use kube_tcpstates_apis_tests::{Answer, Server};
use serde_json::{Value, json};

const REPORTS: &str = "/apis/tcpstates.dev/v1alpha1/tcpstatenodes";
const AGENT: (&str, &str) = ("impersonate-user", "system:serviceaccount:kube-tcpstates:kube-tcpstates-agent");
/// What the API server puts into a request from a token of a pod.
const NODE: &str = "impersonate-extra-authentication.kubernetes.io%2fnode-name";
const POD: (&str, &str) = ("impersonate-extra-authentication.kubernetes.io%2fpod-uid", "0d1e");

fn report(name: &str) -> Value {
    json!({ "apiVersion": "tcpstates.dev/v1alpha1", "kind": "TcpStateNode", "metadata": { "name": name } })
}

fn is_refused(answer: &Answer, node: &str) -> Result<()> {
    let message = answer.body["message"].as_str().unwrap_or_default();
    let words =
        format!("an agent writes the report of its own node: this token is of a pod on node \"{node}\"");
    ensure!(answer.code == 403 && message.ends_with(&words), "{answer:?}");
    Ok(())
}

#[test]
fn an_agent_makes_the_report_of_its_own_node_alone() -> Result<()> {
    let server = Server::with_definitions()?;
    let make = |name: &str, headers: &[(&str, &str)]| server.make(REPORTS, headers, &report(name));
    is_refused(&make("node-a", &[AGENT])?, "")?;
    // A token that was made for a Node object, not for a pod.
    is_refused(&make("node-a", &[AGENT, (NODE, "node-a")])?, "")?;
    is_refused(&make("node-a", &[AGENT, (NODE, "node-b"), POD])?, "node-b")?;
    make("node-a", &[AGENT, (NODE, "node-a"), POD])?.made()?;
    // Others are the business of rights.
    make("node-b", &[("impersonate-user", "somebody")])?.made()?;
    Ok(())
}

#[test]
fn an_agent_writes_into_the_report_of_its_own_node_alone() -> Result<()> {
    let server = Server::with_definitions()?;
    let mut made = server.make(REPORTS, &[], &report("node-a"))?.made()?;
    made["status"] = json!({ "kernel": "6.12" });
    for path in [format!("{REPORTS}/node-a/status"), format!("{REPORTS}/node-a")] {
        let write = |node: &str| server.replace(&path, &[AGENT, (NODE, node), POD], &made);
        is_refused(&write("node-b")?, "node-b")?;
        made = write("node-a")?.made()?;
    }
    Ok(())
}
