//! `status`: the agents of all nodes, and how the traces do there.

use jiff::Timestamp;
use kube_tcpstates_crds::{GROUP, TcpStateNode, VERSION};
use serde_json::json;

use crate::args::{Output, StatusArguments};
use crate::edge::api::Cluster;
use crate::edge::screen::{self, Screen};
use crate::explain::fleet;
use crate::table;
use crate::trouble::Trouble;

/// Runs it to its end.
pub(super) async fn run(cluster: &Cluster, arguments: &StatusArguments) -> Result<(), Trouble> {
    let path = format!("/apis/{GROUP}/{VERSION}/tcpstatenodes");
    let items = cluster.list(&path).await.map_err(|failure| {
        failure.trouble("look at the agents' reports", &format!("list tcpstatenodes.{GROUP}"))
    })?;
    if arguments.output.output == Output::Json {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        return screen::write(format!("{list}\n").as_bytes()).map(drop);
    }
    let nodes: Vec<TcpStateNode> =
        items.into_iter().map(serde_json::from_value::<TcpStateNode>).filter_map(Result::ok).collect();
    if nodes.is_empty() {
        return Err(cluster.no_agent_reports());
    }
    let now = Timestamp::now();
    let paint = Screen::paint();
    let mut out = Vec::new();
    table::nodes(&mut out, &nodes, now, paint);
    let namespace = (!arguments.all_namespaces).then_some(cluster.namespace.as_str());
    let standings = table::standings(&nodes, namespace);
    if !standings.is_empty() {
        out.push(b'\n');
        table::traces(&mut out, &standings, paint);
    }
    let _ = screen::write(&out)?;
    let screen = Screen::new(arguments.output.output);
    // Who may not list nodes does not learn where an agent is missing.
    let all = cluster.node_names().await.unwrap_or_default();
    for sentence in fleet(&nodes, &all, now) {
        screen.warn(&sentence);
    }
    if standings.is_empty() {
        let place = namespace
            .map_or_else(|| "any namespace".to_owned(), |it| format!("the namespace {it} (-A for all)"));
        screen.say(&format!("no agent has a trace of {place}"));
    }
    Ok(())
}
