//! The workload's log: one JSON line on stdout for each thing that happened.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Entry {
    /// A server accepts connections from now on.
    Listening {
        /// The listener's address.
        local: SocketAddr,
    },
    /// A connection ran its course, as this end saw it.
    Connection(Connection),
    /// Something else happened than the client had asked for: what it made cannot be derived.
    Failed {
        /// What was tried, on what, and the error.
        reason: String,
    },
    /// A client has made all its connections.
    Done {
        /// How many, those refused among them.
        connections: u64,
    },
}

/// A connection that is over, or an attempt that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Connection {
    /// Whose view this is.
    pub end: End,
    /// `getsockname` at this end.
    pub local: SocketAddr,
    /// `getpeername` at this end; the address asked for where the attempt was refused.
    pub peer: SocketAddr,
    /// How it ended.
    pub ending: Ending,
    /// Before `connect`, or after `accept`: microseconds since 1970.
    pub opened_us: u64,
    /// After the last call on the socket.
    pub closed_us: u64,
}

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// It called `connect`.
    Client,
    /// It called `accept`.
    Server,
}

/// Who ended a connection, and how.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The client sent the first FIN.
    ClientClose,
    /// The server sent the first FIN.
    ServerClose,
    /// The client sent a RST.
    ClientReset,
    /// The server sent a RST.
    ServerReset,
    /// Nobody listened: the client's SYN was answered by a RST.
    Refused,
}

impl Ending {
    /// Every way to end.
    pub const ALL: [Self; 5] =
        [Self::ClientClose, Self::ServerClose, Self::ClientReset, Self::ServerReset, Self::Refused];
}

impl Entry {
    /// Writes the line at once, whole.
    pub fn print(&self) {
        let mut line = serde_json::to_vec(self).unwrap_or_else(|error| format!("{error}").into_bytes());
        line.push(b'\n');
        // Nobody is left to be told when the container's log is gone.
        drop(std::io::stdout().lock().write_all(&line));
    }

    /// Reads what a container logged; the number of the line that is not one of ours with the error.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let lines = text.lines().enumerate();
        lines
            .map(|(number, line)| {
                parse(line).map_err(|error| format!("line {}: {error}: {line:?}", number + 1))
            })
            .collect()
    }
}

fn parse(line: &str) -> serde_json::Result<Entry> {
    serde_json::from_str(line)
}

/// The wall clock, in microseconds since 1970.
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let line = r#"{"event":"connection","end":"client","local":"10.0.0.1:40000","peer":"10.0.0.2:80","ending":"server-reset","opened_us":1,"closed_us":2}"#;
        let entries = Entry::parse_all(line).unwrap();
        let [Entry::Connection(connection)] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!((connection.end, connection.ending), (End::Client, Ending::ServerReset));
        assert_eq!(serde_json::to_string(&entries[0]).unwrap(), line);
    }

    #[test]
    fn a_line_that_is_not_ours_is_told_with_its_number() {
        let error = Entry::parse_all("{\"event\":\"done\",\"connections\":1}\nthread panicked").unwrap_err();
        assert!(error.starts_with("line 2: "), "{error}");
    }
}
