//! Names of the other end: only for traces that ask, of who had the address when the connection began; and Services and
//! slices are watched only while a trace of the node asks.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates_e2e_tests::agent::Agents;
use kube_tcpstates_e2e_tests::agent_pod::AgentPod;
use kube_tcpstates_e2e_tests::cluster::node::Node;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::line::Line;
use kube_tcpstates_e2e_tests::scene::{Scene, Server, arguments};
use kube_tcpstates_e2e_tests::wait;
use serde_json::{Value, json};

pub(crate) const TESTS: crate::Tests =
    &[("the_other_end_is_named_to_those_who_ask_and_watched_for_them_alone", named_to_those_who_ask)];

const PATIENCE: Duration = Duration::from_secs(30);
/// Of Services and of slices.
const RESOURCES: [&str; 2] = ["resource=\"services\"", "resource=\"endpointslices\""];

fn named_to_those_who_ask(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "peers")?;
    let labels = |app: &str| json!({"app": app});
    let server = scene.server("server", &labels("server"), NODE_B, &[8080])?;
    let cluster_ip = service(&scene, cluster, "cart", "server", &json!({}))?;
    let _address = Loopback::new(&cluster.nodes()[0], cluster_ip)?;
    let selector = |app: &str| json!({"podSelector": {"matchLabels": labels(app)}});

    // Nobody asks: no names, no watch. For tests before this one the agent may have asked.
    let asked = || -> Result<f64> {
        Ok(AgentPod::of_node(cluster, NODE_A)?
            .metrics()?
            .sum("kube_tcpstates_api_requests_total", &RESOURCES))
    };
    let asked_before = asked()?;
    agents.trace("peers", "plain", &selector("plain"))?;
    let before = watchers(cluster)?;
    run(&scene, "plain", NODE_A, &server, cluster_ip)?;
    let lines = agents.await_lines("peers/plain", 12)?;
    ensure!(lines.len() >= 12 && lines.iter().all(|line| peer(line).is_none()), "{lines:?}");
    assert!((asked()? - asked_before).abs() < 0.5, "it asked for Services or slices");

    // Somebody asks on the client's node; then on the server's, too.
    agents.trace("peers", "clients", &asking("client"))?;
    scene.server("client-stays", &labels("client"), NODE_A, &[9])?;
    await_watched(cluster, NODE_A, true)?;
    assert_eq!(watchers(cluster)?, before + 1, "one agent watches slices");
    service(&scene, cluster, "clients", "client", &json!({"clusterIP": "None"}))?;
    agents.trace("peers", "servers", &asking("server"))?;
    await_watched(cluster, NODE_B, true)?;
    run(&scene, "client", NODE_A, &server, cluster_ip)?;
    clients_lines(&agents, &server, cluster_ip)?;
    servers_lines(&agents)?;

    server_that_goes(&agents, &scene, cluster, &server)?;

    for name in ["clients", "servers"] {
        agents.untrace("peers", name)?;
    }
    for node in [NODE_A, NODE_B] {
        await_watched(cluster, node, false)?;
    }
    wait::until("nobody watches slices any more", PATIENCE, || {
        let now = watchers(cluster)?;
        Ok(if now == before { Ok(()) } else { Err(format!("{now} do, and {before} did before")) })
    })
}

fn asking(app: &str) -> Value {
    json!({"podSelector": {"matchLabels": {"app": app}}, "peerNames": true})
}

/// Connections to the server's pod and, in vain, to its Service.
fn run(
    scene: &Scene<'_>,
    app: &str,
    node: kube_tcpstates_e2e_tests::cluster::node::Identity,
    server: &Server,
    cluster_ip: Ipv4Addr,
) -> Result<()> {
    // A slice has the client, too, by then.
    let rest = ["--sleep-before-ms=4000".to_owned(), "--closed-port=80".to_owned()];
    let pod = [&rest[..], &arguments([server], &["client-close"], 2)?].concat();
    scene.client(app, &json!({"app": app}), node, &pod)?;
    let target = format!("--target={cluster_ip}:80");
    let service = [&rest[..], &[target, "--ending=refused".to_owned(), "--count=2".to_owned()]].concat();
    let name = format!("{app}-of-service");
    scene.client(&name, &json!({"app": app}), node, &service)?;
    for name in [app, &name] {
        scene.finished(name)?;
    }
    Ok(())
}

