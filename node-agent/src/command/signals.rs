//! What signals ask of a run.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

/// What a signal asks for.
pub(super) enum Told {
    End,
    Summary,
}

/// Ways to be told from outside.
pub(super) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    user: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            user: listen(SignalKind::user_defined1())?,
        })
    }

    /// The next of them.
    pub(super) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.interrupt.recv() => Told::End,
            _ = self.terminate.recv() => Told::End,
            _ = self.user.recv() => Told::Summary,
        }
    }
}
