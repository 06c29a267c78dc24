//! Samples for the tests of this folder.

use kube_tcpstates_common::state::State;
use kube_tcpstates_events::{ClosedBy, Outcome, Role};

use crate::{
    connection::{Ending, SocketFigures, Story, fixtures},
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
    let outcome = if is_refused { Outcome::Refused } else { Outcome::Closed };
    let story = fixtures::story(outcome);
    Story {
        ending: Ending { closed_by: Some(ClosedBy::Local), ..story.ending },
        handshake_us: story.handshake_us.map(|_| 800),
        syn_retransmits: Some(0),
        socket: story.socket.map(|socket| SocketFigures { retransmits: 0, ..socket }),
        ..story
    }
}

/// An open connection of an owner to 10.0.0.9.
pub(crate) fn open(owner: &str, role: Option<Role>, ports: (u16, u16), state: State) -> Open {
    Open { owner: owner.into(), peer: Some([10, 0, 0, 9].into()), ports, role, state }
}
