//! How a connection ended, by what the kernel says of it at -> CLOSE. Kernel sources: `net/ipv4/tcp.c`, `tcp_input.c`,
//! `tcp_timer.c` and `inet_connection_sock.c`, Linux 6.18. What cannot be told apart there is [`Outcome::Unknown`].

use kube_tcpstates_common::{
    record::{Figures, known},
    state::State,
};
use kube_tcpstates_events::{ClosedBy, EndCause, Outcome};

use crate::decode::Transition;

/// `enum sock_flags`, `include/net/sock.h`, the same since 2.6.
mod socket_flag {
    /// No program holds the socket any more.
    pub(super) const DEAD: u64 = 1 << 0;
    /// The peer's FIN has come.
    pub(super) const DONE: u64 = 1 << 1;
    /// `SO_LINGER`.
    pub(super) const LINGER: u64 = 1 << 4;
}

/// `SHUTDOWN_MASK`: nothing is received any more, and nothing sent.
const SHUT_BOTH: u8 = 3;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// What became of it.
    pub outcome: Outcome,
    /// Why, where the outcome alone does not say it.
    pub cause: Option<EndCause>,
    /// Who ended it.
    pub closed_by: Option<ClosedBy>,
}

impl Ending {
    const UNKNOWN: Self = Self { outcome: Outcome::Unknown, cause: None, closed_by: None };

    const fn new(outcome: Outcome, closed_by: ClosedBy) -> Self {
        Self { outcome, cause: None, closed_by: Some(closed_by) }
    }

    const fn reset_by_us(cause: EndCause) -> Self {
        Self { cause: Some(cause), ..Self::new(Outcome::ResetByUs, ClosedBy::Local) }
    }
}

/// The facts of one end, by their names.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    figures: &'a Figures,
    /// Had a reset been taken from the peer, the kernel would have told.
    resets_watched: bool,
    mptcp: bool,
    old: State,
    error: u32,
}

impl<'a> Facts<'a> {
    pub(super) fn new(transition: &Transition, figures: &'a Figures, resets_watched: bool) -> Self {
        let error = transition.error.unwrap_or(0);
        // A connect that is older than the tracer has no record yet, to note a reset in.
        let resets_watched = resets_watched && transition.birth_known;
        Self { figures, resets_watched, mptcp: transition.mptcp, old: transition.old_state, error }
    }

    fn has(&self, bit: u8) -> bool {
        self.figures.known & bit != 0
    }

    fn flag(&self, flag: u64) -> bool {
        self.figures.socket_flags & flag != 0
    }

    pub(super) fn visited(&self, state: State) -> bool {
        self.old == state || u32::from(self.figures.visited) >> state.0 & 1 == 1
    }

    /// The peer's FIN has come.
    pub(super) fn fin_came(&self) -> bool {
        self.flag(socket_flag::DONE)
    }

    /// Of a connection that is older than the tracer the first of these states may have gone by unseen.
    fn fin_sent(&self) -> bool {
        let states = [State::FIN_WAIT1, State::FIN_WAIT2, State::CLOSING, State::LAST_ACK];
        states.into_iter().any(|state| self.visited(state))
    }

    /// The handshake is over, seen or not.
    pub(super) fn was_open(&self) -> bool {
        self.fin_sent() || self.visited(State::ESTABLISHED) || self.visited(State::CLOSE_WAIT)
    }

    /// What was written and not acknowledged, sequence numbers.
    fn outstanding(&self) -> u32 {
        self.figures.write_next.wrapping_sub(self.figures.unacknowledged)
    }

    /// The own FIN was sent, and the peer has acknowledged it.
    pub(super) fn fin_acknowledged(&self) -> bool {
        self.fin_sent() && self.outstanding() == 0
    }

    /// Bytes written and not acknowledged: without the FIN, and without a SYN that nobody answered.
    pub(super) fn unsent(&self) -> u32 {
        let control = self.old == State::SYN_SENT || self.fin_sent();
        self.outstanding().saturating_sub(control.into())
    }

    /// Bytes that came and were not read, without the FIN.
    pub(super) fn unread(&self) -> u32 {
        let waiting = self.figures.receive_next.wrapping_sub(self.figures.copied);
        // A program that has read the end of the stream is one ahead.
        if waiting > u32::MAX / 2 { 0 } else { waiting.saturating_sub(self.fin_came().into()) }
    }

