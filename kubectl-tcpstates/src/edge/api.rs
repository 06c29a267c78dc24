//! Requests to the API server. Each is answered within a time, or is a failure.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use futures_util::AsyncBufRead;
use http::Request;
use kube::Client;
use kube_tcpstates_client::{KubectlFlags, Person};
use kube_tcpstates_crds::{GROUP, LabelSelector, TcpStateNode, VERSION};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::target::{self, Pod};
use crate::trouble::{Failure, Trouble};

const USER_AGENT: &str = concat!("kubectl-tcpstates/", env!("CARGO_PKG_VERSION"));
/// Lists of a big cluster take seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Reports of more nodes are asked for at once.
const ONE_BY_ONE: usize = 16;

/// The API server, and who asks it.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    /// What is spoken of when no other is named.
    pub(crate) namespace: String,
    /// Where agents and operator are.
    pub(crate) agents_namespace: String,
}

#[derive(Deserialize)]
struct List<T> {
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodObject {
    metadata: PodMeta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Deserialize)]
struct PodMeta {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<String>,
}

#[derive(Default, Deserialize)]
struct PodStatus {
    #[serde(default)]
    phase: String,
}

impl Cluster {
    /// By kubectl's rules. Nothing is sent yet.
    pub(crate) async fn of(flags: &KubectlFlags, agents_namespace: String) -> Result<Self, Trouble> {
        let Person { client, namespace, .. } = flags.person(USER_AGENT).await?;
        Ok(Self { client, namespace, agents_namespace })
    }

    /// Answered by a stand-in.
    #[cfg(test)]
    pub(crate) fn with(client: Client) -> Self {
        Self { client, namespace: "shop".to_owned(), agents_namespace: "kube-tcpstates".to_owned() }
    }

    /// That they are not there, and what to do.
    pub(crate) fn no_agent_reports(&self) -> Trouble {
        let system = &self.agents_namespace;
        Trouble::new(format!(
            "no agent reports from any node: see kubectl -n {system} get pods, or install them with kubectl apply -f \
             tcptrace.yaml"
        ))
    }

    /// An object, or a list of them.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask("GET", path, Vec::new()).await
    }

    /// Makes an object, and returns it as the server has it.
    pub(crate) async fn create<T: DeserializeOwned>(&self, path: &str, object: &Value) -> Result<T, Failure> {
        self.ask("POST", path, object.to_string().into_bytes()).await
    }

    /// Deletes an object. One that is gone already is deleted.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), Failure> {
        match self.ask::<Value>("DELETE", path, Vec::new()).await {
            Ok(_) | Err(Failure::NoObject(_)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Text that comes line by line, for as long as it comes; only its beginning must come in time.
    pub(crate) async fn stream(&self, path: &str) -> Result<impl AsyncBufRead + use<>, Failure> {
        let request = request("GET", path, Vec::new())?;
        within(self.client.request_stream(request)).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: &str, path: &str, body: Vec<u8>) -> Result<T, Failure> {
        within(self.client.request(request(method, path, body)?)).await
    }

    /// The pods that are not over and that a selector selects.
    pub(crate) async fn pods(&self, namespace: &str, selector: &LabelSelector) -> Result<Vec<Pod>, Failure> {
        let labels = encoded(&target::shown(selector));
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={labels}");
        let list: List<PodObject> = self.get(&path).await?;
        let live =
            list.items.into_iter().filter(|pod| !matches!(pod.status.phase.as_str(), "Succeeded" | "Failed"));
        Ok(live.map(|pod| Pod { name: pod.metadata.name, node: pod.spec.node_name }).collect())
    }

    /// The reports of all agents.
    pub(crate) async fn nodes(&self) -> Result<Vec<TcpStateNode>, Failure> {
        let list: List<TcpStateNode> = self.get(&format!("/apis/{GROUP}/{VERSION}/tcpstatenodes")).await?;
        Ok(list.items)
    }

    /// The reports of these nodes: of a few one by one, as a report has up to 15 KiB and a cluster thousands.
    pub(crate) async fn nodes_named(&self, names: &BTreeSet<String>) -> Result<Vec<TcpStateNode>, Failure> {
        if names.len() > ONE_BY_ONE {
            return self.nodes().await;
        }
        let mut nodes = Vec::new();
        for name in names {
            let selector = encoded(&format!("metadata.name={name}"));
            let path = format!("/apis/{GROUP}/{VERSION}/tcpstatenodes?fieldSelector={selector}");
            let list: List<TcpStateNode> = self.get(&path).await?;
            nodes.extend(list.items);
        }
        Ok(nodes)
    }

    /// Whether any agent reports.
    pub(crate) async fn has_agents(&self) -> Result<bool, Failure> {
        let list: List<Value> = self.get(&format!("/apis/{GROUP}/{VERSION}/tcpstatenodes?limit=1")).await?;
        Ok(!list.items.is_empty())
    }

    /// The names of all nodes of the cluster.
    pub(crate) async fn node_names(&self) -> Result<Vec<String>, Failure> {
        let list: List<PodObject> = self.get("/api/v1/nodes").await?;
        Ok(list.items.into_iter().map(|node| node.metadata.name).collect())
    }

    /// Objects of a list, as they are.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let list: List<Value> = self.get(path).await?;
        Ok(list.items)
    }
}

fn request(method: &str, path: &str, body: Vec<u8>) -> Result<Request<Vec<u8>>, Failure> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::ACCEPT, "application/json, */*")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|error| Failure::Unreachable(format!("{path}: {error}")))
}

async fn within<T>(answer: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(answer) => answer.map_err(Failure::from),
        Err(_) => Err(Failure::Unreachable(format!("no answer within {} s", ANSWER_WITHIN.as_secs()))),
    }
}

/// Of a value in a query.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_selector_survives_the_query() {
        assert_eq!(super::encoded("a=b,c in (d,é)"), "a%3Db%2Cc%20in%20%28d%2C%C3%A9%29");
    }
}
