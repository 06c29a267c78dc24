//! Pods that come and go: a client and a server at a time, each an object of the API and a cgroup, in a network of their
//! own. Their workloads report what they did, so what happened is known exactly.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kube_tcpstates_kernel_tests::cgroup::{CgroupTree, Container};
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::traffic::{Churn, Server};
use kube_tcpstates_kernel_tests::workload::Ending;
use serde_json::{Value, json};

use super::agent::NODE;
use super::schedule::Numbers;
use super::stage::{Stage, lock};
use crate::cluster::place;
use crate::wait;

/// All of them are there.
pub(super) const NAMESPACE: &str = "soak";
/// The label that all of them have.
pub(super) const APP: &str = "soak";
/// Pairs at a time.
const AT_MOST: usize = 8;
/// Transitions of a listener's life: it begins to listen, and is closed.
const OF_LISTENER: u64 = 2;
/// So long until the agent knows of the last of them.
const PATIENCE: Duration = Duration::from_mins(3);

/// The pods of the soak.
#[derive(Debug)]
pub(super) struct Pods<'a> {
    stage: &'a Stage<'a>,
    tree: CgroupTree,
    working: AtomicUsize,
    /// Their work is done; their objects go when the agent has come to know of them.
    done: Mutex<Vec<(Instant, Pod)>>,
    sums: Mutex<Sums>,
}

/// What they did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) pods: u64,
    pub(super) connections: u64,
}

/// One of them.
#[derive(Debug)]
struct Pod {
    name: String,
    container: Container,
}

/// What one pair does.
#[derive(Clone, Copy, Debug)]
struct Work {
    ending: Ending,
    connections: u64,
    pause: Duration,
    /// The API tells of the container so long after it has begun to work; none: before.
    told_after: Option<Duration>,
}

impl Work {
    fn new(numbers: &mut Numbers) -> Self {
        let endings = [Ending::ClientFirst, Ending::ServerFirst, Ending::Reset];
        let ending = numbers.one_of(&endings).copied().unwrap_or(Ending::ClientFirst);
        let told_after = (numbers.between(0, 1) == 0).then(|| numbers.millis(0, 1_500));
        // One of ten is in a hurry.
        if numbers.between(0, 9) == 0 {
            let connections = numbers.between(500, 1_500);
            return Self { ending, connections, pause: Duration::ZERO, told_after };
        }
        let connections = numbers.between(20, 200);
        // Two threads share them.
        let pause = numbers.millis(1_000, 15_000) * 2 / u32::try_from(connections).unwrap_or(200);
        Self { ending, connections, pause, told_after }
    }
}

impl<'a> Pods<'a> {
    /// Below the cgroup of the cluster: whatever happens, they go with it.
    pub(super) fn new(stage: &'a Stage<'a>) -> Self {
        let tree = CgroupTree::below(&place::cgroup());
        Self { stage, tree, working: AtomicUsize::new(0), done: Mutex::default(), sums: Mutex::default() }
    }

