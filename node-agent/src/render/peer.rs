//! The other end of a connection, as the member `peer` of the object `tcpstates`.

use kube_tcpstates_events::{Named, Peer as PeerLine, PeerK8s, PeerPod};

use super::MAX_LINE;
use super::append::Object;
use super::cache::Cache;
use super::event::Event;
use super::names::name;
use super::own::members;
use super::owner::{LABEL_MAX, NAME_MAX, named};
use super::whose::cut;
use crate::names::{Numbered, Peer};

/// Renderings of other ends, each made once.
#[derive(Debug, Default)]
pub(super) struct PeerNames {
    rendered: Cache<Vec<u8>>,
}

impl PeerNames {
    /// `,"peer":{"k8s":{...},"source":"service"}`, if it is known.
    pub(super) fn append(&mut self, out: &mut Vec<u8>, peer: Option<&Numbered<Peer>>) {
        if let Some(peer) = peer {
            members(out, self.rendered.of(peer, render));
        }
    }
}

/// Writes a line with the names of the other end; without them where it would be too long, which takes names of
/// hundreds of characters at both ends.
pub(super) fn where_it_fits(
    out: &mut Vec<u8>,
    event: &Event<'_>,
    mut write: impl FnMut(&mut Vec<u8>, &Event<'_>),
) {
    let start = out.len();
    write(out, event);
    if event.peer.is_some() && out.len() - start >= MAX_LINE {
        out.truncate(start);
        write(out, &Event { peer: None, ..*event });
    }
}

fn render(peer: &Peer) -> Vec<u8> {
    let mut out = Vec::new();
    let mut object = Object::member(&mut out, name!(peer));
    let mut k8s = object.object(name!(k8s));
    named(&mut k8s, "namespace", peer.namespace(), LABEL_MAX);
    named(&mut k8s, "service", peer.service.as_ref().map(|service| &*service.name), LABEL_MAX);
    if let Some(known) = &peer.pod {
        let mut pod = k8s.object("pod");
        pod.text("name", Some(&known.name), NAME_MAX);
        pod.text("uid", Some(&known.uid), LABEL_MAX);
        pod.close();
        if let Some(workload) = &known.workload {
            named(&mut k8s, workload.kind.as_str(), Some(&workload.name), NAME_MAX);
        }
    }
    k8s.close();
    object.text(name!(source), Some(peer.source.as_str()), LABEL_MAX);
    object.close();
    out
}

/// Who the other end is, as the type of lines that serde writes.
pub(super) fn line(peer: &Peer) -> PeerLine {
    let named = |name: &str, max| Some(Named { name: cut(name, max) });
    let mut k8s = PeerK8s {
        namespace: peer.namespace().and_then(|name| named(name, LABEL_MAX)),
        service: peer.service.as_ref().and_then(|service| named(&service.name, LABEL_MAX)),
        pod: peer
            .pod
            .as_ref()
            .map(|pod| PeerPod { name: cut(&pod.name, NAME_MAX), uid: cut(&pod.uid, LABEL_MAX) }),
        ..PeerK8s::default()
    };
    if let Some(workload) = peer.pod.as_ref().and_then(|pod| pod.workload.as_ref()) {
        let place = workload.kind.among([
            &mut k8s.deployment,
            &mut k8s.replicaset,
            &mut k8s.statefulset,
            &mut k8s.daemonset,
            &mut k8s.job,
            &mut k8s.cronjob,
        ]);
        *place = named(&workload.name, NAME_MAX);
    }
    PeerLine { k8s, source: peer.source }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kube_tcpstates_events::PeerSource;

    use super::PeerNames;
    use crate::names::{Numbered, Peer, PodName, ServiceName, Workload, WorkloadKind};

    #[test]
    fn a_service_a_pod_and_a_pod_behind_a_service_are_what_is_known_of_them() {
        let service = Arc::new(ServiceName { namespace: "shop".into(), name: "cart".into() });
        let workload = Workload { kind: WorkloadKind::Deployment, name: "cart".to_owned() };
        let pod = Arc::new(PodName {
            namespace: "shop".into(),
            name: "cart-7d4f-x".into(),
            uid: "u".into(),
            workload: Some(workload),
        });
        let shown = |service: Option<&Arc<ServiceName>>, pod: Option<&Arc<PodName>>, source| {
            let peer = Numbered::new(Peer { service: service.cloned(), pod: pod.cloned(), source });
            let mut out = Vec::new();
            PeerNames::default().append(&mut out, Some(&peer));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            shown(Some(&service), None, PeerSource::Service),
            r#","peer":{"k8s":{"namespace":{"name":"shop"},"service":{"name":"cart"}},"source":"service"}"#
        );
        assert_eq!(
            shown(None, Some(&pod), PeerSource::Node),
            r#","peer":{"k8s":{"namespace":{"name":"shop"},"pod":{"name":"cart-7d4f-x","uid":"u"},"deployment":{"name":"cart"}},"source":"node"}"#
        );
        let both = shown(Some(&service), Some(&pod), PeerSource::EndpointSlice);
        assert!(both.contains(r#""service":{"name":"cart"},"pod":{"#), "{both}");
        let mut out = Vec::new();
        PeerNames::default().append(&mut out, None);
        assert!(out.is_empty());
    }
}
