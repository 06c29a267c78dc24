//! What signals ask of a run.

use anyhow::Context as _;
use tokio::signal::unix::{self, SignalKind, signal};

/// What a signal asks for.
pub(super) enum Signal {
    /// To end cleanly: SIGINT.
    Interrupt,
    /// To end cleanly, perhaps for another process to go on: SIGTERM.
    Terminate,
    /// To say the counts: SIGUSR1.
    Summary,
}

/// Ways to be told from outside.
pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    user: unix::Signal,
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
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.user.recv() => Signal::Summary,
        }
    }
}
