//! What is told of a connection, from what the kernel says of it.

use bytemuck::Zeroable as _;
use kube_tcpstates_common::record::TransitionRecord;
use kube_tcpstates_events::Outcome;

use super::*;
use crate::decode::transitions;

const OF_KERNEL: OfKernel = OfKernel { jiffy_ns: 4_000_000, resets_watched: true };
const READ: u8 = known::SOCKET | known::RECORD | known::HANDSHAKE;

/// The end of a connection whose birth was seen.
fn end(role: Role, old_state: State, figures: Figures) -> Transition {
    let record = TransitionRecord { traces: 1, ..TransitionRecord::zeroed() };
    let (boot_ns, birth_ns) = (9_000, 2_000);
    let role = Some(role);
    let figures = Some(figures);
    Transition { old_state, role, figures, boot_ns, birth_ns, birth_known: true, ..transitions(&record)[0] }
}

fn visited<const COUNT: usize>(states: [State; COUNT]) -> u16 {
    states.map(|state| 1 << state.0).iter().sum()
}

fn tell(transition: &Transition) -> Story {
    Story::of(transition, OF_KERNEL).expect("it has figures")
}

fn socket_of(transition: &Transition) -> SocketFigures {
    tell(transition).socket.expect("the socket was read")
}

#[test]
fn without_figures_there_is_no_story() {
    let transition = end(Role::Client, State::ESTABLISHED, Figures::zeroed());
    assert!(Story::of(&Transition { figures: None, ..transition }, OF_KERNEL).is_none());
}

#[test]
fn it_lasts_from_its_birth_to_its_end_or_from_when_it_was_seen() {
    let transition = end(Role::Client, State::ESTABLISHED, Figures::zeroed());
    let told = |transition: &Transition| {
        let Story { start_ns, duration_ns, since_attach, .. } = tell(transition);
        (start_ns, duration_ns, since_attach)
    };
    assert_eq!(told(&transition), (2_000, 7_000, false));
    assert_eq!(told(&Transition { birth_known: false, ..transition }), (2_000, 7_000, true));
    assert_eq!(told(&Transition { birth_ns: 10_000, ..transition }).1, 0, "two clocks that disagree");
}

/// A time of 0 is one that was in the state for no time, or that nobody saw there.
#[test]
fn a_time_is_told_of_the_states_that_it_was_seen_in() {
    let mut state_ns = [0; TIMED_STATES];
    state_ns[2] = 70;
    let figures = Figures { state_ns, visited: visited([State::SYN_SENT]), ..Figures::zeroed() };
    let told = |figures: Figures| tell(&end(Role::Client, State::ESTABLISHED, figures)).states;
    assert_eq!(told(Figures { known: known::RECORD, ..figures })[..4], [Some(0), None, Some(70), None]);
    assert_eq!(told(figures)[..4], [None, None, Some(70), None]);
}

#[test]
fn the_handshake_of_a_client_is_its_connect_and_that_of_a_server_a_round_trip() {
    let mut state_ns = [0; TIMED_STATES];
    (state_ns[0], state_ns[1]) = (300_000, 40_000);
    let figures = Figures { known: READ, state_ns, handshake_us8: 8 * 90, ..Figures::zeroed() };
    let took = |transition: &Transition| tell(transition).handshake_us;
    let client = end(Role::Client, State::ESTABLISHED, figures);
    assert_eq!(took(&client), Some(340), "both sides connected at once");
    assert_eq!(took(&Transition { birth_known: false, ..client }), None, "it may have begun long before");
    assert_eq!(took(&Transition { old_state: State::SYN_SENT, ..client }), None, "it never was open");
    assert_eq!(took(&Transition { role: Some(Role::Server), ..client }), Some(90));
    let unknown = Some(Figures { known: READ & !known::HANDSHAKE, ..figures });
    assert_eq!(took(&Transition { role: Some(Role::Server), figures: unknown, ..client }), None);
    assert_eq!(took(&Transition { role: None, ..client }), None);
}

/// The kernel counts a SYN and a FIN as a byte each, and a SYN that was sent again as a segment.
#[test]
fn payload_is_told_without_what_opens_and_closes_the_connection() {
    let figures = Figures {
        known: READ,
        visited: visited([State::ESTABLISHED, State::FIN_WAIT1]),
        socket_flags: 1 << 1,
        bytes_acked: 102,
        bytes_received: 51,
        retransmits: 5,
        syn_retransmits: 2,
        ..Figures::zeroed()
    };
    let told = |role: Role, figures: Figures| {
        let socket = socket_of(&end(role, State::FIN_WAIT2, figures));
        (socket.sent.bytes, socket.received.bytes, socket.retransmits)
    };
    assert_eq!(told(Role::Client, figures), (100, 50, 3));
    assert_eq!(told(Role::Server, figures), (101, 50, 3), "a server's SYN is not counted");
    let unacknowledged = Figures { write_next: 1, ..figures };
    assert_eq!(told(Role::Client, unacknowledged), (101, 50, 3), "the FIN is not acknowledged");
    assert_eq!(told(Role::Client, Figures { socket_flags: 0, ..figures }), (100, 51, 3), "no FIN came");
    assert_eq!(tell(&end(Role::Client, State::FIN_WAIT2, figures)).syn_retransmits, Some(2));
}

