//! What the tests on a real Kubernetes share: the cluster, kubectl, and pods that make known traffic.
//!
//! ```text
//!   Cluster::up ──► Guard       takes everything down when the test program ends, however it ends
//!        │
//!        ├─ Node node-a ── etcd, kube-apiserver, controller manager, scheduler, containerd, kubelet
//!        └─ Node node-b ── containerd, kubelet
//!             │
//!             └ private mount, network and UTS namespaces; a cgroup root of its own; a bridge for its pods
//!
//!   Kubectl ─► apply, delete; Api ─► get     Scene ─► servers and clients (`e2e-workload`) ─► their logs ─┐
//!   Agents ──► tcptrace.yaml, traces ─► lines ─────────────────────────────────────► compare ◄─────────┘
//! ```
//! [`soak`] is no test of its own layer: one agent under everything at once, with pods that are objects and cgroups alone.
//!
//! A machine that cannot run them fails them with the reason. Nothing outside of these three places is touched:
//! the state directory, the cgroups of that name, and namespaces that end with their processes ([`cluster::place`]).

pub mod agent;
pub mod agent_pod;
pub mod api;
pub mod cluster;
pub mod compare;
pub mod flood;
pub mod front_proxy;
pub mod helm;
pub mod kubectl;
pub mod line;
pub mod operator;
pub mod process;
pub mod prometheus;
pub mod report;
pub mod rights;
pub mod scene;
pub mod soak;
pub mod stand_in;
pub mod stand_in_operator;
pub mod undo;
pub mod wait;
