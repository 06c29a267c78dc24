//! Connections as tests have them end.

use kube_tcpstates_common::state::State;
use kube_tcpstates_events::{Direction, Outcome};

use super::{Ending, SocketFigures, Story};

/// One of 5 ms; where it was closed in good order, with what its socket sent and received.
pub(crate) fn story(outcome: Outcome) -> Story {
    let direction = |bytes| Direction { bytes, segments: 1, idle_us: None };
    let opened = outcome == Outcome::Closed;
    Story {
        ending: Ending { outcome, cause: None, closed_by: None },
        start_ns: 0,
        duration_ns: 5_000_000,
        since_attach: false,
        states: [None; State::TIMED.len()],
        handshake_us: opened.then_some(400),
        syn_retransmits: Some(1),
        socket: opened.then(|| SocketFigures {
            sent: direction(100),
            received: direction(2_000),
            retransmits: 3,
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
