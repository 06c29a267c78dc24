//! Which objects are watched and what is kept of each; the rest is dropped as soon as it is read.

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use kube::api::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::{Api, Client};
use kube_tcpstates_client::Watch;
use kube_tcpstates_crds::{ClusterTcpStateTrace, TcpStateTrace, TraceKind};

use super::change::{Change, NamespaceObject, NodeObject, told};
use super::resources::{CLUSTER_TRACES, ENDPOINT_SLICES, NAMESPACES, NODES, PODS, SERVICES, TRACES};
use super::slices::{EndpointSlice, OLDER};
use crate::peers::{News, ServiceInfo, SliceInfo};
use crate::plan::{TraceObject, thin};
use crate::roster::PodInfo;

/// The pods of a node.
pub(super) fn pods(client: &Client, node: &str) -> Watch<Pod, PodInfo, Change> {
    Watch {
        resource: PODS,
        api: Api::all(client.clone()),
        older: None,
        fields: Some(format!("spec.nodeName={node}")),
        keep: |pod| PodInfo::from_api(&pod),
        message: Change::Pods,
        thin: None,
        seen: None,
        lists_again: false,
    }
}

/// The node: its metadata, since its status changes all the time.
pub(super) fn node(client: &Client, node: &str) -> Watch<PartialObjectMeta<Node>, NodeObject, Change> {
    Watch {
        resource: NODES,
        api: Api::all(client.clone()),
        older: None,
        fields: Some(format!("metadata.name={node}")),
        keep: |node| {
            Some(NodeObject { uid: node.metadata.uid?, labels: node.metadata.labels.unwrap_or_default() })
        },
        message: Change::Nodes,
        thin: None,
        seen: None,
        lists_again: false,
    }
}

/// Labels of all namespaces.
pub(super) fn namespaces(client: &Client) -> Watch<PartialObjectMeta<Namespace>, NamespaceObject, Change> {
    Watch {
        resource: NAMESPACES,
        api: Api::all(client.clone()),
        older: None,
        fields: None,
        keep: |namespace| {
            let metadata = namespace.metadata;
            Some(NamespaceObject { name: metadata.name?, labels: metadata.labels.unwrap_or_default() })
        },
        message: Change::Namespaces,
        thin: None,
        seen: None,
        lists_again: false,
    }
}

/// Services of the whole cluster.
pub(super) fn services(client: &Client) -> Watch<Service, ServiceInfo, Change> {
    Watch {
        resource: SERVICES,
        api: Api::all(client.clone()),
        older: None,
        fields: None,
        keep: |service| ServiceInfo::from_api(&service),
        message: |delta| Change::News(Box::new(News::Services(told(delta)))),
        thin: None,
        seen: None,
        lists_again: false,
    }
}

/// The pods behind them.
pub(super) fn slices(client: &Client) -> Watch<EndpointSlice, SliceInfo, Change> {
    Watch {
        resource: ENDPOINT_SLICES,
        api: Api::all_with(client.clone(), &EndpointSlice::api("v1")),
        older: Some(Api::all_with(client.clone(), &EndpointSlice::api(OLDER))),
        fields: None,
        keep: |slice| slice.kept(),
        message: |delta| Change::News(Box::new(News::Slices(told(delta)))),
        thin: None,
        seen: None,
        lists_again: false,
    }
}

/// Traces of a kind, as JSON: a typed watch would lose the fields that this agent does not know, and trace more than
/// was asked.
pub(super) fn traces(client: &Client, kind: TraceKind) -> Watch<DynamicObject, TraceObject, Change> {
    match kind {
        TraceKind::Namespaced => Watch {
            resource: TRACES,
            api: Api::all_with(client.clone(), &ApiResource::erase::<TcpStateTrace>(&())),
            older: None,
            fields: None,
            keep: |trace| TraceObject::from_api(TraceKind::Namespaced, &serde_json::to_value(trace).ok()?),
            message: |delta| Change::Traces(TraceKind::Namespaced, Box::new(delta)),
            thin: Some(thin),
            seen: Some(|version| Change::Seen(TraceKind::Namespaced, version)),
            lists_again: true,
        },
        TraceKind::Cluster => Watch {
            resource: CLUSTER_TRACES,
            api: Api::all_with(client.clone(), &ApiResource::erase::<ClusterTcpStateTrace>(&())),
            older: None,
            fields: None,
            keep: |trace| TraceObject::from_api(TraceKind::Cluster, &serde_json::to_value(trace).ok()?),
            message: |delta| Change::Traces(TraceKind::Cluster, Box::new(delta)),
            thin: Some(thin),
            seen: Some(|version| Change::Seen(TraceKind::Cluster, version)),
            lists_again: true,
        },
    }
}

