//! A namespace of one test, with servers and clients in it whose logs tell what they did.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates_e2e_workload::log::Entry;
use serde_json::{Value, json};

use crate::agent::trace_path;
use crate::cluster::node::Identity;
use crate::cluster::{Cluster, NODE_A, NODE_B, is_true};
use crate::compare::Source;
use crate::kubectl::Kubectl;
use crate::wait;

/// As `./x test e2e` tags it.
const IMAGE: &str = "localhost/e2e-workload:latest";
/// The container of every pod made here.
pub const CONTAINER: &str = "workload";
/// What takes seconds may take minutes on a machine that builds something meanwhile.
const PATIENCE: Duration = Duration::from_mins(2);

/// A namespace and what is in it. Dropping it deletes it, without waiting.
#[derive(Debug)]
pub struct Scene<'a> {
    kubectl: &'a Kubectl,
    namespace: String,
}

/// A server that accepts connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The pod.
    pub name: String,
    /// The pod's address.
    pub address: Ipv4Addr,
    /// Where it accepts.
    pub ports: Vec<u16>,
}

impl Server {
    /// Every address that it accepts on.
    pub fn targets(&self) -> impl Iterator<Item = SocketAddr> {
        self.ports.iter().map(|port| SocketAddr::from((self.address, *port)))
    }
}

impl<'a> Scene<'a> {
    /// Makes the namespace and waits until pods may be made in it.
    pub fn new(cluster: &'a Cluster, namespace: &str) -> Result<Self> {
        let kubectl = cluster.kubectl();
        kubectl.api().create(&object_of(namespace))?;
        let scene = Self { kubectl, namespace: namespace.to_owned() };
        wait::until("the namespace has its service account", PATIENCE, || {
            let account = kubectl.get(&format!("/api/v1/namespaces/{namespace}/serviceaccounts/default"));
            Ok(account.map(drop).map_err(|error| format!("{error:#}")))
        })?;
        Ok(scene)
    }

