//! Other ends: random ones, and what they are by way of the types.

use std::sync::Arc;

use kube_tcpstates_events as events;
use proptest::option;
use proptest::prelude::*;

use crate::names::{Peer, PodName, ServiceName, Workload, WorkloadKind};

pub(super) fn typed_peer(peer: &Peer) -> Box<events::Peer> {
    let named = |name: &str| events::Named { name: name.to_owned() };
    let pod = peer.pod.as_ref();
    let mut k8s = events::PeerK8s {
        namespace: peer.namespace().map(named),
        service: peer.service.as_ref().map(|service| named(&service.name)),
        pod: pod.map(|pod| events::PeerPod { name: pod.name.to_string(), uid: pod.uid.to_string() }),
        ..events::PeerK8s::default()
    };
    if let Some(workload) = pod.and_then(|pod| pod.workload.as_ref()) {
        let slot = match workload.kind {
            WorkloadKind::Deployment => &mut k8s.deployment,
            WorkloadKind::ReplicaSet => &mut k8s.replicaset,
            WorkloadKind::StatefulSet => &mut k8s.statefulset,
            WorkloadKind::DaemonSet => &mut k8s.daemonset,
            WorkloadKind::Job => &mut k8s.job,
            WorkloadKind::CronJob => &mut k8s.cronjob,
        };
        *slot = Some(named(&workload.name));
    }
    Box::new(events::Peer { k8s, source: peer.source })
}

pub(super) fn workload() -> impl Strategy<Value = Option<Workload>> {
    let kinds = prop::sample::select(vec![
        WorkloadKind::Deployment,
        WorkloadKind::ReplicaSet,
        WorkloadKind::StatefulSet,
        WorkloadKind::DaemonSet,
        WorkloadKind::Job,
        WorkloadKind::CronJob,
    ]);
    option::of((kinds, "[a-z]{1,20}").prop_map(|(kind, name)| Workload { kind, name }))
}

prop_compose! {
    pub(super) fn peer()(
        names in ("[a-z]{1,9}", "[a-z\"]{1,20}", "[a-z\n]{1,20}", "[a-f0-9-]{1,36}"),
        workload in workload(),
        is in (any::<bool>(), any::<bool>()),
        source in prop::sample::select(vec![
            events::PeerSource::Service, events::PeerSource::EndpointSlice, events::PeerSource::Node,
        ]),
    ) -> Peer {
        let namespace: Arc<str> = names.0.into();
        let service = ServiceName { namespace: Arc::clone(&namespace), name: names.1.into() };
        let pod = PodName { namespace, name: names.2.into(), uid: names.3.into(), workload };
        Peer {
            service: Some(Arc::new(service)).filter(|_| is.0 || !is.1),
            pod: Some(Arc::new(pod)).filter(|_| is.1),
            source,
        }
    }
}

/// A pod behind a Service.
pub(super) fn sample_peer() -> Peer {
    let namespace: Arc<str> = "shop".into();
    let service = ServiceName { namespace: Arc::clone(&namespace), name: "cart".into() };
    let pod = PodName { namespace, name: "cart-0".into(), uid: "u".into(), workload: None };
    Peer { service: Some(service.into()), pod: Some(pod.into()), source: events::PeerSource::EndpointSlice }
}
