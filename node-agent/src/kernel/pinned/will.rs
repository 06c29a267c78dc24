//! What a run leaves to the next in words: JSON in the map, so that another build can read it, too.

use serde::{Deserialize, Serialize};

use crate::names::TraceBit;

/// The text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::kernel) struct Will {
    /// The run that wrote it, 8 hex digits.
    pub run: String,
    /// Numbered lines that runs before it had written.
    pub lines_before: u64,
    /// The run whose tracing it took over, and that one's last line.
    pub continues: Option<Continues>,
    /// Of the ids of connections, hex.
    pub secret: String,
    /// The rules of late, the last of which are in force or about to be.
    pub rules: Vec<RulesLeft>,
    /// What is attached.
    pub facts: Facts,
}

/// A run of before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continues {
    /// Its id, 8 hex digits.
    pub run: String,
    /// Number of the last line that it wrote.
    pub seq: u64,
}

/// What the bits of a generation of the rules mean.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RulesLeft {
    /// Its number.
    pub generation: u32,
    /// Its traces.
    pub traces: Vec<TraceBit>,
}

/// What turned out when the programs were attached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::kernel) struct Facts {
    /// How many links there are.
    pub links: usize,
    /// Accepted sockets get the accepting task as owner.
    pub accept_owner: bool,
    /// cgroups are followed.
    pub cgroup_events: bool,
    /// Why the program at a socket's end is not there.
    pub no_ends: Option<String>,
    /// Why resets are not told.
    pub no_resets: Option<String>,
    /// Why sockets open before the start were not found.
    pub no_open_sockets: Option<String>,
}

impl Will {
    /// Reads it. What cannot be read is as if nothing had been left.
    pub(in crate::kernel) fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// Writes it in so many bytes. Where that is too little, the oldest rules are left out, and what is in the ring under them
    /// is nobody's for the next run. The last two, in force and about to be, fit whatever their traces are called.
    pub(in crate::kernel) fn write(&mut self, most: usize) -> Vec<u8> {
        loop {
            // Strings and numbers: nothing that JSON could not hold.
            let text = serde_json::to_vec(self).unwrap_or_default();
            if text.len() <= most || self.rules.is_empty() {
                return text;
            }
            self.rules.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use kube_tcpstates_common::{pinned::TEXT_LEN, rule::MAX_TRACES};

    use super::{RulesLeft, Will};
    use crate::names::TraceBit;

    /// As many traces as there can be, their names and namespaces so long, in so many generations.
    fn full(generations: u32, (namespace, name): (usize, usize)) -> Will {
        let trace = |bit| TraceBit {
            bit,
            uid: "8e0d6a5c-9f0e-4c7e-b0c5-3a6f6f1f2a4d".to_owned(),
            namespace: Some("s".repeat(namespace)),
            name: "n".repeat(name),
        };
        let traces: Vec<_> = (0..MAX_TRACES).map(trace).collect();
        let rules =
            (1..=generations).map(|generation| RulesLeft { generation, traces: traces.clone() }).collect();
        Will { run: "0badcafe".to_owned(), secret: "5".repeat(32), rules, ..Will::default() }
    }

    #[test]
    fn the_oldest_rules_make_room_where_names_are_long() {
        for (names, kept) in [((5, 10), 1..=8), ((19, 31), 2..=8), ((63, 253), 7..=8)] {
            let mut will = full(8, names);
            let text = will.write(TEXT_LEN);
            assert!(text.len() <= TEXT_LEN, "{} bytes", text.len());
            let read = Will::read(&text).unwrap();
            let generations: Vec<_> = read.rules.iter().map(|rules| rules.generation).collect();
            assert_eq!(generations, kept.collect::<Vec<_>>(), "{names:?}");
            assert!(read.rules.iter().all(|rules| rules.traces.len() == MAX_TRACES));
            assert_eq!(read, will, "what is left out is left out the next time, too");
        }
    }

    #[test]
    fn another_builds_text_is_read_as_far_as_it_says_the_same() {
        let mut will = Will {
            run: "0badcafe".to_owned(),
            rules: vec![RulesLeft {
                generation: 4,
                traces: vec![TraceBit { bit: 3, uid: "u".to_owned(), namespace: None, name: "n".to_owned() }],
            }],
            ..Will::default()
        };
        assert_eq!(Will::read(&will.write(TEXT_LEN)), Some(will.clone()));
        let more = br#"{"run":"0badcafe","later":1,"rules":[{"generation":4,"traces":[{"bit":3,"uid":"u","name":"n"}]}]}"#;
        assert_eq!(Will::read(more), Some(will));
        assert_eq!(Will::read(b"{\"run\":"), None);
    }
}