#[test]
fn unread_bytes_are_told_once_nobody_can_read_them() {
    let figures =
        Figures { known: READ, receive_next: 40, has_descriptor: 1, write_next: 7, ..Figures::zeroed() };
    let unread = |figures: Figures| socket_of(&end(Role::Client, State::ESTABLISHED, figures)).unread_bytes;
    assert_eq!(unread(figures), None, "a program still holds it");
    assert_eq!(unread(Figures { copied: 40, ..figures }), Some(0));
    assert_eq!(unread(Figures { shutdown: 3, ..figures }), Some(40));
    assert_eq!(unread(Figures { has_descriptor: 0, ..figures }), Some(40));
    assert_eq!(socket_of(&end(Role::Client, State::ESTABLISHED, figures)).unsent_bytes, 7);
}

#[test]
fn idle_is_since_the_last_segment_of_either_direction_that_had_any() {
    let figures =
        Figures { known: READ, jiffies: 100, last_sent: 90, last_received: 75, ..Figures::zeroed() };
    let idle = |figures: Figures| {
        let socket = socket_of(&end(Role::Client, State::ESTABLISHED, figures));
        (socket.sent.idle_us, socket.received.idle_us, socket.idle_us())
    };
    let received = Figures { segments_received: 1, ..figures };
    let both = Figures { segments_sent: 1, ..received };
    assert_eq!(idle(both), (Some(40_000), Some(100_000), Some(40_000)));
    assert_eq!(idle(received), (None, Some(100_000), Some(100_000)));
    assert_eq!(idle(figures), (None, None, None));
}

#[test]
fn what_the_kernel_has_not_measured_is_not_told() {
    let figures = Figures { known: READ, min_rtt_us: u32::MAX, out_of_order: 6, ..Figures::zeroed() };
    let told = |figures: Figures| {
        let socket = socket_of(&end(Role::Client, State::ESTABLISHED, figures));
        (socket.srtt_us, socket.min_rtt_us, socket.out_of_order)
    };
    assert_eq!(told(figures), (None, None, None));
    let known = READ | known::OUT_OF_ORDER;
    assert_eq!(told(Figures { known, srtt_us8: 88, min_rtt_us: 9, ..figures }), (Some(11), Some(9), Some(6)));
}

#[test]
fn what_holds_it_up_at_its_end_has_held_it_up_until_then() {
    let figures =
        Figures { known: READ, jiffies: 100, chrono: [1, 2, 3], chrono_start: 90, ..Figures::zeroed() };
    let limited = |figures: Figures| {
        let socket = socket_of(&end(Role::Client, State::ESTABLISHED, figures));
        (socket.peer_window_us, socket.send_buffer_us)
    };
    assert_eq!(limited(figures), (8_000, 12_000));
    assert_eq!(limited(Figures { chrono_type: 1, ..figures }), (8_000, 12_000), "it was only busy");
    assert_eq!(limited(Figures { chrono_type: 2, ..figures }), (48_000, 12_000));
    assert_eq!(limited(Figures { chrono_type: 3, ..figures }), (8_000, 52_000));
}

#[test]
fn a_socket_that_was_not_read_and_a_listener_that_is_not_known_are_absent() {
    let told = |figures: Figures| tell(&end(Role::Server, State::LAST_ACK, figures));
    let unread = told(Figures { known: known::RECORD, ..Figures::zeroed() });
    assert_eq!((unread.socket, unread.syn_retransmits, unread.listener), (None, None, None));
    let figures = Figures { known: READ, listener: 5, listener_birth_ns: 6, ..Figures::zeroed() };
    assert_eq!(told(figures).listener, Some((5, 6)));
}

/// The error and the watch for resets come with the transition and the kernel.
#[test]
fn its_end_is_that_of_the_transition() {
    let refused = i32::unsigned_abs(libc::ECONNREFUSED);
    let transition = Transition {
        error: Some(refused),
        ..end(Role::Client, State::SYN_SENT, Figures { known: READ, ..Figures::zeroed() })
    };
    let outcome = |of_kernel| Story::of(&transition, of_kernel).expect("it has figures").ending.outcome;
    assert_eq!(outcome(OF_KERNEL), Outcome::Rejected);
    assert_eq!(outcome(OfKernel { resets_watched: false, ..OF_KERNEL }), Outcome::Unknown);
    let subflow = Transition { mptcp: true, error: None, old_state: State::ESTABLISHED, ..transition };
    assert_eq!(tell(&subflow).ending.outcome, Outcome::Unknown);
}
