//! Which traces are acted on, where there are more than there is room for: those that the agents act on.

use std::collections::HashSet;

use kube_tcpstates_crds::room::{Candidate, without_room};

use super::{Trace, TraceKey};

/// Those for which there is no room.
pub(super) fn refused<'a>(traces: impl Iterator<Item = &'a Trace>) -> HashSet<TraceKey> {
    let traces: Vec<&Trace> = traces.collect();
    let candidates = traces.iter().map(|trace| Candidate {
        namespace: trace.key.namespace.as_deref(),
        name: &trace.key.name,
        created_s: trace.created.as_second(),
        bytes: trace.bytes,
    });
    without_room(candidates).into_iter().map(|place| traces[place].key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use kube_tcpstates_crds::TraceKind;
    use serde_json::json;

    use super::{Trace, refused};

    fn trace(namespace: &str, name: &str, second: usize, bytes: usize) -> Trace {
        let object = json!({
            "metadata": {"name": name, "namespace": namespace, "uid": "u",
                "creationTimestamp": format!("2026-11-22T15:{:02}:{:02}Z", second / 60 % 60, second % 60)},
            "spec": {"podSelector": {}},
        });
        Trace { bytes, ..Trace::from_api(TraceKind::Namespaced, &object).unwrap() }
    }

    fn names(traces: &[Trace]) -> Vec<String> {
        let mut names: Vec<_> = refused(traces.iter()).iter().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn a_namespace_with_thousands_keeps_out_its_own() {
        let mut traces: Vec<_> =
            (0..4_096).map(|number| trace("many", &format!("{number:04}"), number / 2, 20)).collect();
        assert_eq!(names(&traces), [""; 0]);
        traces.push(trace("few", "late", 3_000, 20));
        assert_eq!(names(&traces), ["many/4095"]);
    }

    #[test]
    fn specs_of_one_namespace_have_a_mebibyte() {
        let mut traces: Vec<_> =
            (0..10).map(|number| trace("large", &format!("{number}"), number, 110_000)).collect();
        traces.push(trace("few", "late", 60, 110_000));
        assert_eq!(names(&traces), ["large/9"]);
    }
}
