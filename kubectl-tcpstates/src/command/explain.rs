//! `explain`: gathers what there is to know of a trace.

use jiff::Timestamp;
use kube_tcpstates_crds::{GROUP, LabelSelector};
use serde_json::Value;

use super::lines::missing;
use crate::args::ExplainArguments;
use crate::edge::api::Cluster;
use crate::edge::screen;
use crate::edge::source::Source;
use crate::explain::{Facts, Pods, explain};
use crate::name::TraceName;
use crate::table::safe;
use crate::trouble::{Failure, Trouble};

/// Runs it to its end.
pub(super) async fn run(cluster: &Cluster, arguments: &ExplainArguments) -> Result<(), Trouble> {
    let name = arguments.trace.parse::<TraceName>()?.within(&cluster.namespace);
    let object: Value = cluster.get(&name.path()).await.map_err(|failure| missing(failure, &name))?;
    let nodes = match cluster.nodes().await {
        Ok(nodes) => Some(nodes),
        Err(Failure::Forbidden(_)) => None,
        Err(failure) => {
            return Err(
                failure.trouble("look at the agents' reports", &format!("list tcpstatenodes.{GROUP}"))
            );
        }
    };
    let facts = Facts {
        pods: pods(cluster, &name, &object).await,
        nodes,
        readable: Source::find(cluster, &name)
            .await
            .map(Source::sentence)
            .map_err(|trouble| trouble.to_string()),
        now: Timestamp::now(),
        name,
        object,
    };
    let sentences: Vec<String> = explain(&facts).iter().map(|sentence| safe(sentence)).collect();
    screen::write(format!("{}\n", sentences.join("\n")).as_bytes()).map(drop)
}

/// Those of a namespace; whose pods a trace of the cluster selects the agents alone know.
async fn pods(cluster: &Cluster, name: &TraceName, object: &Value) -> Pods {
    let Some(namespace) = &name.namespace else { return Pods::NotAsked };
    let selector = serde_json::from_value::<LabelSelector>(object["spec"]["podSelector"].clone());
    let Ok(selector) = selector else { return Pods::NotAsked };
    match cluster.pods(namespace, &selector).await {
        Ok(pods) => Pods::These(pods),
        Err(_) => Pods::NotAsked,
    }
}
