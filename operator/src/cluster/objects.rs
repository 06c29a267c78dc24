//! Which objects are watched and what is kept of each.

use k8s_openapi::api::core::v1::Node;
use kube::api::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::{Api, Client};
use kube_tcpstates_client::{Broken, Delta, Resource, Watch};
use kube_tcpstates_crds::{ClusterTcpStateTrace, TcpStateNode, TcpStateTrace, TraceKind};

use super::resources::{NODES, REPORTS, of_traces};
use crate::fold::{Change, NodeObject, Report, Trace};

/// What the loop is told.
#[derive(Debug)]
pub(super) enum Message {
    /// Something changed.
    Change(Box<Change>),
    /// A watch has started: one that was broken works again.
    Works(Resource),
    /// A list or watch does not work.
    Broken(Broken),
}

impl From<Broken> for Message {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl Message {
    /// What it is about.
    pub(super) fn resource(&self) -> Resource {
        match self {
            Self::Change(change) => match &**change {
                Change::Traces(kind, _) => of_traces(*kind),
                Change::Nodes(_) => NODES,
                Change::Reports(_) => REPORTS,
            },
            Self::Works(resource) => *resource,
            Self::Broken(broken) => broken.resource,
        }
    }

    /// Whether it is a whole list.
    pub(super) fn is_list(&self) -> bool {
        let Self::Change(change) = self else { return false };
        matches!(
            **change,
            Change::Traces(_, Delta::Listed(_))
                | Change::Nodes(Delta::Listed(_))
                | Change::Reports(Delta::Listed(_))
        )
    }
}

/// Traces of a kind, as JSON: what the operator does not know must be refused, not lost.
pub(super) fn traces(client: &Client, kind: TraceKind) -> Watch<DynamicObject, Trace, Message> {
    let (api, keep, message): (_, fn(DynamicObject) -> _, fn(_) -> _) = match kind {
        TraceKind::Namespaced => (
            ApiResource::erase::<TcpStateTrace>(&()),
            |trace| Trace::from_api(TraceKind::Namespaced, &serde_json::to_value(trace).ok()?),
            |delta| Message::Change(Box::new(Change::Traces(TraceKind::Namespaced, delta))),
        ),
        TraceKind::Cluster => (
            ApiResource::erase::<ClusterTcpStateTrace>(&()),
            |trace| Trace::from_api(TraceKind::Cluster, &serde_json::to_value(trace).ok()?),
            |delta| Message::Change(Box::new(Change::Traces(TraceKind::Cluster, delta))),
        ),
    };
    Watch {
        resource: of_traces(kind),
        api: Api::all_with(client.clone(), &api),
        older: None,
        fields: None,
        keep,
        message,
        lists_again: true,
        thin: None,
        seen: None,
    }
}

/// The report of every node, as JSON: agents may be newer than this operator.
pub(super) fn reports(client: &Client) -> Watch<DynamicObject, Report, Message> {
    Watch {
        resource: REPORTS,
        api: Api::all_with(client.clone(), &ApiResource::erase::<TcpStateNode>(&())),
        older: None,
        fields: None,
        keep: |report| Report::from_api(&serde_json::to_value(report).ok()?),
        message: |delta| Message::Change(Box::new(Change::Reports(delta))),
        lists_again: false,
        thin: None,
        seen: None,
    }
}

/// Every node: its metadata, since its status changes all the time.
pub(super) fn nodes(client: &Client) -> Watch<PartialObjectMeta<Node>, NodeObject, Message> {
    Watch {
        resource: NODES,
        api: Api::all(client.clone()),
        older: None,
        fields: None,
        keep: |node| {
            let metadata = node.metadata;
            Some(NodeObject { name: metadata.name?, labels: metadata.labels.unwrap_or_default() })
        },
        message: |delta| Message::Change(Box::new(Change::Nodes(delta))),
        lists_again: false,
        thin: None,
        seen: None,
    }
}
