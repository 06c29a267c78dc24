//! Who the other end of a connection is, by the names that lines show.

use std::sync::Arc;

use kube_tcpstates_events::PeerSource;

use super::Workload;

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// A pod at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its UID.
    pub uid: Box<str>,
    /// What owns it, where that is known: of pods of this node.
    pub workload: Option<Workload>,
}

/// The other end. One of `service` and `pod` at least is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The Service whose address it is, or the only one that the pod is behind.
    pub service: Option<Arc<ServiceName>>,
    /// The pod.
    pub pod: Option<Arc<PodName>>,
    /// What told it.
    pub source: PeerSource,
}

impl Peer {
    /// The namespace of whatever it is.
    pub fn namespace(&self) -> Option<&str> {
        let pod = self.pod.as_ref().map(|pod| &pod.namespace);
        pod.or(self.service.as_ref().map(|service| &service.namespace)).map(|name| &**name)
    }
}
