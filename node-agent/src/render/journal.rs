//! An entry of the systemd journal, as the datagram its native protocol takes. Only the bytes: the socket is
//! `outlet`'s.
//!
//! A value without control characters is written `NAME=value\n`; any other, as the protocol wants for values with a
//! newline, as `NAME\n`, the length in 8 bytes little-endian, the value, `\n`.

use kube_tcpstates_common::state::State;
use kube_tcpstates_events::{ClosedBy, EndCause};

use super::append::{address, decimal, hex16, state, zoned_address};
use super::cache::Cache;
use super::ended::Ended;
use super::errno;
use super::escape::terminal;
use super::event::{Event, comm};
use super::json::is_known;
use crate::connection::{SocketFigures, Story};
use crate::decode::{Endpoint, NetworkType, Process};
use crate::names::Owner;

/// Encodes transitions for the journal.
#[derive(Debug)]
pub struct JournalEntries {
    root: bool,
    owners: Cache<Vec<u8>>,
}

impl JournalEntries {
    /// `root`: this process is root. journald then fills in `OBJECT_COMM` itself, and from a source that cannot lie.
    pub fn new(root: bool) -> Self {
        Self { root, owners: Cache::default() }
    }

    /// Appends the datagram of one entry.
    pub fn datagram(&mut self, out: &mut Vec<u8>, event: &Event<'_>) {
        let transition = event.transition;
        ends(out, event, self.root);
        field(out, "OBJECT_TCP_OLD_STATE", |out| {
            state(out, transition.old_state);
        });
        field(out, "OBJECT_TCP_NEW_STATE", |out| {
            state(out, transition.new_state);
        });
        if let Some(ns) = transition.duration_ns {
            field(out, "OBJECT_TCP_SPAN_TIME", |out| decimal(out, ns / 1000));
        }
        self.rest(out, event, |out| steps(out, event));
    }

    /// The same of a connection that has ended.
    pub fn ended(&mut self, out: &mut Vec<u8>, event: &Event<'_>, ended: &Ended<'_>) {
        ends(out, event, self.root);
        story(out, ended.story);
        let ending = ended.story.ending;
        let words = [Some(ending.outcome.as_str()), ending.cause.map(EndCause::as_str)];
        self.rest(out, event, |out| {
            for word in words.into_iter().flatten() {
                out.push(b' ');
                out.extend_from_slice(word.as_bytes());
            }
        });
    }

    /// Whose it is, and the message, which `what` ends.
    fn rest(&mut self, out: &mut Vec<u8>, event: &Event<'_>, what: impl FnOnce(&mut Vec<u8>)) {
        own(out, event);
        if let Some(known) = event.owner {
            out.extend_from_slice(self.owners.of(known, owner));
        }
        field(out, "MESSAGE", |out| {
            who(out, event);
            what(out);
        });
    }
}

/// What a connection was, as far as it is known.
fn story(out: &mut Vec<u8>, story: &Story) {
    let ending = story.ending;
    let texts = [
        ("TCPSTATES_OUTCOME", Some(ending.outcome.as_str())),
        ("TCPSTATES_CAUSE", ending.cause.map(EndCause::as_str)),
        ("TCPSTATES_CLOSED_BY", ending.closed_by.map(ClosedBy::as_str)),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            field(out, name, |out| out.extend_from_slice(text.as_bytes()));
        }
    }
    let socket = story.socket.as_ref();
    let numbers = [
        ("TCPSTATES_DURATION_US", Some(story.duration_ns / 1000)),
        ("TCPSTATES_HANDSHAKE_US", story.handshake_us),
        ("TCPSTATES_SYN_RETRANSMITS", story.syn_retransmits.map(u64::from)),
        ("TCPSTATES_IDLE_US", socket.and_then(SocketFigures::idle_us)),
        ("TCPSTATES_SENT_BYTES", socket.map(|socket| socket.sent.bytes)),
        ("TCPSTATES_RECEIVED_BYTES", socket.map(|socket| socket.received.bytes)),
        ("TCPSTATES_RETRANSMITS", socket.map(|socket| socket.retransmits.into())),
        ("TCPSTATES_UNREAD_BYTES", socket.and_then(|socket| socket.unread_bytes)),
        ("TCPSTATES_UNSENT_BYTES", socket.map(|socket| socket.unsent_bytes)),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            field(out, name, |out| decimal(out, number));
        }
    }
}

