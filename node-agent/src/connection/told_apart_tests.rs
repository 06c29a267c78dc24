//! What looks alike to the kernel: data and copies of it, what a connection that is older than the tracer sent, and what
//! ended its connect.

use bytemuck::Zeroable as _;
use kube_tcpstates_common::{
    record::{Figures, TransitionRecord, known},
    state::State,
};
use kube_tcpstates_events::{ClosedBy, EndCause, Outcome, Role};

use super::{OfKernel, Story};
use crate::decode::{Transition, transitions};

const OF_KERNEL: OfKernel = OfKernel { jiffy_ns: 4_000_000, resets_watched: true };
const READ: u8 = known::SOCKET | known::RECORD;
/// `SOCK_DEAD`: the program has let go. `SOCK_DONE`: the peer's FIN has come.
const DEAD: u64 = 1;
const DONE: u64 = 2;

fn end(old_state: State, figures: Figures) -> Transition {
    let record = TransitionRecord { traces: 1, ..TransitionRecord::zeroed() };
    let figures = Some(figures);
    Transition { old_state, figures, birth_known: true, ..transitions(&record)[0] }
}

fn tell(transition: &Transition) -> Story {
    Story::of(transition, OF_KERNEL).expect("it has figures")
}

fn visited(states: &[State]) -> u16 {
    states.iter().map(|state| 1 << state.0).sum()
}

/// Closed by its program after a request of 100 bytes, which begins at 0; so many segments came after that, and so many of
/// them were dropped.
fn closed_and_then(came: u32, dropped: u32) -> Figures {
    Figures {
        known: READ | known::SEGMENTS_AT_FIN,
        visited: visited(&[State::ESTABLISHED, State::FIN_WAIT1]),
        socket_flags: DEAD,
        shutdown: 3,
        has_descriptor: 0,
        receive_next: 100,
        copied: 100,
        window_from: 100,
        // Five were dropped before.
        segments_at_fin: 1_u32.wrapping_sub(5),
        segments_received: 1 + came,
        drops: 5 + dropped,
        ..Figures::zeroed()
    }
}

#[test]
fn a_copy_of_what_came_before_is_no_data_after_the_close() {
    let told = |figures: Figures, error: Option<u32>| {
        let ending = tell(&Transition { error, ..end(State::FIN_WAIT2, figures) }).ending;
        (ending.outcome, ending.closed_by, ending.cause)
    };
    let closed = (Outcome::Closed, Some(ClosedBy::Local), None);
    let data = (Outcome::ResetByUs, Some(ClosedBy::Local), Some(EndCause::DataAfterClose));
    let peer = (Outcome::ResetByPeer, Some(ClosedBy::Peer), None);
    let reset = Some(libc::ECONNRESET.unsigned_abs());
    assert_eq!(told(closed_and_then(0, 0), None), closed, "nothing came");
    assert_eq!(told(closed_and_then(2, 2), None), closed, "two copies");
    assert_eq!(told(closed_and_then(1, 3), None), closed, "a copy, and old acknowledgements");
    assert_eq!(told(closed_and_then(1, 0), None), data);
    assert_eq!(told(closed_and_then(3, 2), None), data, "two copies, and new data");
    assert_eq!(told(closed_and_then(2, 2), reset), peer, "two copies, and a reset");
    assert_eq!(told(closed_and_then(3, 2), reset), data, "which the kernel ends as if a reset had come");
}

#[test]
fn a_copy_that_acknowledges_the_fin_or_brings_the_peers_is_none_either() {
    let told = |figures: Figures, old| tell(&end(old, figures)).ending.outcome;
    let acknowledges = Figures { window_from: 0, ..closed_and_then(1, 0) };
    assert_eq!(told(acknowledges, State::FIN_WAIT2), Outcome::Closed);
    let wrapped = Figures { window_from: u32::MAX - 99, receive_next: 0, copied: 0, ..acknowledges };
    assert_eq!(told(wrapped, State::FIN_WAIT2), Outcome::Closed);
    let brings_fin = Figures {
        socket_flags: DEAD | DONE,
        receive_next: 101,
        known: closed_and_then(1, 0).known | known::RESET_RECEIVED,
        ..closed_and_then(1, 0)
    };
    assert_eq!(told(brings_fin, State::CLOSING), Outcome::ResetByPeer);
}

#[test]
fn what_refused_a_connect_that_is_older_than_the_tracer_is_not_guessed() {
    let refused = |birth_known: bool, read: u8| {
        let error = Some(libc::ECONNREFUSED.unsigned_abs());
        let figures = Figures { known: read, all_segments_sent: 1, ..Figures::zeroed() };
        tell(&Transition { error, birth_known, ..end(State::SYN_SENT, figures) }).ending.outcome
    };
    assert_eq!(refused(true, READ), Outcome::Rejected, "no reset came, so an ICMP message did");
    assert_eq!(refused(false, READ), Outcome::Unknown);
    assert_eq!(refused(false, READ | known::RESET_RECEIVED), Outcome::Refused);
}

/// `acked` counts the SYN of a client and a FIN; of these connections only the last states were seen.
#[test]
fn bytes_sent_are_payload_also_where_the_beginning_was_not_seen() {
    let sent = |role, old, states: &[State], acked, segments| {
        let figures = Figures {
            known: READ,
            visited: visited(states),
            bytes_acked: acked,
            segments_sent: segments,
            ..Figures::zeroed()
        };
        let transition = Transition { role, birth_known: false, ..end(old, figures) };
        tell(&transition).socket.expect("it was read").sent.bytes
    };
    let (client, server) = (Some(Role::Client), Some(Role::Server));
    for state in [State::FIN_WAIT2, State::CLOSING, State::LAST_ACK] {
        assert_eq!(sent(client, state, &[], 12, 1), 10, "{state:?}");
        assert_eq!(sent(server, state, &[], 11, 1), 10, "{state:?}");
    }
    assert_eq!(sent(client, State::CLOSE_WAIT, &[], 11, 1), 10);
    assert_eq!(sent(client, State::SYN_SENT, &[], 0, 0), 0);
    // Without a role the SYN is told from data only where there is no data.
    assert_eq!(sent(None, State::ESTABLISHED, &[], 1, 0), 0);
    assert_eq!(sent(None, State::FIN_WAIT2, &[State::ESTABLISHED, State::FIN_WAIT1], 2, 0), 0);
    assert_eq!(sent(None, State::ESTABLISHED, &[], 1, 1), 1);
    // What was sent before it was put in its place again (`TCP_REPAIR`).
    assert_eq!(sent(None, State::ESTABLISHED, &[], 300, 0), 300);
}
