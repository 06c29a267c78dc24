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
        self.by_outcome.iter().sum()
    }

    /// Those that did not end well.
    pub(crate) fn failed(&self) -> u64 {
        failed(&self.by_outcome)
    }

    /// Takes others in.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.by_outcome.iter_mut().zip(other.by_outcome) {
            *mine += theirs;
        }
        self.to_server += other.to_server;
        self.to_client += other.to_client;
        self.retransmits += other.retransmits;
        self.handshakes.merge(&other.handshakes);
        self.idle.merge(&other.idle);
        self.idle_failed.merge(&other.idle_failed);
    }
}
