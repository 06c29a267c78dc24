//! What connections add up to.

use crate::histogram::Histogram;
use crate::outcome::{ByOutcome, failed};

/// Several connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Those that have ended, by how.
    pub by_outcome: ByOutcome,
    /// Bytes to the server.
    pub to_server: u64,
    /// Bytes to the client.
    pub to_client: u64,
    /// Segments that were sent again.
    pub retransmits: u64,
    /// Times of their handshakes.
    pub handshakes: Histogram,
    /// Time without data before they ended.
    pub idle: Histogram,
    /// The same of those that did not end well.
    pub idle_failed: Histogram,
}

impl Figures {
    /// Those that have ended.
    pub(crate) fn connections(&self) -> u64 {
        sum(self.by_outcome)
    }

    /// Those that did not end well.
    pub(crate) fn failed(&self) -> u64 {
        failed(&self.by_outcome)
    }

    /// Takes others in.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.by_outcome.iter_mut().zip(other.by_outcome) {
            *mine = mine.saturating_add(theirs);
        }
        self.to_server = self.to_server.saturating_add(other.to_server);
        self.to_client = self.to_client.saturating_add(other.to_client);
        self.retransmits = self.retransmits.saturating_add(other.retransmits);
        self.handshakes.merge(&other.handshakes);
        self.idle.merge(&other.idle);
        self.idle_failed.merge(&other.idle_failed);
    }
}

/// Of figures as lines have them, which may be any: where the sum is too large for a number, the largest there is.
pub(crate) fn sum(figures: impl IntoIterator<Item = u64>) -> u64 {
    figures.into_iter().fold(0, u64::saturating_add)
}