/// Who it is about, and both ends.
fn ends(out: &mut Vec<u8>, event: &Event<'_>, root: bool) {
    let transition = event.transition;
    out.extend_from_slice(b"SYSLOG_IDENTIFIER=tcpstates\nPRIORITY=5\n");
    if let Some(process) = &transition.process {
        field(out, "OBJECT_PID", |out| decimal(out, process.pid));
        if !root {
            value(out, "OBJECT_COMM", comm(&process.comm));
        }
        field(out, "TCPSTATES_PROCESS_SOURCE", |out| {
            out.extend_from_slice(process.source.as_str().as_bytes());
        });
    }
    let peer = transition.peer.filter(is_known);
    end(
        out,
        transition.family,
        ["OBJECT_IPV4_SOURCE_ADDRESS", "OBJECT_IPV6_SOURCE_ADDRESS"],
        Some(transition.local),
    );
    port(out, "OBJECT_TCP_SOURCE_PORT", Some(transition.local));
    end(out, transition.family, ["OBJECT_IPV4_DESTINATION_ADDRESS", "OBJECT_IPV6_DESTINATION_ADDRESS"], peer);
    port(out, "OBJECT_TCP_DESTINATION_PORT", peer);
}

fn end(out: &mut Vec<u8>, family: NetworkType, [v4, v6]: [&str; 2], end: Option<Endpoint>) {
    if let Some(end) = end {
        let name = match family {
            NetworkType::Ipv4 => v4,
            NetworkType::Ipv6 => v6,
        };
        field(out, name, |out| address(out, end.address));
    }
}

fn port(out: &mut Vec<u8>, name: &str, end: Option<Endpoint>) {
    if let Some(end) = end.filter(|end| end.port != 0) {
        field(out, name, |out| decimal(out, end.port));
    }
}

/// What BCC's entry does not have and no container does either.
fn own(out: &mut Vec<u8>, event: &Event<'_>) {
    field(out, "TCPSTATES_CONNECTION_ID", |out| {
        hex16(out, event.connection_id);
    });
    if let Some(role) = event.transition.role {
        field(out, "TCPSTATES_ROLE", |out| out.extend_from_slice(role.as_str().as_bytes()));
    }
    if let Some(number) = event.transition.error.filter(|&number| number != 0) {
        field(out, "ERRNO", |out| decimal(out, number));
    }
    if let Some(interface) = event.transition.interface {
        field(out, "TCPSTATES_INTERFACE_INDEX", |out| decimal(out, interface));
    }
    let attribution = event.attribution;
    field(out, "TCPSTATES_ATTRIBUTION_SOURCE", |out| {
        out.extend_from_slice(attribution.source.as_str().as_bytes());
    });
    field(out, "TCPSTATES_ATTRIBUTION_STATUS", |out| {
        out.extend_from_slice(attribution.status.as_str().as_bytes());
    });
}

/// `comm local port → peer port`. For a terminal, so control characters are spelled out.
fn who(out: &mut Vec<u8>, event: &Event<'_>) {
    let transition = event.transition;
    let name = transition.process.as_ref().map_or(b"-".as_slice(), process_name);
    terminal(out, name, usize::MAX);
    for (before, end) in [(" ", transition.local), (" → ", super::table::peer(event))] {
        out.extend_from_slice(before.as_bytes());
        zoned_address(out, end.address, transition.interface);
        out.push(b' ');
        decimal(out, end.port);
    }
}

