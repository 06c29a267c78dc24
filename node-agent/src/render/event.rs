//! What a line is made from: a finished event.

use kube_tcpstates_common::state::State;

use super::Attribution;
use crate::decode::Transition;
use crate::names::{Numbered, Owner, Peer, TraceNames};

/// A transition with everything the earlier stations learned about it.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The transition.
    pub transition: &'a Transition,
    /// Wall-clock time of it, nanoseconds since the Unix epoch.
    pub unix_ns: u64,
    /// Id of the connection.
    pub connection_id: u64,
    /// How the owner was found.
    pub attribution: Attribution,
    /// The owner; `None` when unknown.
    pub owner: Option<&'a Numbered<Owner>>,
    /// The other end, where a trace that wants the line asks for it and it is known.
    pub peer: Option<&'a Numbered<Peer>>,
    /// The traces that want the line.
    pub traces: &'a TraceNames,
}

impl Transition {
    /// The socket is a listener, now or until now; its unspecified local address then means every address. The child
    /// that leaves LISTEN for `SYN_RECV` is no listener.
    pub(super) fn of_listener(&self) -> bool {
        self.new_state == State::LISTEN
            || (self.old_state == State::LISTEN && self.new_state != State::SYN_RECV)
    }

    /// A connect failed, and no error tells why.
    pub(super) fn failed_for_unknown_cause(&self) -> bool {
        (self.old_state, self.new_state) == (State::SYN_SENT, State::CLOSE)
            && self.error.is_none_or(|number| number == 0)
    }
}

/// The OpenTelemetry value of `network.connection.state` for a state that has one.
pub(super) const fn otel_state(state: State) -> Option<&'static str> {
    Some(match state {
        State::ESTABLISHED => "established",
        State::SYN_SENT => "syn_sent",
        State::SYN_RECV | State::NEW_SYN_RECV => "syn_received",
        State::FIN_WAIT1 => "fin_wait_1",
        State::FIN_WAIT2 => "fin_wait_2",
        State::TIME_WAIT => "time_wait",
        State::CLOSE => "closed",
        State::CLOSE_WAIT => "close_wait",
        State::LAST_ACK => "last_ack",
        State::LISTEN => "listen",
        State::CLOSING => "closing",
        _ => return None,
    })
}

/// A comm without the zeros behind it.
pub(super) fn comm(bytes: &[u8; 16]) -> &[u8] {
    let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    &bytes[..len]
}
