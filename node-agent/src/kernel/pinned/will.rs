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

    /// Writes it.
    pub(in crate::kernel) fn write(&self) -> Vec<u8> {
        // Strings and numbers: nothing that JSON could not hold.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{RulesLeft, Will};
    use crate::names::TraceBit;

    #[test]
    fn another_builds_text_is_read_as_far_as_it_says_the_same() {
        let will = Will {
            run: "0badcafe".to_owned(),
            rules: vec![RulesLeft {
                generation: 4,
                traces: vec![TraceBit { bit: 3, uid: "u".to_owned(), namespace: None, name: "n".to_owned() }],
            }],
            ..Will::default()
        };
        assert_eq!(Will::read(&will.write()), Some(will.clone()));
        let more = br#"{"run":"0badcafe","later":1,"rules":[{"generation":4,"traces":[{"bit":3,"uid":"u","name":"n"}]}]}"#;
        assert_eq!(Will::read(more), Some(will));
        assert_eq!(Will::read(b"{\"run\":"), None);
    }
}