#[cfg(test)]
mod tests {
    use kube_tcpstates_client::{Delta, Resource};
    use kube_tcpstates_crds::{GROUP, VERSION};
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::resources;
    use crate::peers::Update;

    fn client() -> Client {
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        Client::try_from(nowhere).unwrap()
    }

    /// A watch reads what it says it does. Its field selector, and what it tells of an object.
    fn told<K: kube::Resource + DeserializeOwned, T>(
        watch: Watch<K, T, Change>,
        object: Value,
    ) -> (Option<String>, Change) {
        let read = Resource::of_path(watch.api.resource_url(), &resources::WATCHED);
        assert_eq!(read, Some(watch.resource));
        let kept = (watch.keep)(serde_json::from_value(object).unwrap()).unwrap();
        let change = (watch.message)(Delta::Applied(kept));
        assert_eq!(change.resource(), watch.resource);
        (watch.fields, change)
    }

    fn metadata(namespace: Option<&str>) -> Value {
        json!({"name": "a", "namespace": namespace, "uid": "u", "generation": 1, "labels": {"tier": "web"},
            "creationTimestamp": "2026-11-22T15:25:00Z"})
    }

    #[tokio::test]
    async fn pods_are_those_of_the_node() {
        let pod = json!({"metadata": metadata(Some("shop")), "spec": {"containers": []}});
        let (fields, change) = told(pods(&client(), "node-a"), pod);
        assert_eq!(fields.as_deref(), Some("spec.nodeName=node-a"));
        let Change::Pods(Delta::Applied(pod)) = change else { panic!("{change:?}") };
        assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_str()), ("shop", "a", "u"));
    }

    #[tokio::test]
    async fn of_the_node_and_of_namespaces_the_labels_are_kept() {
        let partial = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": metadata(None)});
        let labels = [("tier".to_owned(), "web".to_owned())];
        let (fields, change) = told(node(&client(), "node-a"), partial.clone());
        assert_eq!(fields.as_deref(), Some("metadata.name=node-a"));
        let kept = NodeObject { uid: "u".to_owned(), labels: labels.clone().into() };
        assert_eq!(change, Change::Nodes(Delta::Applied(kept)));
        let (fields, change) = told(namespaces(&client()), partial);
        assert_eq!(fields, None);
        let kept = NamespaceObject { name: "a".to_owned(), labels: labels.into() };
        assert_eq!(change, Change::Namespaces(Delta::Applied(kept)));
    }

    #[tokio::test]
    async fn services_and_slices_are_told_as_news_of_addresses() {
        let service = json!({"metadata": metadata(Some("shop")), "spec": {"clusterIP": "10.96.0.7"}});
        let (_, change) = told(services(&client()), service);
        let Change::News(news) = change else { panic!("{change:?}") };
        let News::Services(Update::Is(service)) = *news else { panic!("{news:?}") };
        assert_eq!((service.name.as_str(), service.own.len()), ("a", 1));

        let slice = json!({"metadata": metadata(Some("shop")), "addressType": "IPv4", "endpoints": []});
        let watch = slices(&client());
        let older = watch.older.as_ref().unwrap().resource_url().to_owned();
        assert_eq!(Resource::of_path(&older, &resources::WATCHED), Some(ENDPOINT_SLICES), "{older}");
        let (_, change) = told(watch, slice);
        let Change::News(news) = change else { panic!("{change:?}") };
        assert!(matches!(*news, News::Slices(Update::Is(_))), "{news:?}");
    }

    #[tokio::test]
    async fn both_kinds_of_trace_are_listed_anew_and_keep_fields_that_are_not_known() {
        for (kind, name, namespace) in [
            (TraceKind::Namespaced, "TcpStateTrace", Some("shop")),
            (TraceKind::Cluster, "ClusterTcpStateTrace", None),
        ] {
            let watch = traces(&client(), kind);
            assert!(watch.lists_again);
            let object = json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": name,
                "metadata": metadata(namespace), "spec": {"podSelector": {}, "future": true}});
            let (_, change) = told(watch, object.clone());
            let Change::Traces(told, delta) = change else { panic!("{change:?}") };
            assert_eq!(told, kind);
            assert_eq!(*delta, Delta::Applied(TraceObject::from_api(kind, &object).unwrap()));
        }
    }
}
