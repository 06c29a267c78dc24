//! Whose a socket is, as the types of lines have it: for lines that serde writes. Every text is cut, so that the line fits.

use std::fmt::Write as _;

use kube_tcpstates_common::state::State;
use kube_tcpstates_events::{
    Cgroup, ConnectionState, Container, ContainerRuntime, Endpoint, Host, Interface, K8s, Named, Netns,
    Network, OpenAttributes, OpenConnection, Ownership, Pod, Process, Thread, Transport,
};

use super::{
    escape::{self, clip},
    event::{Event, comm, otel_state},
    owner::{FREE_MAX, LABEL_MAX, NAME_MAX, pod_labels},
    traces,
};
use crate::{
    decode::{self, Transition},
    names::Owner,
};

/// Bytes that the labels of a pod may take.
const LABELS_MAX: usize = 1_000;

/// What any socket's line has outside of `tcpstates`.
pub(super) struct Around {
    pub(super) network: Network,
    pub(super) k8s: Option<Box<K8s>>,
    pub(super) container: Option<Container>,
    pub(super) process: Option<Process>,
    pub(super) thread: Option<Thread>,
}

impl Around {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let process = event.transition.process.as_ref();
        let owner = event.owner.map(|owner| &**owner);
        Self {
            network: network(event.transition),
            k8s: owner.and_then(k8s).map(Box::new),
            container: owner.and_then(container),
            process: process.map(|process| Process { pid: process.pid }),
            thread: process.and_then(|process| thread(&process.comm)),
        }
    }
}

/// The container of an owner.
pub(super) fn container(owner: &Owner) -> Option<Container> {
    owner.container_id.as_deref().map(|id| Container { id: cut(id, FREE_MAX) })
}

fn network(transition: &Transition) -> Network {
    let end = |end: &decode::Endpoint, any_address: bool| {
        let known = any_address || !end.address.is_unspecified();
        Endpoint {
            address: known.then(|| end.address.to_string()),
            port: (end.port != 0).then_some(end.port),
        }
    };
    let listens = transition.new_state == State::LISTEN;
    Network {
        transport: Transport::Tcp,
        kind: transition.family,
        local: end(&transition.local, listens),
        peer: transition.peer.as_ref().filter(|_| !listens).map(|peer| end(peer, false)),
        connection: otel_state(transition.new_state).map(|state| ConnectionState { state: state.to_owned() }),
    }
}

fn thread(name: &[u8; 16]) -> Option<Thread> {
    let name = comm(name);
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        text += chunk.valid();
        for byte in chunk.invalid() {
            // A string takes every write.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    (!name.is_empty()).then_some(Thread { name: text })
}

/// The Kubernetes objects of an owner; `None` where nothing is known of any.
pub(super) fn k8s(owner: &Owner) -> Option<K8s> {
    let named = |name: &Option<String>, max| name.as_deref().map(|name| Named { name: cut(name, max) });
    let labels = shown_labels(owner);
    let has_pod = owner.pod_name.is_some() || owner.pod_uid.is_some() || !labels.is_empty();
    let pod = has_pod.then(|| Pod {
        name: owner.pod_name.as_deref().map(|name| cut(name, NAME_MAX)),
        uid: owner.pod_uid.as_deref().map(|uid| cut(uid, LABEL_MAX)),
        label: labels.into_iter().collect(),
    });
    let mut k8s = K8s {
        cluster: named(&owner.cluster, FREE_MAX),
        node: named(&owner.node, NAME_MAX),
        namespace: named(&owner.namespace, LABEL_MAX),
        pod,
        container: named(&owner.container_name, LABEL_MAX),
        ..K8s::default()
    };
    if let Some(workload) = &owner.workload {
        let place = workload.kind.among([
            &mut k8s.deployment,
            &mut k8s.replicaset,
            &mut k8s.statefulset,
            &mut k8s.daemonset,
            &mut k8s.job,
            &mut k8s.cronjob,
        ]);
        *place = Some(Named { name: cut(&workload.name, NAME_MAX) });
    }
    (k8s != K8s::default()).then_some(k8s)
}

fn shown_labels(owner: &Owner) -> Vec<(String, String)> {
    let mut used = 0;
    let mut shown = Vec::new();
    for (key, value) in pod_labels(&owner.pod_labels).shown {
        let value = cut(value, LABEL_MAX);
        let mut escaped = Vec::new();
        escape::json(&mut escaped, &key);
        used += escaped.len() + value.len() + 6;
        if used > LABELS_MAX {
            break;
        }
        shown.push((key, value));
    }
    shown
}

/// What is our own of whose a socket is. `id` is the connection's, where a tracer has a record of it.
pub(super) fn own(event: &Event<'_>, id: Option<u64>) -> OpenAttributes {
    let transition = event.transition;
    let owner = event.owner.map(|owner| &**owner);
    let (traces, cluster_traces, traces_omitted) = traces::lists(event.traces);
    OpenAttributes {
        role: transition.role,
        mptcp: transition.mptcp,
        dual_stack: transition.v4_mapped,
        connection: (id.is_some() || transition.cookie.is_some()).then(|| OpenConnection {
            id: id.map(|id| format!("{id:016x}")),
            cookie: transition.cookie.map(|cookie| cookie.to_string()),
        }),
        owner: transition.process.as_ref().map(|process| Ownership { source: process.source }),
        qos: owner.and_then(|owner| owner.qos).map(str::to_owned),
        labels_omitted: owner.and_then(labels_omitted),
        container: owner.and_then(runtime),
        host: owner.and_then(host),
        cgroup: transition.cgroup_id.map(|id| Cgroup { id: id.to_string() }),
        interface: transition.interface.map(|index| Interface { index }),
        netns: netns(transition),
        attribution: event.attribution,
        traces,
        cluster_traces,
        traces_omitted,
    }
}

/// How many labels of the pod are not shown; `None` where all are.
pub(super) fn labels_omitted(owner: &Owner) -> Option<u32> {
    let omitted = owner.pod_labels.len() - shown_labels(owner).len();
    u32::try_from(omitted).ok().filter(|omitted| *omitted > 0)
}

/// What runs the container.
pub(super) fn runtime(owner: &Owner) -> Option<ContainerRuntime> {
    owner.runtime.map(|runtime| ContainerRuntime { runtime: runtime.to_owned() })
}

/// The unit of a process of the host.
pub(super) fn host(owner: &Owner) -> Option<Host> {
    let text = |text: &Option<String>| text.as_deref().map(|text| cut(text, FREE_MAX));
    let host = Host { slice: text(&owner.host_slice), unit: text(&owner.host_unit) };
    (host != Host::default()).then_some(host)
}

/// A socket's network namespace.
pub(super) fn netns(transition: &Transition) -> Option<Netns> {
    let netns =
        Netns { inode: transition.netns, cookie: transition.netns_cookie.map(|cookie| cookie.to_string()) };
    (netns != Netns::default()).then_some(netns)
}

pub(super) fn cut(text: &str, max: usize) -> String {
    clip(text, max).into_owned()
}
