//! From a trace as the API server hands it out to what the planner works by.

use kube_tcpstates_crds::validate::check_stored;
use kube_tcpstates_crds::{TraceIdentity, TraceKind};
use serde_json::Value;

use super::TraceObject;

impl TraceObject {
    /// A trace from its JSON, under the terms of [`TraceIdentity::read`]. A spec that cannot be traced is kept with its
    /// refusal.
    pub fn from_api(kind: TraceKind, object: &Value) -> Option<Self> {
        let TraceIdentity { key, uid, generation, created, spec_bytes } = TraceIdentity::read(kind, object)?;
        let checked = check_stored(kind, object);
        Some(Self { key, uid, generation, created_s: created.as_second(), bytes: spec_bytes, checked })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use kube_tcpstates_crds::TraceKey;

    use super::*;

    fn object() -> Value {
        json!({
            "metadata": {
                "name": "egress", "namespace": "shop", "uid": "u1", "generation": 3,
                "creationTimestamp": "2026-11-22T15:25:00Z", "managedFields": [],
            },
            "spec": {"podSelector": {}},
            "status": {},
        })
    }

    #[test]
    fn a_trace_is_read_without_its_kind() {
        let trace = TraceObject::from_api(TraceKind::Namespaced, &object()).unwrap();
        assert_eq!(trace.key, TraceKey { namespace: Some("shop".to_owned()), name: "egress".to_owned() });
        assert_eq!((trace.uid.as_str(), trace.generation, trace.created_s), ("u1", 3, 1_795_361_100));
        assert!(trace.checked.is_ok());
    }

    #[test]
    fn a_spec_of_a_later_version_is_kept_as_refused() {
        let mut object = object();
        object["spec"]["onlyTls"] = json!(true);
        let refusal = TraceObject::from_api(TraceKind::Namespaced, &object).unwrap().checked.unwrap_err();
        assert_eq!(
            (refusal.reason(), refusal.errors()[0].field.as_str()),
            ("UnsupportedByAgent", "spec.onlyTls")
        );
    }

    #[test]
    fn a_cluster_trace_has_no_namespace_and_the_other_kind_has_one() {
        assert_eq!(TraceObject::from_api(TraceKind::Cluster, &object()), None);
        let mut object = object();
        object["metadata"].as_object_mut().unwrap().remove("namespace");
        assert_eq!(TraceObject::from_api(TraceKind::Namespaced, &object), None);
        object["spec"]["namespaceSelector"] = json!({});
        let trace = TraceObject::from_api(TraceKind::Cluster, &object).unwrap();
        assert_eq!(trace.key.namespace, None);
        assert!(trace.checked.unwrap().namespace_selector.unwrap().is_empty());
    }

    #[test]
    fn an_object_without_identity_is_no_trace() {
        for missing in ["name", "uid", "creationTimestamp"] {
            let mut object = object();
            object["metadata"].as_object_mut().unwrap().remove(missing);
            assert_eq!(TraceObject::from_api(TraceKind::Namespaced, &object), None, "{missing}");
        }
    }
}