/// ` OLD → NEW`, and the error by its name.
fn steps(out: &mut Vec<u8>, event: &Event<'_>) {
    let transition = event.transition;
    for (before, at) in [(" ", transition.old_state), (" → ", transition.new_state)] {
        out.extend_from_slice(before.as_bytes());
        state(out, at);
    }
    let error = transition.error.filter(|_| transition.new_state == State::CLOSE).and_then(errno::name);
    if let Some(error) = error {
        out.push(b' ');
        out.extend_from_slice(error.as_bytes());
    }
}

fn process_name(process: &Process) -> &[u8] {
    match comm(&process.comm) {
        b"" => b"-",
        name => name,
    }
}

/// The fields of an owner.
fn owner(owner: &Owner) -> Vec<u8> {
    let mut out = Vec::new();
    // The names that Docker's and Podman's journal drivers use: CONTAINER_ID has 12 digits.
    let id = owner.container_id.as_deref();
    let short = id.map(|id| id.char_indices().nth(12).map_or(id, |(end, _)| &id[..end]));
    for (name, text) in [
        ("CONTAINER_ID", short),
        ("CONTAINER_ID_FULL", id),
        ("CONTAINER_RUNTIME", owner.runtime),
        ("K8S_CLUSTER_NAME", owner.cluster.as_deref()),
        ("K8S_NODE_NAME", owner.node.as_deref()),
        ("K8S_NAMESPACE_NAME", owner.namespace.as_deref()),
        ("K8S_POD_NAME", owner.pod_name.as_deref()),
        ("K8S_POD_UID", owner.pod_uid.as_deref()),
        ("K8S_CONTAINER_NAME", owner.container_name.as_deref()),
        ("K8S_WORKLOAD_KIND", owner.workload.as_ref().map(|workload| workload.kind.as_str())),
        ("K8S_WORKLOAD_NAME", owner.workload.as_ref().map(|workload| workload.name.as_str())),
        ("TCPSTATES_HOST_SLICE", owner.host_slice.as_deref()),
        ("TCPSTATES_HOST_UNIT", owner.host_unit.as_deref()),
    ] {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            value(&mut out, name, text.as_bytes());
        }
    }
    out
}

/// A field whose value has no control characters.
fn field(out: &mut Vec<u8>, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    write(out);
    out.push(b'\n');
}

