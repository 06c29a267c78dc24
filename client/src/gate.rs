//! How many requests leave a program while the API server is failing: one in all, ever more rarely and at a time that
//! nobody else has chosen, so that thousands of nodes do not keep down a server that tries to come up. The first success
//! lets all that wait go at once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::jitter::jitter;

/// The first pause is within this, each further one within twice as much.
const FIRST: Duration = Duration::from_secs(1);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(30);
/// A server that asks for more than this is not believed.
const HOLD_MAX: Duration = Duration::from_mins(2);

/// Whether a request may leave now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// It may.
    Now,
    /// Ask again then.
    NotBefore(Instant),
}

/// Decides when requests leave; takes time, and what makes programs differ (`jitter`, 0..1), as arguments.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// The pause that the next one is within; none while the server answers.
    within: Option<Duration>,
    not_before: Option<Instant>,
    /// The server asks that nobody comes before.
    held: Option<Instant>,
}

impl Pace {
    /// Asks for a pass. Whoever is told [`Pass::Now`] has taken it.
    pub(crate) fn ask(&mut self, now: Instant, jitter: f64) -> Pass {
        let wait = self.not_before.into_iter().chain(self.held).filter(|at| now < *at).max();
        if let Some(at) = wait {
            return Pass::NotBefore(at);
        }
        // Until it is known what becomes of this one, no other leaves either.
        self.not_before = self.within.map(|within| now + within.max(FIRST).mul_f64(0.5 + 0.5 * jitter));
        Pass::Now
    }

    /// The server may have failed: a watch that breaks off is often the first sign.
    pub(crate) fn suspect(&mut self, now: Instant, jitter: f64) {
        if self.within.is_none() {
            self.within = Some(FIRST);
            self.not_before = Some(now + FIRST.mul_f64(jitter));
        }
    }

    /// A request has failed.
    pub(crate) fn fail(&mut self, now: Instant, jitter: f64) {
        let within = self.within.map_or(FIRST, |within| (within * 2).min(LONGEST));
        self.within = Some(within);
        self.not_before = Some(now + within.mul_f64(jitter));
    }

    /// The server asks to be left alone for so long.
    pub(crate) fn hold(&mut self, now: Instant, pause: Duration, jitter: f64) {
        let until = now + pause.min(HOLD_MAX) + FIRST.mul_f64(jitter);
        self.held = self.held.max(Some(until));
    }

    /// The server has answered. Returns whether it was failing before.
    pub(crate) fn succeed(&mut self) -> bool {
        self.not_before = None;
        self.within.take().is_some()
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
            let pass = self.pace().ask(Instant::now(), jitter());
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
        self.pace().suspect(Instant::now(), jitter());
    }

    /// See [`Pace::fail`].
    pub(crate) fn fail(&self) {
        self.pace().fail(Instant::now(), jitter());
    }

    /// See [`Pace::hold`].
    pub(crate) fn hold(&self, pause: Duration) {
        self.pace().hold(Instant::now(), pause, jitter());
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

    use super::{Gate, Pace, Pass};

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

    #[test]
    fn pauses_grow_to_half_a_minute_and_are_anything_within_that() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let mut latest = |jitter: f64| {
            pace.fail(now, jitter);
            pace.not_before.unwrap() - now
        };
        let whole: Vec<_> = (0..7).map(|_| latest(1.0).as_secs()).collect();
        assert_eq!(whole, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!([latest(0.0).as_secs(), latest(0.5).as_secs()], [0, 15]);
    }

    #[test]
    fn a_server_that_says_when_to_come_back_is_believed_though_it_answers_others() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.fail(now, 0.0);
        pace.hold(now, Duration::from_secs(20), 0.5);
        pace.succeed();
        let back = now + Duration::from_millis(20_500);
        assert_eq!(pace.ask(now + Duration::from_secs(20), 0.0), Pass::NotBefore(back));
        assert_eq!(pace.ask(back, 0.0), Pass::Now);
        pace.hold(back, Duration::from_hours(9), 0.0);
        assert_eq!(pace.ask(back, 0.0), Pass::NotBefore(back + Duration::from_mins(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_server_is_failing_one_request_leaves_at_a_time() {
        let gate = Arc::new(Gate::default());
        gate.fail();
        let start = Instant::now();
        let mut passed = waiters(&gate, 20);
        let mut last = passed.recv().await.unwrap();
        assert!(last - start <= Duration::from_secs(1));
        for _ in 1..20 {
            let next = passed.recv().await.unwrap();
            assert!(next - last >= Duration::from_millis(500), "{:?}", next - last);
            last = next;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_broke_off_lets_nobody_wait_longer_than_a_second() {
        let gate = Gate::default();
        gate.suspect();
        gate.suspect();
        let start = Instant::now();
        gate.pass().await;
        assert!(start.elapsed() <= Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_lets_all_that_wait_go() {
        let gate = Arc::new(Gate::default());
        for _ in 0..10 {
            gate.fail();
        }
        let mut passed = waiters(&gate, 50);
        let first = passed.recv().await.unwrap();
        sleep(Duration::from_millis(400)).await;
        assert!(passed.try_recv().is_err(), "more than one at a time");
        gate.succeed();
        for _ in 1..50 {
            assert_eq!(passed.recv().await.unwrap() - first, Duration::from_millis(400));
        }
    }
}