fn peer(line: &Line) -> Option<&Value> {
    line.get("tcpstates.peer")
}

fn clients_lines(agents: &Agents<'_>, server: &Server, cluster_ip: Ipv4Addr) -> Result<()> {
    let lines = agents.await_lines("peers/clients", 12)?;
    let to = |address: Ipv4Addr| {
        let address = address.to_string();
        lines
            .iter()
            .filter(move |line| line.text("network.peer.address") == Some(&address))
            .collect::<Vec<_>>()
    };
    let (pod, service) = (to(server.address), to(cluster_ip));
    ensure!(pod.len() >= 8 && service.len() >= 4, "{} and {} lines", pod.len(), service.len());
    for line in &service {
        let expected = json!({
            "k8s": {"namespace": {"name": "peers"}, "service": {"name": "cart"}}, "source": "service",
        });
        assert_eq!(peer(line), Some(&expected), "{}", line.0);
    }
    for line in &pod {
        assert_eq!(line.text("tcpstates.peer.k8s.pod.name"), Some("server"), "{}", line.0);
        assert_eq!(line.text("tcpstates.peer.k8s.namespace.name"), Some("peers"), "{}", line.0);
        assert_eq!(line.text("tcpstates.peer.k8s.service.name"), Some("cart"), "{}", line.0);
        assert_eq!(line.text("tcpstates.peer.source"), Some("endpointslice"), "{}", line.0);
    }
    eprintln!("{}\n{}", service[0].0, pod[0].0);
    Ok(())
}

/// The server sees the client's own address, of a pod that serves nothing.
fn servers_lines(agents: &Agents<'_>) -> Result<()> {
    let lines = agents.await_lines("peers/servers", 6)?;
    let of_client =
        lines.iter().filter(|line| line.get("network.peer.address").is_some()).collect::<Vec<_>>();
    ensure!(of_client.len() >= 6, "{} lines", of_client.len());
    for line in of_client {
        assert_eq!(line.text("tcpstates.peer.k8s.pod.name"), Some("client"), "{}", line.0);
        assert_eq!(line.text("tcpstates.peer.k8s.service.name"), Some("clients"), "{}", line.0);
    }
    Ok(())
}

/// A connection outlives the pod at its other end, and keeps its name.
fn server_that_goes(
    agents: &Agents<'_>,
    scene: &Scene<'_>,
    cluster: &Cluster,
    server: &Server,
) -> Result<()> {
    let held = [&["--hold-ms=16000".to_owned()][..], &arguments([server], &["client-close"], 1)?].concat();
    scene.client("holds", &json!({"app": "client"}), NODE_A, &held)?;
    let of_holder = || -> Result<Vec<Line>> {
        let mut lines = agents.of("peers/clients")?;
        lines.retain(|line| line.text("k8s.pod.name") == Some("holds"));
        Ok(lines)
    };
    wait::until("the connection is there", PATIENCE, || {
        let lines = of_holder()?;
        let is_there = lines.iter().any(|line| line.text("tcpstates.new_state") == Some("ESTABLISHED"));
        Ok(if is_there { Ok(()) } else { Err(format!("{} lines", lines.len())) })
    })?;
    named_while_open(agents)?;
    let kubectl = cluster.kubectl();
    kubectl.run(&["delete", "pod", "server", "--namespace=peers", "--wait=false"])?;
    wait::until("no slice has the server any more", PATIENCE, || {
        let slices = kubectl.get(
            "/apis/discovery.k8s.io/v1beta1/namespaces/peers/endpointslices?labelSelector=kubernetes.io/service-name=cart",
        )?;
        let text = slices["items"].to_string();
        Ok(if text.contains(&server.address.to_string()) { Err(text) } else { Ok(()) })
    })?;
    let gone = jiff::Timestamp::now().to_string();
    // Its own FIN, which nobody acknowledges any more.
    let line = wait::until("the client closes its end", PATIENCE, || {
        let lines = of_holder()?;
        let later = lines.iter().find(|line| line.text("time") > Some(&*gone));
        Ok(later.cloned().ok_or_else(|| format!("{} lines", lines.len())))
    })?;
    assert_eq!(line.text("tcpstates.peer.k8s.pod.name"), Some("server"), "{}", line.0);
    Ok(())
}

