//! What looks alike to the kernel: data and copies of it.

use bytemuck::Zeroable as _;
use kube_tcpstates_common::{
    record::{Figures, TransitionRecord, known},
    state::State,
};
use kube_tcpstates_events::{ClosedBy, EndCause, Outcome};

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
