//! How many requests leave a program while the API server is failing: one a second in all, so that thousands of nodes
//! do not keep down a server that tries to come up. The first success lets all that wait go at once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Between two requests while the server is failing.
const SPACING: Duration = Duration::from_secs(1);

/// Whether a request may leave now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// It may.
    Now,
    /// Ask again then.
    NotBefore(Instant),
}

/// Decides when requests leave; takes time as an argument.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    failing: bool,
    last: Option<Instant>,
}

impl Pace {
    /// Asks for a pass. Whoever is told [`Pass::Now`] has taken it.
    pub(crate) fn ask(&mut self, now: Instant) -> Pass {
        if let (true, Some(last)) = (self.failing, self.last)
            && now < last + SPACING
        {
            return Pass::NotBefore(last + SPACING);
        }
        self.last = Some(now);
        Pass::Now
    }

    /// The server has failed, or may have: a watch that breaks off is often the first sign.
    pub(crate) fn suspect(&mut self) {
        self.failing = true;
    }

    /// The server has answered. Returns whether it was failing before.
    pub(crate) fn succeed(&mut self) -> bool {
        std::mem::take(&mut self.failing)
    }
}

/// A [`Pace`] that requests wait at.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    pace: Mutex<Pace>,
    opened: Notify,
}

impl Gate {
    /// Waits for a pass.
    pub(crate) async fn pass(&self) {
        loop {
            let mut opened = std::pin::pin!(self.opened.notified());
            // From here on an opening is not missed, whatever the pace says meanwhile.
            opened.as_mut().enable();
            let pass = self.pace().ask(Instant::now());
            match pass {
                Pass::Now => return,
                Pass::NotBefore(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = opened => {}
                },
            }
        }
    }

    /// See [`Pace::suspect`].
    pub(crate) fn suspect(&self) {
        self.pace().suspect();
    }

    /// See [`Pace::succeed`].
    pub(crate) fn succeed(&self) {
        if self.pace().succeed() {
            self.opened.notify_waiters();
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::time::{Instant, sleep};

    use super::Gate;

    /// Tasks that pass the gate once each, and when they did.
    fn waiters(gate: &Arc<Gate>, number: usize) -> mpsc::UnboundedReceiver<Instant> {
        let (sender, receiver) = mpsc::unbounded_channel();
        for _ in 0..number {
            let (gate, sender) = (Arc::clone(gate), sender.clone());
            tokio::spawn(async move {
                gate.pass().await;
                sender.send(Instant::now()).unwrap();
            });
        }
        receiver
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_while_the_server_answers() {
        let start = Instant::now();
        let mut passed = waiters(&Arc::default(), 100);
        for _ in 0..100 {
            assert_eq!(passed.recv().await.unwrap(), start);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_a_second_leaves_while_the_server_is_failing() {
        let gate = Arc::new(Gate::default());
        let start = Instant::now();
        gate.pass().await;
        gate.suspect();
        let mut passed = waiters(&gate, 20);
        for second in 1..=20 {
            assert_eq!(passed.recv().await.unwrap() - start, Duration::from_secs(second));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_after_a_quiet_time_leaves_at_once() {
        let gate = Gate::default();
        gate.pass().await;
        sleep(Duration::from_secs(5)).await;
        gate.suspect();
        let start = Instant::now();
        gate.pass().await;
        assert_eq!(Instant::now(), start);
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_lets_all_that_wait_go() {
        let gate = Arc::new(Gate::default());
        gate.pass().await;
        gate.suspect();
        let mut passed = waiters(&gate, 50);
        sleep(Duration::from_millis(1500)).await;
        let first = passed.recv().await.unwrap();
        assert!(passed.try_recv().is_err(), "more than one a second");
        gate.succeed();
        for _ in 1..50 {
            assert_eq!(passed.recv().await.unwrap() - first, Duration::from_millis(500));
        }
    }
}
