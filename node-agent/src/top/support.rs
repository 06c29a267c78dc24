//! Samples for the tests of this folder.

use kube_tcpstates_common::state::State;
use kube_tcpstates_events::{ClosedBy, Direction, Outcome, Role};

use crate::{
    connection::{Ending, SocketFigures, Story},
    summary::Sums,
    top::{Ended, Open},
};

/// Connections of an owner to 10.0.0.9, some of which were refused.
pub(crate) fn ended(owner: &str, role: Option<Role>, port: u16, connections: u64, refused: u64) -> Ended {
    let mut sums = Sums::default();
    for number in 0..connections {
        sums.add(&story(number < refused));
    }
    Ended { owner: owner.into(), peer: Some([10, 0, 0, 9].into()), port, role, sums }
}

fn story(is_refused: bool) -> Story {
    let direction = |bytes| Direction { bytes, segments: 1, idle_us: None };
    let outcome = if is_refused { Outcome::Refused } else { Outcome::Closed };
    Story {
        ending: Ending { outcome, cause: None, closed_by: Some(ClosedBy::Local) },
        start_ns: 0,
        duration_ns: 5_000_000,
        since_attach: false,
        states: [None; State::TIMED.len()],
        handshake_us: (!is_refused).then_some(800),
        syn_retransmits: Some(0),
        socket: (!is_refused).then(|| SocketFigures {
            sent: direction(100),
            received: direction(2_000),
            retransmits: 0,
            out_of_order: None,
            unread_bytes: None,
            unsent_bytes: 0,
            srtt_us: None,
            min_rtt_us: None,
            peer_window_us: 0,
            send_buffer_us: 0,
        }),
        listener: None,
    }
}

/// An open connection of an owner to 10.0.0.9.
pub(crate) fn open(owner: &str, role: Option<Role>, ports: (u16, u16), state: State) -> Open {
    Open { owner: owner.into(), peer: Some([10, 0, 0, 9].into()), ports, role, state }
}