/// A field whose value someone else chose.
fn value(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    if bytes.iter().any(u8::is_ascii_control) {
        out.push(b'\n');
        // The protocol's length is 64 bits wide, as is every length here.
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(bytes);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{JournalEntries, value};
    use crate::render::fixtures::{Fixture, comm};

    fn render(root: bool, fixture: &Fixture) -> Vec<u8> {
        let mut out = Vec::new();
        JournalEntries::new(root).datagram(&mut out, &fixture.event());
        out
    }

    #[test]
    fn an_entry_has_bccs_fields_and_those_of_the_container() {
        let text = String::from_utf8(render(false, &Fixture::client())).unwrap();
        let expected = "\
SYSLOG_IDENTIFIER=tcpstates
PRIORITY=5
OBJECT_PID=4242
OBJECT_COMM=checkout
TCPSTATES_PROCESS_SOURCE=connect
OBJECT_IPV4_SOURCE_ADDRESS=10.1.2.3
OBJECT_TCP_SOURCE_PORT=43512
OBJECT_IPV4_DESTINATION_ADDRESS=10.9.8.7
OBJECT_TCP_DESTINATION_PORT=443
OBJECT_TCP_OLD_STATE=SYN_SENT
OBJECT_TCP_NEW_STATE=ESTABLISHED
OBJECT_TCP_SPAN_TIME=433
TCPSTATES_CONNECTION_ID=9f2c41d07be6a835
TCPSTATES_ROLE=client
TCPSTATES_ATTRIBUTION_SOURCE=socket_cgroup
TCPSTATES_ATTRIBUTION_STATUS=resolved
CONTAINER_ID=4f1e0c9a7b21
CONTAINER_ID_FULL=4f1e0c9a7b21d6534f1e0c9a7b21d6534f1e0c9a7b21d6534f1e0c9a7b21d653
CONTAINER_RUNTIME=containerd
K8S_CLUSTER_NAME=prod
K8S_NODE_NAME=n1
K8S_NAMESPACE_NAME=shop
K8S_POD_NAME=checkout-7d4f
K8S_POD_UID=0b8e7c52-9f3e-4d1a-8c55-1f0e2d3c4b5a
K8S_CONTAINER_NAME=app
K8S_WORKLOAD_KIND=deployment
K8S_WORKLOAD_NAME=checkout
MESSAGE=checkout 10.1.2.3 43512 → 10.9.8.7 443 SYN_SENT → ESTABLISHED
";
        assert_eq!(text, expected);
        let as_root = String::from_utf8(render(true, &Fixture::client())).unwrap();
        assert_eq!(as_root, expected.replace("OBJECT_COMM=checkout\n", ""));
    }

    #[test]
    fn what_is_not_known_has_no_field() {
        let text = String::from_utf8(render(false, &Fixture::refused())).unwrap();
        assert_eq!(
            text,
            "\
SYSLOG_IDENTIFIER=tcpstates
PRIORITY=5
OBJECT_IPV6_SOURCE_ADDRESS=fd00:1::3
OBJECT_TCP_SOURCE_PORT=51000
OBJECT_IPV6_DESTINATION_ADDRESS=fd00:1::7
OBJECT_TCP_DESTINATION_PORT=81
OBJECT_TCP_OLD_STATE=SYN_SENT
OBJECT_TCP_NEW_STATE=CLOSE
OBJECT_TCP_SPAN_TIME=1204
TCPSTATES_CONNECTION_ID=00000000000000b2
TCPSTATES_ROLE=client
ERRNO=111
TCPSTATES_ATTRIBUTION_SOURCE=none
TCPSTATES_ATTRIBUTION_STATUS=unknown
MESSAGE=- fd00:1::3 51000 → fd00:1::7 81 SYN_SENT → CLOSE ECONNREFUSED
"
        );
    }

    #[test]
    fn a_comm_with_a_newline_cannot_forge_a_field() {
        let mut fixture = Fixture::client();
        if let Some(process) = &mut fixture.transition.process {
            process.comm = comm(b"a\nPRIORITY=0");
        }
        let datagram = render(false, &fixture);
        let expected = b"OBJECT_COMM\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\nTCPSTATES_";
        assert!(datagram.windows(expected.len()).any(|window| window == expected));
        let message = "\nMESSAGE=a\\x0aPRIORITY=0 10.1.2.3".as_bytes();
        assert!(datagram.windows(message.len()).any(|window| window == message));
    }

    /// Names and values of an entry, as the protocol has them.
    fn entries(mut rest: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'=' | b'\n')) {
            let (name, behind) = (&rest[..end], &rest[end + 1..]);
            let (length, value) = if rest[end] == b'=' {
                (behind.iter().position(|byte| *byte == b'\n').unwrap(), behind)
            } else {
                let (length, value) = behind.split_first_chunk().unwrap();
                (usize::try_from(u64::from_le_bytes(*length)).unwrap(), value)
            };
            found.push((name.to_vec(), value[..length].to_vec()));
            assert_eq!(value[length], b'\n');
            rest = &value[length + 1..];
        }
        assert_eq!(rest, b"");
        found
    }

    proptest! {
        #[test]
        fn values_of_any_bytes_are_read_back_as_they_were(
            values in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'='), any::<u8>()], 0..20), 1..4),
        ) {
            let mut out = Vec::new();
            for bytes in &values {
                value(&mut out, "OBJECT_COMM", bytes);
            }
            let read: Vec<_> = entries(&out).into_iter().map(|(name, value)| {
                assert_eq!(name, b"OBJECT_COMM");
                value
            }).collect();
            prop_assert_eq!(read, values);
        }
    }
}