    /// A node without a kubelet, and a pod of it that does nothing and stays: with it, something is always traced.
    pub(super) fn make_stage(&self) -> Result<()> {
        let api = self.stage.cluster.kubectl().api();
        api.create(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}))?;
        let pod = self.make("idle", "idle")?;
        self.tell_running(&pod)
    }

    /// Has them come and go until the load is over.
    pub(super) fn come_and_go(&self, seed: u64, end: Duration) -> Result<()> {
        let mut numbers = Numbers::new(seed, 6);
        let mut at = self.stage.reading.clock.0.elapsed();
        thread::scope(|scope| {
            for number in 0.. {
                at += numbers.millis(1_000, 4_000);
                if at >= end || !self.stage.sleep_until(at) {
                    break;
                }
                let work = Work::new(&mut numbers);
                if self.working.load(Ordering::Relaxed) < AT_MOST {
                    self.working.fetch_add(1, Ordering::Relaxed);
                    scope.spawn(move || {
                        self.stage.track("a pair of pods", || self.pair(number, work));
                        self.working.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                self.forget()?;
            }
            Ok(())
        })
    }

    /// One pair's whole life, but for its objects.
    fn pair(&self, number: u64, work: Work) -> Result<()> {
        let Work { ending, connections, pause, told_after } = work;
        let (client, server) = (
            self.make(&format!("client-{number}"), "client")?,
            self.make(&format!("server-{number}"), "server")?,
        );
        let network = Netns::new();
        network.widen_ports();
        self.stage
            .say(&format!("pair {number} begins: {connections} connections, {ending:?}, {pause:?} apart"));
        let tell = || [&client, &server].into_iter().try_for_each(|pod| self.tell_running(pod));
        if told_after.is_none() {
            tell()?;
        }
        let at = |pod: &Pod| Place::container(&pod.container).netns(&network);
        let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut serving = Server::start(&at(&server), &[listen], ending, false);
        let port = serving.addresses().first().context("it listens")?.port();
        let to = SocketAddr::from((Ipv4Addr::new(127, 77, 0, 1), port));
        let churn = Churn::new(&[to], connections).threads(2).spread(64).ending(ending).pause(pause);
        let running = churn.start(&at(&client));
        if let Some(after) = told_after {
            thread::sleep(after);
            tell()?;
        }
        let made = running.report().connections;
        serving.wait_for(made);
        serving.finish();
        let half = made * ending.transitions() / 2;
        let mut account = lock(&self.stage.reading.account);
        account.happened(&client.name, half);
        account.happened(&server.name, half + OF_LISTENER);
        drop(account);
        // As a runtime does, long before the object goes.
        client.container.remove();
        server.container.remove();
        let mut sums = lock(&self.sums);
        sums.pods += 2;
        sums.connections += made;
        drop(sums);
        lock(&self.done).extend([client, server].map(|pod| (Instant::now(), pod)));
        Ok(())
    }

    /// A pod's object, and the cgroup of its container.
    fn make(&self, name: &str, role: &str) -> Result<Pod> {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": NAMESPACE, "name": name, "labels": {"app": APP, "role": role}},
            "spec": {
                "nodeName": NODE, "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "app", "image": "localhost/none"}],
                "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
            },
        });
        let asking = self.stage.api();
        let made = self.stage.cluster.kubectl().api().created(&object)?;
        drop(asking);
        let uid = made["metadata"]["uid"].as_str().context("a pod has a uid")?;
        let container = self.tree.container_of(uid);
        lock(&self.stage.reading.account).expect(name, container.cgroup_id());
        Ok(Pod { name: name.to_owned(), container })
    }

    /// What a kubelet writes when a container runs.
    fn tell_running(&self, pod: &Pod) -> Result<()> {
        let status = json!({"status": {
            "phase": "Running",
            "containerStatuses": [{
                "name": "app", "image": "localhost/none", "imageID": "", "ready": true, "restartCount": 0,
                "containerID": format!("containerd://{}", pod.container.id),
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            }],
        }});
        let path = format!("{}/status", path(&pod.name));
        let _asking = self.stage.api();
        self.stage.cluster.kubectl().api().merge(&path, &status)
    }

    /// Deletes the objects of those that are done and that the agent has come to know.
    fn forget(&self) -> Result<()> {
        let mut known = Vec::new();
        lock(&self.done).retain(|(since, pod)| {
            let is_known = self.stage.is_known(*since);
            if is_known {
                known.push(pod.name.clone());
            }
            !is_known
        });
        for name in known {
            let _asking = self.stage.api();
            self.stage.cluster.kubectl().api().delete_path(&path(&name))?;
        }
        Ok(())
    }

    /// Waits until the last objects are deleted.
    pub(super) fn forget_all(&self) -> Result<()> {
        wait::until("the agent knows of the last pods", PATIENCE, || {
            self.forget()?;
            let left = lock(&self.done).len();
            Ok(if left == 0 { Ok(()) } else { Err(format!("{left} are left")) })
        })
    }

    pub(super) fn sums(&self) -> Sums {
        *lock(&self.sums)
    }
}

fn path(pod: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}")
}

/// The pods that the API server has.
pub(super) fn there(stage: &Stage<'_>) -> Result<usize> {
    let list: Value = stage
        .cluster
        .kubectl()
        .api()
        .get(&format!("/api/v1/namespaces/{NAMESPACE}/pods?resourceVersion=0"))?;
    Ok(list["items"].as_array().map_or(0, Vec::len))
}
