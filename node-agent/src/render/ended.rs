//! A connection that has ended: what every format shows of it.

use kube_tcpstates_common::state::State;
use kube_tcpstates_events::Direction;

use super::MAX_LINE;
use super::append::{decimal, hex16, literal};
use super::event::Event;
use super::names::{first, next};
use super::peer;
use super::time::UtcClock;
use crate::connection::Story;

/// What a line of a connection is made from, beside the [`Event`] of the transition that ends it.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// What it was.
    pub story: &'a Story,
    /// Wall-clock time of its beginning, nanoseconds since the Unix epoch.
    pub start_ns: u64,
    /// Id of the listener it was accepted from.
    pub listener: Option<u64>,
    /// The line must not become long.
    pub brief: bool,
}

impl<'a> Ended<'a> {
    /// Without what makes the line long.
    fn brief(&self, story: &'a mut Story) -> Self {
        *story = Story { socket: None, states: [None; State::TIMED.len()], ..*self.story };
        Self { story, listener: None, brief: true, ..*self }
    }
}

/// Writes a line: whole, or without the names of the other end, or without the figures, so that it is not too long.
/// Only names of hundreds of characters make it so.
pub(super) fn where_it_fits(
    out: &mut Vec<u8>,
    event: &Event<'_>,
    ended: &Ended<'_>,
    mut write: impl FnMut(&mut Vec<u8>, &Event<'_>, &Ended<'_>),
) {
    let start = out.len();
    peer::where_it_fits(out, event, |out, event| write(out, event, ended));
    if out.len() - start >= MAX_LINE {
        let mut story = *ended.story;
        out.truncate(start);
        write(out, &Event { peer: None, ..*event }, &ended.brief(&mut story));
    }
}

/// Names of the times in states, as [`State::TIMED`] orders them.
const TIMES: [&str; State::TIMED.len()] = [
    "SYN_SENT_us",
    "SYN_RECV_us",
    "ESTABLISHED_us",
    "FIN_WAIT1_us",
    "FIN_WAIT2_us",
    "CLOSE_WAIT_us",
    "CLOSING_us",
    "LAST_ACK_us",
];

/// How it ended and when it began; ends with the time it took.
pub(super) fn ending(out: &mut Vec<u8>, ended: &Ended<'_>, role: &str, clock: &mut UtcClock) {
    let Story { ending, duration_ns, since_attach, .. } = ended.story;
    literal(out, concat!(next!(outcome), "\""));
    literal(out, ending.outcome.as_str());
    if let Some(cause) = ending.cause {
        literal(out, concat!("\"", next!(cause), "\""));
        literal(out, cause.as_str());
    }
    if let Some(closed_by) = ending.closed_by {
        literal(out, concat!("\"", next!(closed_by), "\""));
        literal(out, closed_by.as_str());
    }
    out.push(b'"');
    literal(out, role);
    literal(out, concat!(next!(start), "\""));
    clock.append(out, ended.start_ns);
    literal(out, concat!("\"", next!(duration_us)));
    decimal(out, duration_ns / 1000);
    if *since_attach {
        literal(out, concat!(next!(since_attach), "true"));
    }
}

/// Its figures, as far as they are known.
pub(super) fn figures(out: &mut Vec<u8>, story: &Story) {
    number(out, next!(handshake_us), story.handshake_us);
    number(out, next!(syn_retransmits), story.syn_retransmits);
    if let Some(socket) = &story.socket {
        number(out, next!(idle_us), socket.idle_us());
        direction(out, next!(sent), &socket.sent);
        direction(out, next!(received), &socket.received);
        number(out, next!(retransmits), Some(socket.retransmits));
        number(out, next!(out_of_order), socket.out_of_order);
        number(out, next!(unread_bytes), socket.unread_bytes);
        number(out, next!(unsent_bytes), Some(socket.unsent_bytes));
        number(out, next!(srtt_us), socket.srtt_us);
        number(out, next!(min_rtt_us), socket.min_rtt_us);
        limited(out, socket.peer_window_us, socket.send_buffer_us);
    }
    states(out, story);
}

/// `,"listener":{"id":"9f2c41d07be6a835"}`, if it is known.
pub(super) fn listener(out: &mut Vec<u8>, id: Option<u64>) {
    if let Some(id) = id {
        literal(out, concat!(next!(listener), "{", first!(id), "\""));
        hex16(out, id);
        literal(out, "\"}");
    }
}

fn number<N: itoa::Integer>(out: &mut Vec<u8>, name: &str, value: Option<N>) {
    if let Some(value) = value {
        literal(out, name);
        decimal(out, value);
    }
}

fn direction(out: &mut Vec<u8>, name: &str, direction: &Direction) {
    literal(out, name);
    literal(out, concat!("{", first!(bytes)));
    decimal(out, direction.bytes);
    literal(out, next!(segments));
    decimal(out, direction.segments);
    number(out, next!(idle_us), direction.idle_us);
    out.push(b'}');
}

/// `,"limited":{"peer_window_us":12000}`, if something held it up.
fn limited(out: &mut Vec<u8>, peer_window_us: u64, send_buffer_us: u64) {
    let some = |us: u64| Some(us).filter(|us| *us != 0);
    if peer_window_us | send_buffer_us == 0 {
        return;
    }
    literal(out, concat!(next!(limited), "{"));
    number(out, first!(peer_window_us), some(peer_window_us));
    let name = if peer_window_us == 0 { first!(send_buffer_us) } else { next!(send_buffer_us) };
    number(out, name, some(send_buffer_us));
    out.push(b'}');
}

/// `,"states":{"ESTABLISHED_us":433}`, if any is known. In the order of their names, as serde has them.
fn states(out: &mut Vec<u8>, story: &Story) {
    const ORDER: [usize; 8] = [5, 6, 2, 3, 4, 7, 1, 0];
    let mut before = concat!(next!(states), "{\"");
    for place in ORDER {
        if let Some(ns) = story.states[place] {
            literal(out, before);
            literal(out, TIMES[place]);
            literal(out, "\":");
            decimal(out, ns / 1000);
            before = ",\"";
        }
    }
    if before == ",\"" {
        out.push(b'}');
    }
}
