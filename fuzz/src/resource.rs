//! Traces as an API server hands them out: whoever may make one chooses all of it.

use std::collections::BTreeMap;

use kube_tcpstates::plan::{Inputs, Planner, TraceObject};
use kube_tcpstates::roster::Roster;
use kube_tcpstates_crds::TraceKind;
use kube_tcpstates_crds::validate::{check_object, check_spec, check_stored};
use serde_json::Value;

pub use crate::seed::none as seeds;

/// A trace. True: it can be traced.
pub fn read(bytes: &[u8]) -> bool {
    let Ok(object) = serde_json::from_slice::<Value>(bytes) else { return false };
    if let Err(refusal) = check_object(&object) {
        let _ = (refusal.reason(), refusal.to_string());
    }
    let mut found = false;
    for kind in [TraceKind::Namespaced, TraceKind::Cluster] {
        let checked = check_stored(kind, &object);
        found |= checked.is_ok();
        if let Ok(checked) = &checked
            && kind == TraceKind::Namespaced
        {
            // What is held is what was asked: written out it is a valid spec, and the same one.
            let spec = serde_json::to_value(&checked.spec).expect("a spec serialises");
            assert_eq!(check_spec(kind, Some(&spec)).as_ref(), Ok(checked), "{spec}");
        }
        let Some(trace) = TraceObject::from_api(kind, &object) else { continue };
        assert_eq!(trace.checked, checked);
        let traces = BTreeMap::from([(trace.key.clone(), trace)]);
        let inputs = Inputs {
            traces: &traces,
            roster: &Roster::default(),
            node_labels: Some(&BTreeMap::new()),
            namespaces: None,
            now_ns: 1,
            now_s: 1_800_000_000,
        };
        assert_eq!(Planner::new(0).plan(&inputs).standings.len(), 1);
    }
    found
}
