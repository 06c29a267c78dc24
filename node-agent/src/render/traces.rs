//! The names of the traces that want a line. A node has at most 64 traces and few of their combinations occur, so
//! each combination is rendered once.

use std::collections::HashMap;

use kube_tcpstates_common::rule::{MAX_TRACES, TraceSet};

use super::append::{decimal, literal};
use super::escape;
use super::names::first;
use crate::names::TraceName;

/// Bytes that names of traces may take of a line.
const NAMES_MAX: usize = 512;
/// Escaped bytes of one name: namespace, slash, name.
const NAME_MAX: usize = 320;
/// Combinations kept. Far more than occur; a bound all the same.
const COMBINATIONS: usize = 1_024;

/// A set of traces, rendered.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    /// `"traces":[...],"cluster_traces":[...],"traces_omitted":1`, each only if there is any; empty without traces.
    pub(super) json: Vec<u8>,
}

impl Traces {
    /// Renders a set of traces. Those that would make the line too long are counted, not named.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n TraceName>) -> Self {
        let (mut namespaced, mut cluster) = (Vec::new(), Vec::new());
        let mut omitted = 0_u32;
        for name in names {
            let (list, name) = match name {
                TraceName::Namespaced(name) => (&mut namespaced, name),
                TraceName::Cluster(name) => (&mut cluster, name),
            };
            let mut text = Vec::new();
            escape::json_clipped(&mut text, name, NAME_MAX);
            list.push(text);
        }
        let mut used = 0;
        for list in [&mut cluster, &mut namespaced] {
            list.retain(|text: &Vec<u8>| {
                used += text.len() + 3;
                let fits = used <= NAMES_MAX;
                omitted += u32::from(!fits);
                fits
            });
        }
        let mut json = Vec::new();
        for (key, list) in [(first!(traces), &namespaced), (first!(cluster_traces), &cluster)] {
            if !list.is_empty() {
                separate(&mut json);
                json.extend_from_slice(format!("{key}[\"").as_bytes());
                json.extend_from_slice(&list.join(br#"",""#.as_slice()));
                json.extend_from_slice(b"\"]");
            }
        }
        if omitted > 0 {
            separate(&mut json);
            literal(&mut json, first!(traces_omitted));
            decimal(&mut json, omitted);
        }
        Self { json }
    }
}

fn separate(json: &mut Vec<u8>) {
    if !json.is_empty() {
        json.push(b',');
    }
}

/// The node's traces by their bit.
#[derive(Debug)]
pub struct TraceTable {
    names: [Option<TraceName>; MAX_TRACES],
    rendered: HashMap<TraceSet, Traces>,
}

impl Default for TraceTable {
    fn default() -> Self {
        Self { names: [const { None }; MAX_TRACES], rendered: HashMap::new() }
    }
}

impl TraceTable {
    /// Names the trace of a bit, or with `None` frees it. A bit without a name (as of the command line's own trace)
    /// leaves nothing on the line. Bits that do not exist are ignored.
    pub fn set(&mut self, bit: usize, name: Option<TraceName>) {
        if let Some(slot) = self.names.get_mut(bit) {
            *slot = name;
            self.rendered.clear();
        }
    }

    /// The traces of a set, rendered.
    pub fn of(&mut self, set: TraceSet) -> &Traces {
        if self.rendered.len() >= COMBINATIONS && !self.rendered.contains_key(&set) {
            self.rendered.clear();
        }
        self.rendered.entry(set).or_insert_with(|| {
            let wanted = self.names.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1);
            Traces::new(wanted.filter_map(|(_, name)| name.as_ref()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{TraceName, TraceTable, Traces};

    fn text(traces: &Traces) -> &str {
        str::from_utf8(&traces.json).unwrap()
    }

    #[test]
    fn a_set_is_named_by_its_bits_and_cluster_traces_stand_apart() {
        let mut table = TraceTable::default();
        table.set(0, Some(TraceName::Namespaced("shop/a".to_owned())));
        table.set(5, Some(TraceName::Namespaced("shop/b".to_owned())));
        table.set(63, Some(TraceName::Cluster("all".to_owned())));
        assert_eq!(text(table.of(0)), "");
        assert_eq!(text(table.of(1 | 1 << 5)), r#""traces":["shop/a","shop/b"]"#);
        assert_eq!(text(table.of(1 | 1 << 63)), r#""traces":["shop/a"],"cluster_traces":["all"]"#);
        assert_eq!(text(table.of(1 << 7)), "");
    }

    #[test]
    fn a_freed_bit_does_not_keep_its_name() {
        let mut table = TraceTable::default();
        table.set(0, Some(TraceName::Cluster("old".to_owned())));
        assert_eq!(text(table.of(1)), r#""cluster_traces":["old"]"#);
        table.set(0, None);
        assert_eq!(text(table.of(1)), "");
    }

    #[test]
    fn more_names_than_fit_are_counted() {
        let names: Vec<_> = (0..64).map(|n| TraceName::Namespaced(format!("ns/{n:0>100}"))).collect();
        let traces = Traces::new(&names);
        assert!(text(&traces).ends_with(r#"],"traces_omitted":60"#), "{}", text(&traces));
        assert!(text(&traces).len() < 600);
    }
}
