//! The transitions that a logged connection must have made, at the end that logged it. Pure.
//!
//! These are the calls of `inet_sock_set_state` on Linux 5.8 and later: an accepted socket is born as a copy of
//! its listener, and `TIME_WAIT` is another kind of socket, so an active close ends FIN_WAIT2 -> CLOSE.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::log::{Connection, End, Ending, Entry};

/// From which state to which, by the kernel's names.
pub type Step = (&'static str, &'static str);

const CONNECT: [Step; 2] = [("CLOSE", "SYN_SENT"), ("SYN_SENT", "ESTABLISHED")];
const ACCEPT: [Step; 2] = [("LISTEN", "SYN_RECV"), ("SYN_RECV", "ESTABLISHED")];
/// This end sent the first FIN.
const ACTIVE: [Step; 3] = [("ESTABLISHED", "FIN_WAIT1"), ("FIN_WAIT1", "FIN_WAIT2"), ("FIN_WAIT2", "CLOSE")];
/// The other end did.
const PASSIVE: [Step; 3] = [("ESTABLISHED", "CLOSE_WAIT"), ("CLOSE_WAIT", "LAST_ACK"), ("LAST_ACK", "CLOSE")];
/// A RST, sent or received.
const RESET: [Step; 1] = [("ESTABLISHED", "CLOSE")];
const REFUSED: [Step; 2] = [("CLOSE", "SYN_SENT"), ("SYN_SENT", "CLOSE")];

/// What one end's socket does from birth to death. A refused attempt makes no socket at the server.
pub fn steps(end: End, ending: Ending) -> Vec<Step> {
    let birth: &[Step] = match (end, ending) {
        (End::Client, Ending::Refused) => return REFUSED.to_vec(),
        (End::Server, Ending::Refused) => return Vec::new(),
        (End::Client, _) => &CONNECT,
        (End::Server, _) => &ACCEPT,
    };
    let death: &[Step] = match (end, ending) {
        (End::Client, Ending::ClientClose) | (End::Server, Ending::ServerClose) => &ACTIVE,
        (End::Client, Ending::ServerClose) | (End::Server, Ending::ClientClose) => &PASSIVE,
        (_, Ending::ClientReset | Ending::ServerReset | Ending::Refused) => &RESET,
    };
    [birth, death].concat()
}

/// Where a connection is, as one end names it: its own address first.
pub type Place = (SocketAddr, SocketAddr);

/// The transitions of every connection in a log, by place. A port that was used twice has both, in order.
pub fn transitions(log: &[Entry]) -> BTreeMap<Place, Vec<Step>> {
    let mut expected: BTreeMap<Place, Vec<Step>> = BTreeMap::new();
    for connection in connections(log) {
        let steps = steps(connection.end, connection.ending);
        expected.entry((connection.local, connection.peer)).or_default().extend(steps);
    }
    expected
}

/// The connections in a log.
pub fn connections(log: &[Entry]) -> impl Iterator<Item = &Connection> {
    log.iter().filter_map(|entry| match entry {
        Entry::Connection(connection) => Some(connection),
        Entry::Listening { .. } | Entry::Failed { .. } | Entry::Done { .. } => None,
    })
}

