//! How many traces are acted on. The agents refuse the same ones by themselves, so the rule is theirs: of the namespaces
//! that have most, the youngest.

use std::collections::{HashMap, HashSet};

use super::objects::{Trace, TraceKey};

/// Traces, of both kinds together.
const MOST: usize = 4_096;
/// Bytes of the specs of one namespace.
const MOST_BYTES_OF_ONE: usize = 1024 * 1024;
/// Bytes of all specs.
const MOST_BYTES: usize = 24 * 1024 * 1024;

/// What has room so far.
#[derive(Default)]
struct Room {
    traces: usize,
    bytes: usize,
}

/// Those for which there is no room.
pub(super) fn refused<'a>(traces: impl Iterator<Item = &'a Trace>) -> HashSet<TraceKey> {
    let mut traces: Vec<&Trace> = traces.collect();
    let bytes: usize = traces.iter().map(|trace| trace.bytes).sum();
    // Most clusters have a few.
    if traces.len() <= MOST && bytes <= MOST_BYTES_OF_ONE {
        return HashSet::new();
    }
    traces.sort_by(|a, b| (a.created, &a.key).cmp(&(b.created, &b.key)));
    let mut refused = HashSet::new();
    let mut own: HashMap<&str, Room> = HashMap::new();
    let mut ranked: Vec<(usize, usize, &TraceKey)> = Vec::with_capacity(traces.len());
    for trace in traces {
        let Some(namespace) = trace.key.namespace.as_deref() else {
            ranked.push((0, trace.bytes, &trace.key));
            continue;
        };
        let room = own.entry(namespace).or_default();
        room.traces += 1;
        let has_room = room.bytes + trace.bytes <= MOST_BYTES_OF_ONE;
        let bytes = if has_room { trace.bytes } else { 0 };
        room.bytes += bytes;
        if !has_room {
            refused.insert(trace.key.clone());
        }
        ranked.push((room.traces, bytes, &trace.key));
    }
    ranked.sort_by_key(|(rank, ..)| *rank);
    let mut all = Room::default();
    for (_, bytes, key) in ranked {
        all.traces += 1;
        if all.traces > MOST || all.bytes + bytes > MOST_BYTES {
            refused.insert(key.clone());
        } else {
            all.bytes += bytes;
        }
    }
    refused
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
