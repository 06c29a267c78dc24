//! A Kubernetes of two real nodes on this machine, in namespaces of its own.
//!
//! Up in about twelve seconds, down in one or two, however the test program ends ([`guard`]).

mod cgroup;
mod control_plane;
pub mod daemon;
pub mod guard;
pub mod network;
pub mod node;
pub mod pki;
pub mod place;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::kubectl::Kubectl;
use crate::wait;
use control_plane::ControlPlane;
use daemon::Daemon;
use guard::Guard;
use network::API_SERVICE;
use node::{Identity, Node};
use pki::Pki;

/// The node of the control plane, which runs pods as well.
pub const NODE_A: Identity = Identity { name: "node-a", address: Ipv4Addr::new(10, 89, 0, 2), pods: 0 };
/// The other node.
pub const NODE_B: Identity = Identity { name: "node-b", address: Ipv4Addr::new(10, 89, 0, 3), pods: 1 };

/// The cluster. Dropping it takes it down.
#[derive(Debug)]
pub struct Cluster {
    kubectl: Kubectl,
    control_plane: Mutex<ControlPlane>,
    nodes: [Node; 2],
    pki: Pki,
    _proxy: Daemon,
    // Last: what it takes down must not be looked after any more.
    _guard: Guard,
}

impl Cluster {
    /// Brings it up: the API server answers, both nodes are Ready and have the images.
    pub fn up(guard: &Path) -> Result<Self> {
        require()?;
        let kubernetes = place::given("KUBE_TCPSTATES_KUBERNETES")?;
        let start = Instant::now();
        let guard = Guard::post(guard)?;
        fs::create_dir_all(place::logs()).context("create the directory of the logs")?;
        cgroup::make(&[NODE_A.name, NODE_B.name])?;
        let pki = Pki::new(Path::new(place::STATE).join("pki"), &format!("https://{API_SERVICE}"))?;
        let [mut first, mut second] = [Node::new(NODE_A, &kubernetes)?, Node::new(NODE_B, &kubernetes)?];
        network::make(&first)?;
        network::join(&first, &second)?;
        let admin = pki.user("admin", "/O=system:masters/CN=admin")?;
        let kubectl = Kubectl::new(&first.command("kubectl"), &admin);
        let mut control_plane = ControlPlane::start(&first, &pki)?;
        let proxy = kubectl.command(&kubectl.api().proxy().each_ref().map(String::as_str));
        let proxy = Daemon::start("kubectl-proxy", &proxy)?;
        kubectl.api().await_proxy()?;
        start_containerd([&mut first, &mut second], &images()?)?;
        control_plane.await_api(&kubectl)?;
        control_plane.start_controllers(&first, &pki)?;
        for node in [&first, &second] {
            node.start_kubelet(&pki)?;
        }
        let mut cluster = Self {
            kubectl,
            control_plane: control_plane.into(),
            nodes: [first, second],
            pki,
            _proxy: proxy,
            _guard: guard,
        };
        cluster.await_nodes()?;
        eprintln!(
            "the cluster is up after {:.1} s; its logs are in {}",
            start.elapsed().as_secs_f64(),
            place::logs().display()
        );
        Ok(cluster)
    }

    /// kubectl as the cluster's administrator.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// The two nodes, the control plane's first.
    pub fn nodes(&self) -> &[Node; 2] {
        &self.nodes
    }

    /// The cluster's certificates.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Kills the API server. Every watch breaks; etcd keeps its data.
    pub fn kill_api_server(&self) -> Result<()> {
        self.control_plane().kill_api_server()
    }

    /// Starts the API server again and waits until it answers.
    pub fn start_api_server(&self) -> Result<()> {
        let mut control_plane = self.control_plane();
        control_plane.start_api_server(&self.nodes[0], &self.pki)?;
        control_plane.await_api(&self.kubectl)
    }

    /// Stops the API server where it is (SIGSTOP): connections stay, and nobody answers on them.
    pub fn freeze_api_server(&self) -> Result<()> {
        self.control_plane().freeze_api_server(true)
    }

    /// Has it go on, and waits until it answers.
    pub fn thaw_api_server(&self) -> Result<()> {
        let mut control_plane = self.control_plane();
        control_plane.freeze_api_server(false)?;
        control_plane.await_api(&self.kubectl)
    }

    /// Kills etcd: the API server goes on with what it has in its cache, and answers nothing else in time.
    pub fn kill_etcd(&self) -> Result<()> {
        self.control_plane().kill_etcd()
    }

    /// Starts etcd again, with its data, and waits until the API server is ready.
    pub fn start_etcd(&self) -> Result<()> {
        let mut control_plane = self.control_plane();
        control_plane.start_etcd(&self.nodes[0])?;
        control_plane.await_api(&self.kubectl)
    }

    fn control_plane(&self) -> std::sync::MutexGuard<'_, ControlPlane> {
        // A test that failed while it held the lock leaves nothing half done.
        self.control_plane.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn await_nodes(&mut self) -> Result<()> {
        wait::until("both nodes are Ready", Duration::from_mins(1), || {
            self.control_plane().check()?;
            self.nodes.iter_mut().try_for_each(Node::check)?;
            let nodes = self.kubectl.get("/api/v1/nodes")?;
            let ready =
                nodes["items"].as_array().into_iter().flatten().filter(|node| is_true(node, "Ready")).count();
            // A pod in a namespace whose service account is not there yet is refused.
            let account = self.kubectl.get("/api/v1/namespaces/default/serviceaccounts/default");
            Ok(match account {
                Ok(_) if ready == self.nodes.len() => Ok(()),
                Ok(_) => Err(format!("{ready} are")),
                Err(error) => Err(format!("{error:#}")),
            })
        })
    }
}

/// Whether a condition of an object's status is true.
pub fn is_true(object: &serde_json::Value, condition: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|it| it["type"] == condition && it["status"] == "True")
}

/// What the machine must have, apart from what `./x test e2e` looked for.
fn require() -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "it needs root: namespaces, mounts and cgroups are made");
    cgroup::require_hybrid()
}

/// The archives of images that every node gets.
fn images() -> Result<Vec<PathBuf>> {
    ["PAUSE", "WORKLOAD", "AGENT"]
        .into_iter()
        .map(|name| place::given(&format!("KUBE_TCPSTATES_{name}_IMAGE")))
        .collect()
}

/// On both nodes at a time.
fn start_containerd(nodes: [&mut Node; 2], images: &[PathBuf]) -> Result<()> {
    thread::scope(|scope| {
        let starts = nodes.map(|node| scope.spawn(move || node.start_containerd(images)));
        starts.into_iter().try_for_each(|start| match start.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}
