//! What traces are called on lines. A node has at most 64 traces and few of their combinations occur, so each
//! combination is put together once.

use kube_tcpstates_common::rule::{MAX_TRACES, TraceSet};

use super::{Numbered, QuickMap};

/// Combinations kept. Far more than occur; a bound all the same.
const COMBINATIONS: usize = 1_024;

/// A trace as a line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceName {
    /// Of one namespace: `namespace/name`.
    Namespaced(String),
    /// Of the cluster: its name, which has no slash.
    Cluster(String),
}

impl TraceName {
    /// The name alone.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Namespaced(text) | Self::Cluster(text) => text,
        }
    }
}

/// The traces that want a line, by their bits in order.
pub type TraceNames = Numbered<Vec<TraceName>>;

/// The node's traces by their bit.
#[derive(Debug)]
pub struct TraceTable {
    names: [Option<TraceName>; MAX_TRACES],
    combinations: QuickMap<TraceSet, TraceNames>,
}

impl Default for TraceTable {
    fn default() -> Self {
        Self { names: [const { None }; MAX_TRACES], combinations: QuickMap::default() }
    }
}

impl TraceTable {
    /// Names the trace of a bit, or with `None` frees it. A bit without a name (as of the command line's own trace)
    /// leaves nothing on the line. Bits that do not exist are ignored.
    pub fn set(&mut self, bit: usize, name: Option<TraceName>) {
        if let Some(named) = self.names.get_mut(bit) {
            *named = name;
            self.combinations.clear();
        }
    }

    /// The names of a set.
    pub fn of(&mut self, set: TraceSet) -> &TraceNames {
        if self.combinations.len() >= COMBINATIONS && !self.combinations.contains_key(&set) {
            self.combinations.clear();
        }
        self.combinations.entry(set).or_insert_with(|| {
            let wanted = self.names.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1);
            Numbered::new(wanted.filter_map(|(_, name)| name.clone()).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{COMBINATIONS, TraceName, TraceTable};

    fn names(table: &mut TraceTable, set: u64) -> Vec<&str> {
        table.of(set).iter().map(TraceName::as_str).collect()
    }

    #[test]
    fn a_set_is_named_by_its_bits() {
        let mut table = TraceTable::default();
        table.set(0, Some(TraceName::Namespaced("shop/a".to_owned())));
        table.set(5, Some(TraceName::Namespaced("shop/b".to_owned())));
        table.set(63, Some(TraceName::Cluster("all".to_owned())));
        assert!(names(&mut table, 0).is_empty());
        assert_eq!(names(&mut table, 1 | 1 << 5), ["shop/a", "shop/b"]);
        assert_eq!(names(&mut table, 1 | 1 << 63), ["shop/a", "all"]);
        assert!(names(&mut table, 1 << 7).is_empty());
        assert_eq!(table.of(1).number(), table.of(1).number());
        assert_ne!(table.of(1).number(), table.of(1 << 5).number());
    }

    #[test]
    fn a_freed_bit_does_not_keep_its_name() {
        let mut table = TraceTable::default();
        table.set(0, Some(TraceName::Cluster("old".to_owned())));
        let number = table.of(1).number();
        table.set(0, None);
        assert!(names(&mut table, 1).is_empty());
        assert_ne!(table.of(1).number(), number);
    }

    #[test]
    fn more_combinations_than_are_kept_are_put_together_again() {
        let mut table = TraceTable::default();
        for bit in 0..12 {
            table.set(bit, Some(TraceName::Cluster(bit.to_string())));
        }
        let first = table.of(1).number();
        for set in 1..3 * COMBINATIONS as u64 {
            let expected: Vec<String> =
                (0..12).filter(|bit| set >> bit & 1 == 1).map(|bit: u64| bit.to_string()).collect();
            assert_eq!(names(&mut table, set), expected);
            assert!(table.combinations.len() <= COMBINATIONS);
        }
        assert_eq!(names(&mut table, 1), ["0"]);
        assert_ne!(table.of(1).number(), first);
    }
}
