//! What connections add up to.

use kube_tcpstates_events::Outcome;

use super::Sizes;
use crate::connection::{SocketFigures, Story};

/// What connections add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many there are.
    pub connections: u64,
    /// By outcome, in the order of [`Outcome::ALL`].
    outcomes: [u64; Outcome::ALL.len()],
    /// Those whose socket said something: the following are theirs.
    pub measured: u64,
    /// Bytes sent and acknowledged.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Segments of data sent again.
    pub retransmits: u64,
    /// Bytes written and never acknowledged.
    pub unsent: u64,
    /// SYNs, or answers to one, sent again: of all.
    pub syn_retransmits: u64,
    /// Times of handshakes, us.
    pub handshakes: Spread,
    /// How they are spread.
    handshake_sizes: Sizes,
    /// Times from beginning to end, us.
    pub durations: Spread,
}

/// Several times, us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// The longest.
    pub max: u64,
}

impl Spread {
    fn add(&mut self, us: u64) {
        self.count += 1;
        self.sum = self.sum.saturating_add(us);
        self.max = self.max.max(us);
    }

    fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// Their mean; `None` where there is none.
    pub const fn mean(&self) -> Option<u64> {
        self.sum.checked_div(self.count)
    }
}

impl Sums {
    /// One more.
    pub fn add(&mut self, story: &Story) {
        self.connections += 1;
        let place = Outcome::ALL.iter().position(|outcome| *outcome == story.ending.outcome);
        if let Some(count) = place.and_then(|place| self.outcomes.get_mut(place)) {
            *count += 1;
        }
        self.syn_retransmits += u64::from(story.syn_retransmits.unwrap_or(0));
        if let Some(us) = story.handshake_us {
            self.handshakes.add(us);
            self.handshake_sizes.add(us);
        }
        self.durations.add(story.duration_ns / 1000);
        if let Some(SocketFigures { sent, received, retransmits, unsent_bytes, .. }) = &story.socket {
            self.measured += 1;
            self.sent = self.sent.saturating_add(sent.bytes);
            self.received = self.received.saturating_add(received.bytes);
            self.retransmits += u64::from(*retransmits);
            self.unsent = self.unsent.saturating_add(*unsent_bytes);
        }
    }

    /// With all of another.
    pub fn join(&mut self, other: &Self) {
        let Self { connections, outcomes, measured, sent, received, retransmits, unsent, .. } = other;
        self.connections += connections;
        self.outcomes.iter_mut().zip(outcomes).for_each(|(count, more)| *count += more);
        self.measured += measured;
        self.sent = self.sent.saturating_add(*sent);
        self.received = self.received.saturating_add(*received);
        self.retransmits += retransmits;
        self.unsent = self.unsent.saturating_add(*unsent);
        self.syn_retransmits += other.syn_retransmits;
        self.handshakes.join(&other.handshakes);
        self.handshake_sizes.join(&other.handshake_sizes);
        self.durations.join(&other.durations);
    }

    /// The time that so many of a hundred handshakes do not exceed, us, a sixteenth off at most.
    pub fn handshake_quantile(&self, percent: u64) -> Option<u64> {
        self.handshake_sizes.quantile(percent).map(|us| us.min(self.handshakes.max))
    }

    /// Outcomes that there were.
    pub fn outcomes(&self) -> impl Iterator<Item = (Outcome, u64)> {
        Outcome::ALL.iter().copied().zip(self.outcomes).filter(|(_, count)| *count > 0)
    }

    /// Connections that did not end in good order.
    pub fn failed(&self) -> u64 {
        self.outcomes().filter(|(outcome, _)| *outcome != Outcome::Closed).map(|(_, count)| count).sum()
    }
}