    /// No program can read from it any more. Of one that was shut down for sending, the peer's FIN shuts the other half,
    /// and what came before it can still be read.
    pub(super) fn is_given_up(&self) -> bool {
        let by_fin = self.fin_came() && !matches!(self.old, State::ESTABLISHED | State::CLOSE_WAIT);
        self.flag(socket_flag::DEAD) || self.has_no_descriptor() || self.is_shut() && !by_fin
    }

    /// Nothing is received any more, and nothing sent.
    fn is_shut(&self) -> bool {
        self.figures.shutdown & SHUT_BOTH == SHUT_BOTH
    }

    fn has_no_descriptor(&self) -> bool {
        self.figures.has_descriptor == 0 && !self.flag(socket_flag::DEAD)
    }

    /// A child that no program has accepted. Subflows look the same once the program closes their MPTCP socket
    /// (`__mptcp_close`, `net/mptcp/protocol.c`).
    fn is_orphan_child(&self) -> bool {
        self.has_no_descriptor() && !self.mptcp
    }

    fn lingers_not(&self) -> bool {
        self.flag(socket_flag::LINGER) && self.figures.linger_time == 0
    }

    /// New data came after the program had closed it. The kernel drops a copy of what had come before, and counts it among
    /// the drops; new data ends the connection before it is dropped. A copy may bring the peer's FIN, and is then kept.
    fn data_after_close(&self) -> bool {
        let Figures { segments_received, drops, segments_at_fin, .. } = *self.figures;
        let not_dropped = segments_received.wrapping_sub(drops).wrapping_sub(segments_at_fin);
        self.has(known::SEGMENTS_AT_FIN) && not_dropped.cast_signed() > 0 && !self.fin_came()
    }

    /// The segment that acknowledged the FIN began with a copy of what had come before. It ends the connection before it is
    /// counted among the drops.
    fn fin_acknowledged_by_copy(&self) -> bool {
        self.figures.window_from.wrapping_sub(self.figures.receive_next).cast_signed() < 0
    }

    /// SYNs that were sent again.
    pub(super) fn syn_retransmits(&self) -> Option<u32> {
        if self.has(known::HANDSHAKE) {
            return Some(self.figures.syn_retransmits.into());
        }
        // Where the neighbour's address was never found only the timer counts.
        let tried = self.figures.retransmits.max(self.figures.retransmits_in_row.into());
        (self.has(known::SOCKET) && self.old == State::SYN_SENT).then_some(tried)
    }
}

/// How the connection ended.
pub(super) fn ending(facts: &Facts<'_>) -> Ending {
    if !facts.has(known::SOCKET) {
        return by_states_alone(facts);
    }
    if facts.old == State::SYN_SENT { of_connect(facts) } else { of_connection(facts) }
}

/// Where the socket itself tells nothing: not read, or the end was missed.
fn by_states_alone(facts: &Facts<'_>) -> Ending {
    let in_order = matches!(facts.old, State::LAST_ACK | State::CLOSING | State::FIN_WAIT2);
    match facts.error {
        0 if in_order && !facts.has(known::RESET_RECEIVED) => {
            Ending { closed_by: first_fin(facts), ..Ending::new(Outcome::Closed, ClosedBy::Local) }
        }
        _ if facts.has(known::RESET_RECEIVED) && facts.old == State::SYN_SENT => {
            Ending::new(Outcome::Refused, ClosedBy::Peer)
        }
        _ if facts.has(known::RESET_RECEIVED) => Ending::new(Outcome::ResetByPeer, ClosedBy::Peer),
        error if error == number(libc::ETIMEDOUT) && facts.old == State::SYN_SENT => {
            Ending::new(Outcome::Unanswered, ClosedBy::Kernel)
        }
        error if error == number(libc::ETIMEDOUT) => Ending::new(Outcome::TimedOut, ClosedBy::Kernel),
        _ => Ending::UNKNOWN,
    }
}

fn of_connect(facts: &Facts<'_>) -> Ending {
    if facts.has(known::RESET_RECEIVED) {
        return Ending::new(Outcome::Refused, ClosedBy::Peer);
    }
    let sent = facts.figures.all_segments_sent > 0;
    match facts.error {
        0 if facts.syn_retransmits().is_some_and(|count| count > 0) => {
            Ending::new(Outcome::Unanswered, ClosedBy::Local)
        }
        0 if sent => Ending::new(Outcome::Cancelled, ClosedBy::Local),
        0 => Ending::UNKNOWN,
        error if error == number(libc::ETIMEDOUT) => Ending::new(Outcome::Unanswered, ClosedBy::Kernel),
        error if error == number(libc::EADDRNOTAVAIL) && !sent => {
            Ending::new(Outcome::NoLocalPort, ClosedBy::Kernel)
        }
        error if error == number(libc::ECONNABORTED) => Ending::reset_by_us(EndCause::Killed),
        // A reset, or an ICMP message that says the same.
        error if error == number(libc::ECONNREFUSED) && !facts.resets_watched => Ending::UNKNOWN,
        // Of a socket whose beginning was not seen the error may be of an earlier connection.
        _ if !facts.has(known::RECORD) => Ending::UNKNOWN,
        _ => Ending::new(Outcome::Rejected, ClosedBy::Kernel),
    }
}

