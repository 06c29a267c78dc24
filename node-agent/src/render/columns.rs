//! Connections that have ended, as columns: of the table at most 120 characters, of the wide table and of CSV all there
//! are.

use super::append::{decimal, literal, milliseconds, zoned_address};
use super::csv::field;
use super::ended::Ended;
use super::errno;
use super::escape::terminal;
use super::event::{Event, comm};
use super::table::{peer, version};
use super::text::{cell, trim};
use crate::decode::{Endpoint, Role};

/// A column: its name, its width in the table, and what stands in it.
pub(super) struct Column(&'static str, usize, fn(&mut Vec<u8>, &Event<'_>, &Ended<'_>));

/// Of the table: 119 characters, as long as no value is wider than its column.
pub(super) const TABLE: &[Column] = &[
    Column("PID", 7, pid),
    Column("COMM", 12, thread),
    Column("SIDE", 6, side),
    Column("LOCAL", 21, local),
    Column("PEER", 21, remote),
    Column("OUTCOME", 25, ending),
    Column("MS", 10, lasted),
    Column("SENT/RECEIVED", 17, sent_and_received),
];

/// Of the wide table, before container and pod.
pub(super) const WIDE: &[Column] = &[
    Column("PID", 7, pid),
    Column("COMM", 15, thread),
    Column("SIDE", 6, side),
    Column("LOCAL", 45, local),
    Column("PEER", 45, remote),
    Column("OUTCOME", 25, ending),
    Column("CLOSED-BY", 9, closed_by),
    Column("MS", 12, lasted),
    Column("SENT", 10, sent),
    Column("RECEIVED", 10, received),
    Column("RETR", 5, retransmits),
    Column("IDLE-MS", 10, idle),
];

/// Of CSV, before container and pod.
pub(super) const CSV: &[Column] = &[
    Column("ID", 0, id),
    Column("PID", 0, pid),
    Column("COMM", 0, thread),
    Column("SIDE", 0, side),
    Column("IP", 0, family),
    Column("LADDR", 0, |out, event, _| address(out, event, event.transition.local)),
    Column("LPORT", 0, |out, event, _| decimal(out, event.transition.local.port)),
    Column("RADDR", 0, |out, event, _| address(out, event, peer(event))),
    Column("RPORT", 0, |out, event, _| decimal(out, peer(event).port)),
    Column("OUTCOME", 0, outcome),
    Column("CAUSE", 0, cause),
    Column("CLOSED_BY", 0, closed_by),
    Column("ERROR", 0, error),
    Column("MS", 0, lasted),
    Column("HANDSHAKE_US", 0, |out, _, ended| known(out, ended.story.handshake_us)),
    Column("SENT", 0, sent),
    Column("RECEIVED", 0, received),
    Column("RETRANSMITS", 0, retransmits),
    Column("SYN_RETRANSMITS", 0, |out, _, ended| known(out, ended.story.syn_retransmits)),
    Column("UNREAD", 0, |out, _, ended| {
        known(out, ended.story.socket.and_then(|socket| socket.unread_bytes));
    }),
    Column("UNSENT", 0, |out, _, ended| known(out, ended.story.socket.map(|socket| socket.unsent_bytes))),
    Column("IDLE_US", 0, |out, _, ended| {
        known(out, ended.story.socket.and_then(|socket| socket.idle_us()));
    }),
];

/// The names, each padded and with a space behind it, the last one without.
pub(super) fn table_header(out: &mut Vec<u8>, columns: &[Column]) {
    for Column(name, width, _) in columns {
        cell(out, *width, |out| {
            out.extend_from_slice(name.as_bytes());
        });
    }
    trim(out);
}

/// The values, in the same way.
pub(super) fn table_row(out: &mut Vec<u8>, columns: &[Column], event: &Event<'_>, ended: &Ended<'_>) {
    for Column(_, width, write) in columns {
        cell(out, *width, |out| {
            let start = out.len();
            write(out, event, ended);
            if out.len() == start {
                out.push(b'-');
            }
        });
    }
    trim(out);
}

/// The names with commas between them.
pub(super) fn csv_header(out: &mut Vec<u8>, columns: &[Column]) {
    let mut before = "";
    for Column(name, ..) in columns {
        out.extend_from_slice(before.as_bytes());
        out.extend_from_slice(name.as_bytes());
        before = ",";
    }
}

/// The values with commas between them; `scratch` holds one that may need quotes.
pub(super) fn csv_row(
    out: &mut Vec<u8>,
    columns: &[Column],
    event: &Event<'_>,
    ended: &Ended<'_>,
    scratch: &mut Vec<u8>,
) {
    let mut before = &b""[..];
    for Column(_, _, write) in columns {
        out.extend_from_slice(before);
        scratch.clear();
        write(scratch, event, ended);
        field(out, scratch);
        before = b",";
    }
}

fn known<N: itoa::Integer>(out: &mut Vec<u8>, value: Option<N>) {
    if let Some(value) = value {
        decimal(out, value);
    }
}

fn id(out: &mut Vec<u8>, event: &Event<'_>, _: &Ended<'_>) {
    super::append::hex16(out, event.connection_id);
}

fn pid(out: &mut Vec<u8>, event: &Event<'_>, _: &Ended<'_>) {
    known(out, event.transition.process.map(|process| process.pid));
}

fn thread(out: &mut Vec<u8>, event: &Event<'_>, _: &Ended<'_>) {
    if let Some(process) = &event.transition.process {
        terminal(out, comm(&process.comm), 12);
    }
}

fn side(out: &mut Vec<u8>, event: &Event<'_>, _: &Ended<'_>) {
    literal(out, event.transition.role.map_or("", Role::as_str));
}

fn family(out: &mut Vec<u8>, event: &Event<'_>, _: &Ended<'_>) {
    out.push(version(event.transition.family));
}

fn address(out: &mut Vec<u8>, event: &Event<'_>, end: Endpoint) {
    zoned_address(out, end.address, event.transition.interface);
}

fn endpoint(out: &mut Vec<u8>, event: &Event<'_>, end: Endpoint) {
    if end.address.is_ipv6() {
        out.push(b'[');
        address(out, event, end);
        out.push(b']');
    } else {
        address(out, event, end);
    }
    out.push(b':');
    decimal(out, end.port);
}

fn local(out: &mut Vec<u8>, event: &Event<'_>, _: &Ended<'_>) {
    endpoint(out, event, event.transition.local);
}

fn remote(out: &mut Vec<u8>, event: &Event<'_>, _: &Ended<'_>) {
    endpoint(out, event, peer(event));
}

fn outcome(out: &mut Vec<u8>, _: &Event<'_>, ended: &Ended<'_>) {
    out.extend_from_slice(ended.story.ending.outcome.as_str().as_bytes());
}

fn cause(out: &mut Vec<u8>, _: &Event<'_>, ended: &Ended<'_>) {
    if let Some(cause) = ended.story.ending.cause {
        out.extend_from_slice(cause.as_str().as_bytes());
    }
}

/// The cause behind the outcome, or else the error.
fn ending(out: &mut Vec<u8>, event: &Event<'_>, ended: &Ended<'_>) {
    outcome(out, event, ended);
    let start = out.len();
    out.push(b':');
    match ended.story.ending.cause {
        Some(_) => cause(out, event, ended),
        None if matches!(ended.story.ending.outcome, kube_tcpstates_events::Outcome::Rejected) => {
            error(out, event, ended);
        }
        None => {}
    }
    if out.len() == start + 1 {
        out.pop();
    }
}

fn closed_by(out: &mut Vec<u8>, _: &Event<'_>, ended: &Ended<'_>) {
    if let Some(closed_by) = ended.story.ending.closed_by {
        out.extend_from_slice(closed_by.as_str().as_bytes());
    }
}

fn error(out: &mut Vec<u8>, event: &Event<'_>, _: &Ended<'_>) {
    match event.transition.error.map(|number| (number, errno::name(number))) {
        Some((_, Some(name))) => out.extend_from_slice(name.as_bytes()),
        Some((number, None)) => decimal(out, number),
        None => {}
    }
}

fn lasted(out: &mut Vec<u8>, _: &Event<'_>, ended: &Ended<'_>) {
    milliseconds(out, ended.story.duration_ns);
}

fn idle(out: &mut Vec<u8>, _: &Event<'_>, ended: &Ended<'_>) {
    if let Some(us) = ended.story.socket.and_then(|socket| socket.idle_us()) {
        milliseconds(out, us * 1000);
    }
}

fn sent(out: &mut Vec<u8>, _: &Event<'_>, ended: &Ended<'_>) {
    known(out, ended.story.socket.map(|socket| socket.sent.bytes));
}

fn received(out: &mut Vec<u8>, _: &Event<'_>, ended: &Ended<'_>) {
    known(out, ended.story.socket.map(|socket| socket.received.bytes));
}

fn sent_and_received(out: &mut Vec<u8>, event: &Event<'_>, ended: &Ended<'_>) {
    if ended.story.socket.is_some() {
        sent(out, event, ended);
        out.push(b'/');
        received(out, event, ended);
    }
}

fn retransmits(out: &mut Vec<u8>, _: &Event<'_>, ended: &Ended<'_>) {
    known(out, ended.story.socket.map(|socket| socket.retransmits));
}
