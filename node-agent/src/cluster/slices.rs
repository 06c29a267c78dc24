//! `EndpointSlice`s, read no further than to whom which address belongs, in either version of the API: generated types
//! take one version only, and JSON of any form takes many times the memory.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ApiResource;
use kube::core::NamespaceResourceScope;
use serde::Deserialize;

use crate::peers::{Endpoint, SliceInfo};

/// The version that servers before 1.21 have.
pub(super) const OLDER: &str = "v1beta1";

const GROUP: &str = "discovery.k8s.io";
const KIND: &str = "EndpointSlice";
const PLURAL: &str = "endpointslices";
/// Label with the name of the Service.
const SERVICE: &str = "kubernetes.io/service-name";
/// Annotation with the time of the last change of a pod or of the Service that a slice tells of.
const CHANGED: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// A slice as the API server hands it out.
#[derive(Clone, Debug, Deserialize)]
pub struct EndpointSlice {
    metadata: ObjectMeta,
    #[serde(default)]
    endpoints: Option<Vec<ApiEndpoint>>,
    #[serde(default)]
    ports: Option<Vec<ApiPort>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiEndpoint {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    target_ref: Option<Target>,
}

#[derive(Clone, Debug, Deserialize)]
struct Target {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    uid: String,
}

#[derive(Clone, Debug, Deserialize)]
struct ApiPort {
    #[serde(default)]
    port: Option<u16>,
}

impl EndpointSlice {
    /// Where slices are in a version.
    pub(super) fn api(version: &str) -> ApiResource {
        ApiResource {
            group: GROUP.to_owned(),
            version: version.to_owned(),
            api_version: format!("{GROUP}/{version}"),
            kind: KIND.to_owned(),
            plural: PLURAL.to_owned(),
        }
    }

    /// What is kept of it. `None` for an object without a name or a namespace, which no API server hands out.
    pub fn kept(self) -> Option<SliceInfo> {
        let metadata = self.metadata;
        let text =
            |map: Option<&std::collections::BTreeMap<String, String>>, key: &str| map?.get(key).cloned();
        let changed = text(metadata.annotations.as_ref(), CHANGED);
        let changed = changed.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        Some(SliceInfo {
            service: text(metadata.labels.as_ref(), SERVICE).filter(|name| !name.is_empty()),
            namespace: metadata.namespace?,
            name: metadata.name?,
            changed_s: changed.map(jiff::Timestamp::as_second),
            ports: ports(self.ports),
            endpoints: self.endpoints.into_iter().flatten().flat_map(pods).collect(),
        })
    }
}

/// None where one of them is any port.
fn ports(ports: Option<Vec<ApiPort>>) -> Vec<u16> {
    let ports: Option<Vec<u16>> = ports.into_iter().flatten().map(|port| port.port).collect();
    ports.unwrap_or_default()
}

/// Addresses that are no pod's have nobody to name. Those of a slice of names are no addresses.
fn pods(endpoint: ApiEndpoint) -> impl Iterator<Item = Endpoint> {
    let is_pod = |target: &Target| target.kind == "Pod" && !target.name.is_empty() && !target.uid.is_empty();
    let target = endpoint.target_ref.filter(is_pod);
    target.into_iter().flat_map(move |Target { name, uid, .. }| {
        let addresses: Vec<_> = endpoint.addresses.iter().filter_map(|text| text.parse().ok()).collect();
        addresses.into_iter().map(move |address| Endpoint { address, pod: name.clone(), uid: uid.clone() })
    })
}

impl kube::Resource for EndpointSlice {
    type DynamicType = ApiResource;
    type Scope = NamespaceResourceScope;

    fn kind(api: &ApiResource) -> Cow<'_, str> {
        api.kind.as_str().into()
    }

    fn group(api: &ApiResource) -> Cow<'_, str> {
        api.group.as_str().into()
    }

    fn version(api: &ApiResource) -> Cow<'_, str> {
        api.version.as_str().into()
    }

    fn plural(api: &ApiResource) -> Cow<'_, str> {
        api.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::EndpointSlice;
    use crate::peers::{Endpoint, SliceInfo};

    fn kept(object: Value) -> Option<SliceInfo> {
        serde_json::from_value::<EndpointSlice>(object).unwrap().kept()
    }

    fn slice(version: &str) -> Value {
        json!({
            "apiVersion": format!("discovery.k8s.io/{version}"), "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "namespace": "shop", "name": "cart-x7k2p",
                "labels": {"kubernetes.io/service-name": "cart", "endpointslice.kubernetes.io/managed-by": "someone"},
                "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-11-22T15:25:00.5Z"},
            },
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "metrics", "port": 9090}],
            "endpoints": [
                {"addresses": ["10.1.0.2"], "conditions": {"ready": false}, "nodeName": "n1",
                 "targetRef": {"kind": "Pod", "namespace": "shop", "name": "cart-0", "uid": "u0", "resourceVersion": "7"}},
                {"addresses": ["192.0.2.1"]},
                {"addresses": ["192.0.2.2"], "targetRef": {"kind": "ExternalWorkload", "name": "w", "uid": "u1"}},
                {"addresses": ["cart.example.com"], "targetRef": {"kind": "Pod", "name": "cart-1", "uid": "u2"}},
            ],
        })
    }

    #[test]
    fn of_a_slice_in_either_version_the_pods_are_kept_with_service_ports_and_time() {
        for version in ["v1", super::OLDER] {
            let expected = SliceInfo {
                namespace: "shop".to_owned(),
                name: "cart-x7k2p".to_owned(),
                service: Some("cart".to_owned()),
                changed_s: Some(1_795_361_100),
                ports: vec![8080, 9090],
                endpoints: vec![Endpoint {
                    address: "10.1.0.2".parse().unwrap(),
                    pod: "cart-0".to_owned(),
                    uid: "u0".to_owned(),
                }],
            };
            assert_eq!(kept(slice(version)), Some(expected), "{version}");
        }
    }

    #[test]
    fn a_slice_that_says_little_is_still_one() {
        let mut silent = slice("v1");
        for member in ["endpoints", "ports"] {
            silent[member] = Value::Null;
        }
        silent["metadata"] = json!({"namespace": "shop", "name": "a", "labels": {"kubernetes.io/service-name": ""},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "lately"}});
        let expected =
            SliceInfo { namespace: "shop".to_owned(), name: "a".to_owned(), ..SliceInfo::default() };
        assert_eq!(kept(silent), Some(expected));
        let mut any = slice("v1");
        any["ports"][1] = json!({"name": "any"});
        assert_eq!(kept(any).unwrap().ports, [0_u16; 0], "a port that is not said is every port");
        assert_eq!(kept(json!({"metadata": {"name": "a"}, "endpoints": []})), None);
    }
}
