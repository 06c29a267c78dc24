//! What the watches tell the driver.

use std::collections::BTreeMap;

use kube_tcpstates_client::{Broken, Delta, Resource};
use kube_tcpstates_crds::TraceKind;

use super::resources::{self, ENDPOINT_SLICES, NAMESPACES, NODES, PODS, SERVICES};
use crate::peers::{News, Update};
use crate::plan::TraceObject;
use crate::roster::PodInfo;

/// The node's object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeObject {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceObject {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
}

/// One thing told.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Of pods.
    Pods(Delta<PodInfo>),
    /// Of the node.
    Nodes(Delta<NodeObject>),
    /// Of namespaces.
    Namespaces(Delta<NamespaceObject>),
    /// Of traces of a kind.
    Traces(TraceKind, Box<Delta<TraceObject>>),
    /// Traces of a kind are known up to a version.
    Seen(TraceKind, String),
    /// Of Services or of their slices.
    News(Box<News>),
    /// A list or watch does not work, and why.
    Broken(Broken),
    /// It works (again).
    Works(Resource),
}

impl Change {
    /// What it is about.
    pub const fn resource(&self) -> Resource {
        match self {
            Self::Pods(_) => PODS,
            Self::Nodes(_) => NODES,
            Self::Namespaces(_) => NAMESPACES,
            Self::News(news) => match **news {
                News::Services(_) => SERVICES,
                News::Slices(_) => ENDPOINT_SLICES,
            },
            Self::Traces(kind, _) | Self::Seen(kind, _) => resources::of_traces(*kind),
            Self::Broken(broken) => broken.resource,
            Self::Works(resource) => *resource,
        }
    }
}

impl From<Broken> for Change {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// What a watch tells, as whoever keeps no watches has it.
pub(super) fn told<T>(delta: Delta<T>) -> Update<T> {
    match delta {
        Delta::Listed(all) => Update::All(all),
        Delta::Applied(object) => Update::Is(object),
        Delta::Deleted(object) => Update::Gone(object),
    }
}