fn of_connection(facts: &Facts<'_>) -> Ending {
    let is_reset = [libc::ECONNRESET, libc::EPIPE].map(number).contains(&facts.error);
    if facts.has(known::RESET_RECEIVED) || is_reset {
        return if facts.data_after_close() {
            // The kernel ends such a connection as if a reset had come (`tcp_rcv_state_process`).
            Ending::reset_by_us(EndCause::DataAfterClose)
        } else {
            Ending::new(Outcome::ResetByPeer, ClosedBy::Peer)
        };
    }
    match facts.error {
        0 => without_error(facts),
        error if error == number(libc::ECONNABORTED) => Ending::reset_by_us(EndCause::Killed),
        error => timed_out(facts, error),
    }
}

/// The kernel gave up. Its error is `ETIMEDOUT`, or what an ICMP message had said meanwhile.
fn timed_out(facts: &Facts<'_>, error: u32) -> Ending {
    let Figures { retransmits_in_row, probes, user_timeout, .. } = *facts.figures;
    let cause = match (user_timeout, retransmits_in_row, probes) {
        (1.., ..) => EndCause::UserTimeout,
        (_, 1.., _) => EndCause::Retransmissions,
        (_, _, 1..) if facts.unsent() == 0 => EndCause::Keepalive,
        (_, _, 1..) => EndCause::WindowProbes,
        _ if error == number(libc::ETIMEDOUT) => {
            return Ending::new(Outcome::TimedOut, ClosedBy::Kernel);
        }
        _ => return Ending::UNKNOWN,
    };
    Ending { cause: Some(cause), ..Ending::new(Outcome::TimedOut, ClosedBy::Kernel) }
}

fn without_error(facts: &Facts<'_>) -> Ending {
    if facts.is_orphan_child() {
        return Ending::new(Outcome::NeverAccepted, ClosedBy::Local);
    }
    let closes = facts.is_shut();
    let dead = facts.flag(socket_flag::DEAD);
    match facts.old {
        State::FIN_WAIT2 if facts.data_after_close() && !facts.fin_acknowledged_by_copy() => {
            Ending::reset_by_us(EndCause::DataAfterClose)
        }
        // The peer's FIN came, or the kernel waits for it in a smaller socket.
        State::FIN_WAIT2 if facts.fin_came() || dead => closed(facts),
        State::CLOSING | State::LAST_ACK if facts.outstanding() == 0 => closed(facts),
        State::FIN_WAIT1 | State::CLOSING | State::LAST_ACK if dead => Ending::reset_by_us(EndCause::Memory),
        // Before a FIN of its own there is no orderly way to CLOSE.
        _ => abort(facts, closes),
    }
}

fn abort(facts: &Facts<'_>, closes: bool) -> Ending {
    if closes && facts.unread() > 0 {
        Ending::reset_by_us(EndCause::UnreadData)
    } else if closes && facts.lingers_not() {
        Ending::reset_by_us(EndCause::Linger)
    } else if !closes && !facts.mptcp {
        Ending::reset_by_us(EndCause::Disconnect)
    } else {
        Ending::UNKNOWN
    }
}

fn closed(facts: &Facts<'_>) -> Ending {
    Ending { outcome: Outcome::Closed, cause: None, closed_by: first_fin(facts) }
}

/// Whose FIN was the first.
fn first_fin(facts: &Facts<'_>) -> Option<ClosedBy> {
    if facts.visited(State::CLOSE_WAIT) || facts.visited(State::LAST_ACK) {
        Some(ClosedBy::Peer)
    } else if facts.visited(State::CLOSING) {
        Some(ClosedBy::Both)
    } else if facts.visited(State::FIN_WAIT1) || facts.visited(State::FIN_WAIT2) {
        Some(ClosedBy::Local)
    } else {
        None
    }
}

/// An errno as lines have it.
fn number(errno: i32) -> u32 {
    errno.unsigned_abs()
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