/// What the two ends say differently: connections that only one of them logged, or that ended differently for
/// each. Empty when the logs agree. Refused attempts have one end only, and are left out.
pub fn disagreements<'a>(
    clients: impl IntoIterator<Item = &'a Connection>,
    servers: impl IntoIterator<Item = &'a Connection>,
) -> Vec<String> {
    let mut balance: BTreeMap<(SocketAddr, SocketAddr, Ending), i64> = BTreeMap::new();
    for connection in clients.into_iter().filter(|connection| connection.ending != Ending::Refused) {
        *balance.entry((connection.local, connection.peer, connection.ending)).or_default() += 1;
    }
    for connection in servers {
        *balance.entry((connection.peer, connection.local, connection.ending)).or_default() -= 1;
    }
    let unequal = balance.into_iter().filter(|(_, count)| *count != 0);
    unequal
        .map(|((client, server, ending), count)| {
            let who = if count > 0 { "client" } else { "server" };
            format!("{client} -> {server}, {ending:?}: {} more in the {who}'s log", count.abs())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(end: End, local: &str, peer: &str, ending: Ending) -> Connection {
        let (local, peer) = (local.parse().unwrap(), peer.parse().unwrap());
        Connection { end, local, peer, ending, opened_us: 0, closed_us: 0 }
    }

    #[test]
    fn every_life_is_one_chain_from_birth_to_close() {
        for ending in Ending::ALL {
            for end in [End::Client, End::Server] {
                let steps = steps(end, ending);
                assert!(steps.windows(2).all(|pair| pair[0].1 == pair[1].0), "{end:?} {ending:?}: {steps:?}");
                assert!(steps.last().is_none_or(|step| step.1 == "CLOSE"), "{end:?} {ending:?}");
            }
        }
    }

    #[test]
    fn whoever_sends_the_first_fin_waits_and_the_other_acknowledges_last() {
        let states =
            |end, ending| steps(end, ending).into_iter().map(|step| step.1).collect::<Vec<_>>().join(" ");
        assert_eq!(
            states(End::Client, Ending::ClientClose),
            "SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE"
        );
        assert_eq!(
            states(End::Server, Ending::ClientClose),
            "SYN_RECV ESTABLISHED CLOSE_WAIT LAST_ACK CLOSE"
        );
        assert_eq!(
            states(End::Client, Ending::ServerClose),
            "SYN_SENT ESTABLISHED CLOSE_WAIT LAST_ACK CLOSE"
        );
        assert_eq!(
            states(End::Server, Ending::ServerClose),
            "SYN_RECV ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE"
        );
        assert_eq!(states(End::Client, Ending::ServerReset), "SYN_SENT ESTABLISHED CLOSE");
        assert_eq!(states(End::Server, Ending::ClientReset), "SYN_RECV ESTABLISHED CLOSE");
        assert_eq!(states(End::Client, Ending::Refused), "SYN_SENT CLOSE");
        assert_eq!(states(End::Server, Ending::Refused), "");
    }

    #[test]
    fn a_port_used_twice_has_the_steps_of_both() {
        let one = connection(End::Client, "10.0.0.1:4000", "10.0.0.2:80", Ending::ClientReset);
        let log =
            [Entry::Connection(one.clone()), Entry::Done { connections: 2 }, Entry::Connection(one.clone())];
        let expected = transitions(&log);
        assert_eq!(expected.len(), 1);
        assert_eq!(expected[&(one.local, one.peer)].len(), 6);
    }

    #[test]
    fn ends_that_tell_the_same_agree() {
        let client = connection(End::Client, "10.0.0.1:4000", "10.0.0.2:80", Ending::ClientClose);
        let refused = connection(End::Client, "10.0.0.1:4001", "10.0.0.2:81", Ending::Refused);
        let server = connection(End::Server, "10.0.0.2:80", "10.0.0.1:4000", Ending::ClientClose);
        assert!(disagreements([&client, &refused], [&server]).is_empty());
    }

    #[test]
    fn a_missing_end_and_another_ending_are_told() {
        let client = connection(End::Client, "10.0.0.1:4000", "10.0.0.2:80", Ending::ClientClose);
        let server = connection(End::Server, "10.0.0.2:80", "10.0.0.1:4000", Ending::ClientReset);
        assert_eq!(disagreements([&client], []).len(), 1);
        assert_eq!(disagreements([&client], [&server]).len(), 2);
        let text = disagreements([], [&server]).concat();
        assert!(text.contains("10.0.0.1:4000 -> 10.0.0.2:80") && text.contains("server's log"), "{text}");
    }
}