    /// The namespace's name.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    fn pods_path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods", self.namespace)
    }

    /// Makes an object in this namespace.
    pub fn create(&self, mut object: Value) -> Result<()> {
        object["metadata"]["namespace"] = json!(self.namespace);
        self.kubectl.api().create(&object)
    }

    /// Starts a server and waits until it accepts on every port.
    pub fn server(&self, name: &str, labels: &Value, node: Identity, ports: &[u16]) -> Result<Server> {
        self.start_server(name, labels, node, ports)?;
        self.await_server(name, ports)
    }

    /// `server-a` and `server-b`, each on its node.
    pub fn servers(&self, labels: &Value, ports: &[u16]) -> Result<[Server; 2]> {
        self.start_server("server-a", labels, NODE_A, ports)?;
        self.start_server("server-b", labels, NODE_B, ports)?;
        Ok([self.await_server("server-a", ports)?, self.await_server("server-b", ports)?])
    }

    fn start_server(&self, name: &str, labels: &Value, node: Identity, ports: &[u16]) -> Result<()> {
        let flags: Vec<_> = ports.iter().map(|port| format!("--port={port}")).collect();
        let spec = pod_spec(Some(node), &[&["server".to_owned()], &flags[..]].concat());
        self.create(pod(name, labels, &spec))
    }

    fn await_server(&self, name: &str, ports: &[u16]) -> Result<Server> {
        let address = self.address(name)?;
        let listens = |log: &[Entry]| {
            let count = log.iter().filter(|entry| matches!(entry, Entry::Listening { .. })).count();
            if count == ports.len() { Ok(()) } else { Err(format!("it listens on {count} ports")) }
        };
        self.await_log(name, &format!("{name} listens"), listens)?;
        Ok(Server { name: name.to_owned(), address, ports: ports.to_vec() })
    }

    /// Starts a client with these arguments (`e2e-workload client --help`).
    pub fn client(&self, name: &str, labels: &Value, node: Identity, arguments: &[String]) -> Result<()> {
        let arguments = [&["client".to_owned()], arguments].concat();
        self.create(pod(name, labels, &pod_spec(Some(node), &arguments)))
    }

    /// The log of a client that has made all its connections.
    pub fn finished(&self, pod: &str) -> Result<Vec<Entry>> {
        let what = format!("{pod} has made its connections");
        wait::until(&what, PATIENCE, || {
            let path = format!("{}/{pod}/log?container={CONTAINER}&tailLines=1", self.pods_path());
            // Until the container has been started there is no log to ask for.
            let last = self.kubectl.api().text(&path).unwrap_or_default();
            let done = matches!(Entry::parse_all(&last).as_deref(), Ok([Entry::Done { .. }]));
            Ok(if done { Ok(()) } else { Err(format!("the last line of its log is {last:?}")) })
        })?;
        self.log(pod)
    }

    /// What a pod's workload has logged so far; nothing while it has not started. A failure in it is an error.
    pub fn log(&self, pod: &str) -> Result<Vec<Entry>> {
        let Ok(text) = self.kubectl.logs(&self.namespace, pod, CONTAINER) else { return Ok(Vec::new()) };
        let log = Entry::parse_all(&text)
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("the log of {pod}"))?;
        for entry in &log {
            if let Entry::Failed { reason } = entry {
                anyhow::bail!("{pod} failed: {reason}");
            }
        }
        Ok(log)
    }

    /// Waits until a pod's log holds what it should.
    pub fn await_log(
        &self,
        pod: &str,
        what: &str,
        holds: impl Fn(&[Entry]) -> Result<(), String>,
    ) -> Result<Vec<Entry>> {
        wait::until(what, PATIENCE, || {
            let log = self.log(pod)?;
            Ok(holds(&log).map(|()| log))
        })
    }

    /// A pod as the API server has it.
    pub fn pod(&self, name: &str) -> Result<Value> {
        self.kubectl.get(&format!("{}/{name}", self.pods_path()))
    }

    /// A trace as the API server has it.
    pub fn trace(&self, name: &str) -> Result<Value> {
        self.kubectl.get(&trace_path(&self.namespace, name))
    }

    /// Waits until a pod is Ready.
    pub fn await_ready(&self, name: &str) -> Result<Value> {
        wait::until(&format!("the pod {name} is Ready"), PATIENCE, || {
            let pod = self.pod(name)?;
            Ok(if is_true(&pod, "Ready") { Ok(pod) } else { Err(pod["status"].to_string()) })
        })
    }

    /// The pods with a label, as the API server has them.
    pub fn pods(&self, selector: &str) -> Result<Vec<Value>> {
        let mut pods = self.kubectl.get(&format!("{}?labelSelector={selector}", self.pods_path()))?;
        match pods["items"].take() {
            Value::Array(pods) => Ok(pods),
            other => anyhow::bail!("not a list of pods: {other}"),
        }
    }

    /// Waits until there are so many pods with a label, each with a node; their names.
    pub fn await_pods(&self, selector: &str, count: usize) -> Result<Vec<String>> {
        wait::until(&format!("there are {count} pods with {selector}"), PATIENCE, || {
            let pods = self.pods(selector)?;
            let names = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned));
            let names: Vec<_> = names.collect();
            Ok(if names.len() == count { Ok(names) } else { Err(format!("there are {}", names.len())) })
        })
    }

    /// What the lines about a pod must say, and what it logged. `workload` is for instance `("deployment", "web")`.
    pub fn source(&self, pod: &str, workload: (&str, &str), log: Vec<Entry>) -> Result<Source> {
        let object = self.pod(pod)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let names = [
            ("k8s.namespace.name", self.namespace.clone()),
            ("k8s.node.name", text(&object["spec"]["nodeName"])),
            ("k8s.pod.name", pod.to_owned()),
            ("k8s.pod.uid", text(&object["metadata"]["uid"])),
            ("k8s.container.name", CONTAINER.to_owned()),
            (&format!("k8s.{}.name", workload.0), workload.1.to_owned()),
            ("tcpstates.attribution.status", "resolved".to_owned()),
        ];
        Ok(Source { names: names.map(|(path, name)| (path.to_owned(), name)).into(), log })
    }

    /// A pod's address.
    pub fn address(&self, pod: &str) -> Result<Ipv4Addr> {
        let pod = self.await_ready(pod)?;
        let address = pod["status"]["podIP"].as_str().context("a pod that is Ready has an address")?;
        address.parse().with_context(|| format!("the pod's address {address}"))
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.kubectl.api().delete(&object_of(&self.namespace)) {
            eprintln!("{error:#}");
        }
    }
}

fn object_of(namespace: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
}

/// A pod of the workload.
pub fn pod(name: &str, labels: &Value, spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec})
}

/// What a pod of the workload consists of, for templates too. Without a node the scheduler chooses.
pub fn pod_spec(node: Option<Identity>, arguments: &[String]) -> Value {
    let mut spec = json!({
        "containers": [{"name": CONTAINER, "image": IMAGE, "imagePullPolicy": "IfNotPresent", "args": arguments}],
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        // The first process of a container ignores SIGTERM.
        "terminationGracePeriodSeconds": 0,
    });
    if let Some(node) = node {
        spec["nodeName"] = json!(node.name);
    }
    spec
}

/// A Deployment or `StatefulSet` of the workload; its pods have the labels that it selects them by.
pub fn workload(kind: &str, name: &str, labels: &Value, replicas: usize, mut spec: Value) -> Value {
    spec["restartPolicy"] = json!("Always");
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    });
    if kind == "StatefulSet" {
        object["spec"]["serviceName"] = json!(name);
        object["spec"]["podManagementPolicy"] = json!("Parallel");
    }
    object
}

/// The argument lists of a client that makes `count` connections, by every ending, to every target.
pub fn arguments<'a>(
    servers: impl IntoIterator<Item = &'a Server>,
    endings: &[&str],
    count: u64,
) -> Result<Vec<String>> {
    let targets: BTreeSet<_> = servers.into_iter().flat_map(Server::targets).collect();
    ensure!(!targets.is_empty(), "a client needs a server");
    let mut arguments = vec![format!("--count={count}")];
    arguments.extend(targets.iter().map(|target| format!("--target={target}")));
    arguments.extend(endings.iter().map(|ending| format!("--ending={ending}")));
    Ok(arguments)
}