/// The first snapshot of a trace that asks names the other end already.
fn named_while_open(agents: &Agents<'_>) -> Result<()> {
    let mut spec = asking("client");
    spec["openSockets"] = json!({"every": "1h", "states": ["ESTABLISHED"]});
    agents.trace("peers", "open", &spec)?;
    let line = wait::until("the connection is shown", PATIENCE, || {
        let lines = agents.new_lines("peers/open")?;
        let is_holders = |line: &&Line| {
            line.is("socket") && line.is_of("peers/open") && line.text("k8s.pod.name") == Some("holds")
        };
        Ok(lines.iter().find(is_holders).cloned().ok_or_else(|| format!("{} lines", lines.len())))
    })?;
    assert_eq!(line.text("tcpstates.peer.k8s.pod.name"), Some("server"), "{}", line.0);
    assert_eq!(line.text("tcpstates.peer.k8s.service.name"), Some("cart"), "{}", line.0);
    eprintln!("{}", line.0);
    agents.untrace("peers", "open")
}

/// Makes a Service for the pods of an app; its address, if it has one.
fn service(scene: &Scene<'_>, cluster: &Cluster, name: &str, app: &str, more: &Value) -> Result<Ipv4Addr> {
    let mut spec = json!({"selector": {"app": app}, "ports": [{"port": 80, "targetPort": 8080}]});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    scene.create(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}))?;
    let service =
        cluster.kubectl().get(&format!("/api/v1/namespaces/{}/services/{name}", scene.namespace()))?;
    let address = service["spec"]["clusterIP"].as_str().context("a Service says its address")?;
    Ok(address.parse().unwrap_or(Ipv4Addr::UNSPECIFIED))
}

/// Waits until an agent watches both, or neither.
fn await_watched(
    cluster: &Cluster,
    node: kube_tcpstates_e2e_tests::cluster::node::Identity,
    watched: bool,
) -> Result<()> {
    let agent = AgentPod::of_node(cluster, node)?;
    let what = format!("the agent of {} watches Services and slices: {watched}", node.name);
    agent.await_metrics(&what, PATIENCE, |metrics| {
        let samples = metrics.samples("kube_tcpstates_api_in_sync");
        let both = samples.filter(|(labels, value)| RESOURCES.contains(labels) && *value > 0.5).count();
        both == if watched { 2 } else { 0 }
    })?;
    Ok(())
}

/// Watches of slices that are open at the API server.
fn watchers(cluster: &Cluster) -> Result<u64> {
    let metrics = cluster.kubectl().api().text("/metrics")?;
    let of_slices = metrics.lines().filter(|line| {
        line.starts_with("apiserver_registered_watchers{") && line.contains("kind=\"EndpointSlice\"")
    });
    let count = of_slices.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of a few")]
    Ok(count as u64)
}

/// An address on a node's loopback: no kube-proxy answers for a Service here.
struct Loopback<'a> {
    node: &'a Node,
    address: Ipv4Addr,
}

impl<'a> Loopback<'a> {
    fn new(node: &'a Node, address: Ipv4Addr) -> Result<Self> {
        node.ip(&format!("addr add {address}/32 dev lo\n"))?;
        Ok(Self { node, address })
    }
}

impl Drop for Loopback<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.node.ip(&format!("addr del {}/32 dev lo\n", self.address)) {
            eprintln!("{error:#}");
        }
    }
}
