//! Which traces are looked at, where there are more than there is room for ([`kube_tcpstates_crds::room`]).
//!
//! What is too much is refused, and of its spec nothing is kept. It comes back with the next list, an hour later at most,
//! once there is room.

use kube_tcpstates_crds::Refusal;
use kube_tcpstates_crds::room::{Candidate, without_room};

use super::TraceObject;

/// Not even the names of more are kept.
const MOST_NAMES: usize = 65_536;

/// Refuses those traces for which there is no room.
pub fn bound<'a>(traces: impl Iterator<Item = &'a mut TraceObject>) {
    let mut traces: Vec<&mut TraceObject> = traces.collect();
    let candidates = traces.iter().map(|trace| Candidate {
        namespace: trace.key.namespace.as_deref(),
        name: &trace.key.name,
        created_s: trace.created_s,
        bytes: trace.bytes,
    });
    for place in without_room(candidates) {
        traces[place].bytes = 0;
        traces[place].checked = Err(Refusal::too_many());
    }
}

/// The same for a list that is still coming: of one without end not even names are kept.
pub fn thin(traces: &mut Vec<TraceObject>) {
    bound(traces.iter_mut());
    if traces.len() > MOST_NAMES {
        traces.sort_by_key(|trace| trace.bytes == 0);
        traces.truncate(MOST_NAMES);
    }
}

#[cfg(test)]
mod tests {
    use kube_tcpstates_crds::room::{MOST, MOST_BYTES, MOST_BYTES_OF_ONE};
    use serde_json::{Value, json};

    use super::super::world::trace;
    use super::*;

    fn all() -> Value {
        json!({"podSelector": {}})
    }

    /// As large as the definition lets them be.
    fn large(namespace: &str, name: &str, created_s: i64) -> TraceObject {
        TraceObject { bytes: 110_000, ..trace(Some(namespace), name, created_s, &all()) }
    }

    fn refused<'a>(traces: &'a [TraceObject], namespace: &str) -> Vec<&'a str> {
        let own = traces.iter().filter(|trace| trace.key.namespace.as_deref() == Some(namespace));
        own.filter(|trace| trace.checked.is_err()).map(|trace| trace.key.name.as_str()).collect()
    }

    #[test]
    fn of_more_than_4096_the_youngest_of_those_that_have_most_are_refused() {
        let mut traces: Vec<_> =
            (0..5_000).map(|n| trace(Some("evil"), &format!("t{n:04}"), n, &all())).collect();
        // Made last, by whoever has one.
        traces.push(trace(Some("shop"), "ours", 9_999, &all()));
        thin(&mut traces);
        assert_eq!(refused(&traces, "shop"), [""; 0]);
        let evil = refused(&traces, "evil");
        assert_eq!((evil.len(), evil[0]), (5_001 - MOST, "t4095"));
        let refusal = traces[4_500].checked.as_ref().unwrap_err();
        assert_eq!((refusal.reason(), traces[4_500].bytes), ("TooMany", 0));
    }

    #[test]
    fn large_specs_of_one_namespace_keep_out_no_other() {
        let mut traces: Vec<_> = (0..100).map(|n| large("evil", &format!("t{n:03}"), n)).collect();
        traces.extend((0..100).map(|n| large(&format!("n{n}"), "ours", 1_000)));
        bound(traces.iter_mut());
        assert_eq!(refused(&traces, "evil")[0], format!("t{:03}", MOST_BYTES_OF_ONE / 110_000));
        assert_eq!(refused(&traces, "n99"), [""; 0]);
        assert!(traces.iter().map(|trace| trace.bytes).sum::<usize>() <= MOST_BYTES);
    }

    #[test]
    fn a_list_without_end_takes_a_bounded_number_of_names() {
        let mut traces = Vec::new();
        for n in 0..70_000 {
            traces.push(TraceObject { bytes: 40, ..trace(Some("evil"), &format!("t{n}"), n, &all()) });
            if n % 10_000 == 9_999 {
                thin(&mut traces);
            }
        }
        assert_eq!(traces.len(), MOST_NAMES);
        assert_eq!(traces.iter().filter(|trace| trace.checked.is_ok()).count(), MOST);
    }
}
