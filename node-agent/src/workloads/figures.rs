//! What is counted of one workload.

use kube_tcpstates_common::state::State;
use kube_tcpstates_events::{Outcome, Role};

use super::histogram::{DURATIONS, HANDSHAKES, Histogram};
use crate::connection::{SocketFigures, Story};

/// States by their number.
const STATES: usize = 13;

/// Connections of one side that have ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfRole {
    /// By outcome, in the order of [`Outcome::ALL`].
    outcomes: [u64; Outcome::ALL.len()],
    /// Bytes sent and acknowledged.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Segments of data sent again.
    pub retransmits: u64,
    /// SYNs, or answers to one, sent again.
    pub syn_retransmits: u64,
    /// Times of handshakes, by [`HANDSHAKES`].
    pub handshakes: Histogram<{ HANDSHAKES.len() }>,
    /// Times from beginning to end, by [`DURATIONS`].
    pub durations: Histogram<{ DURATIONS.len() }>,
}

impl OfRole {
    fn add(&mut self, story: &Story) {
        let place = Outcome::ALL.iter().position(|outcome| *outcome == story.ending.outcome);
        if let Some(count) = place.and_then(|place| self.outcomes.get_mut(place)) {
            *count += 1;
        }
        self.syn_retransmits += u64::from(story.syn_retransmits.unwrap_or(0));
        if let Some(us) = story.handshake_us {
            self.handshakes.add(&HANDSHAKES, us);
        }
        self.durations.add(&DURATIONS, story.duration_ns / 1000);
        if let Some(SocketFigures { sent, received, retransmits, .. }) = &story.socket {
            self.sent = self.sent.saturating_add(sent.bytes);
            self.received = self.received.saturating_add(received.bytes);
            self.retransmits += u64::from(*retransmits);
        }
    }

    /// Outcomes that there were.
    pub fn outcomes(&self) -> impl Iterator<Item = (Outcome, u64)> {
        Outcome::ALL.iter().copied().zip(self.outcomes).filter(|(_, count)| *count > 0)
    }
}

/// The listeners of a workload, at the last walk.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ListenerFigures {
    /// How many there are.
    pub listeners: u64,
    /// Connections that wait to be accepted.
    pub waiting: u64,
    /// The fullest of their queues: what waits by what may, in thousandths.
    pub fullest_permille: u64,
}

/// Everything that is counted of a workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// By side: client, server, not known.
    ended: [OfRole; 3],
    open: [u64; STATES],
    /// Its listeners; `None` where none was seen at the last walk.
    pub listening: Option<ListenerFigures>,
    /// What listeners have dropped since they were first seen.
    pub drops: u64,
}

impl Figures {
    /// A connection has ended.
    pub(super) fn ended(&mut self, role: Option<Role>, story: &Story) {
        let side = match role {
            Some(Role::Client) => 0,
            Some(Role::Server) => 1,
            None => 2,
        };
        self.ended[side].add(story);
    }

    /// So many are in that state.
    pub(super) fn open(&mut self, state: State, count: u64) {
        if let Some(sum) = self.open.get_mut(usize::from(state.0)) {
            *sum += count;
        }
    }

    /// What is open is counted anew.
    pub(super) fn clear_open(&mut self) {
        self.open = [0; STATES];
        self.listening = None;
    }

    /// Those that have ended, by side; only sides that there were.
    pub fn roles(&self) -> impl Iterator<Item = (&'static str, &OfRole)> {
        let sides = ["client", "server", "unknown"].into_iter().zip(&self.ended);
        sides.filter(|(_, of_role)| of_role.durations.count() > 0)
    }

    /// What was open at the last walk; only states that there were.
    pub fn states(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let states = (0..).zip(self.open).filter(|(_, count)| *count > 0);
        states.filter_map(|(state, count)| Some((State(state).name()?, count)))
    }

    pub(super) fn has_open(&self) -> bool {
        self.listening.is_some() || self.open.iter().any(|count| *count > 0)
    }
}
