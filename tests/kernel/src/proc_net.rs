//! What the kernel itself shows of the TCP sockets of a network namespace: /proc/net/tcp and tcp6.

use std::collections::BTreeMap;
use std::{fs, thread};

use crate::netns::Netns;
use crate::workload::enter::enter;

/// One socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// State, by the kernel's number.
    pub state: u8,
    /// Bytes written and not acknowledged, SYN and FIN included.
    pub unacknowledged: u64,
    /// Bytes that have come and were not read, FIN included; of a listener, connections to be accepted.
    pub unread: u64,
}

/// The sockets of a namespace, each once, by IP version and ports.
pub fn sockets(namespace: &Netns) -> BTreeMap<(u8, u16, u16), Row> {
    let mut rows = BTreeMap::new();
    for (version, file) in [(4, "/proc/thread-self/net/tcp"), (6, "/proc/thread-self/net/tcp6")] {
        let read = || {
            enter(None, Some(namespace.name())).expect("enter the namespace");
            fs::read_to_string(file).unwrap_or_else(|error| panic!("read {file}: {error}"))
        };
        let text = thread::scope(|scope| scope.spawn(read).join().expect("it was read"));
        for line in text.lines().skip(1) {
            let (key, row) = parse(line).unwrap_or_else(|| panic!("not a socket: {line}"));
            assert_eq!(rows.insert((version, key.0, key.1), row), None, "twice: {line}");
        }
    }
    rows
}

/// Ports and row of one line of the file.
fn parse(line: &str) -> Option<((u16, u16), Row)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let port = |field: &str| u16::from_str_radix(field.split_once(':')?.1, 16).ok();
    let (unacknowledged, unread) = fields.get(4)?.split_once(':')?;
    let number = |hex| u64::from_str_radix(hex, 16).ok();
    let row = Row {
        state: u8::from_str_radix(fields.get(3)?, 16).ok()?,
        unacknowledged: number(unacknowledged)?,
        unread: number(unread)?,
    };
    Some(((port(fields.get(1)?)?, port(fields.get(2)?)?), row))
}
