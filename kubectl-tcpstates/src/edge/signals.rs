//! Ctrl-C and SIGTERM: the first ends what goes on and cleans up, the second ends the program.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::trouble::Trouble;

/// Waits for signals.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on they do not end the program by themselves.
    pub(crate) fn new() -> Result<Self, Trouble> {
        let of =
            |kind| signal(kind).map_err(|error| Trouble::new(format!("cannot wait for signals: {error}")));
        Ok(Self {
            interrupt: of(SignalKind::interrupt())?,
            terminate: of(SignalKind::terminate())?,
            hangup: of(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
