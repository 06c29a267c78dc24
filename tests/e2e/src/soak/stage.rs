//! What all that goes on at once has in common.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::account::Account;
use crate::cluster::Cluster;

/// An agent is in step with the API server within half a minute of its answer (docs/operations.md).
const IN_STEP_WITHIN: Duration = Duration::from_secs(35);
/// And then takes up what it is told within this.
const TAKES_UP_WITHIN: Duration = Duration::from_secs(5);

/// Locks, also where a thread has failed that held the lock: what it left is judged all the same.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shared with those who read the agents' lines, who live as long as their pipes.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) account: Mutex<Account>,
    pub(super) clock: Clock,
    /// Since when a plan is in force, and in which process.
    in_force: Mutex<Option<(usize, Instant)>>,
    is_stalled: Mutex<bool>,
    changed: Condvar,
}

/// Says what happens, with the time since the beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(pub(super) Instant);

impl Clock {
    pub(super) fn say(self, text: &str) {
        let seconds = self.0.elapsed().as_secs();
        eprintln!("[{:3}:{:02}] {text}", seconds / 60, seconds % 60);
    }
}

impl Reading {
    pub(super) fn new(trace: &str, begin: Instant) -> Self {
        Self {
            account: Mutex::new(Account::new(trace)),
            clock: Clock(begin),
            in_force: Mutex::new(None),
            is_stalled: Mutex::new(false),
            changed: Condvar::new(),
        }
    }

    /// Waits while nobody is to read.
    pub(super) fn wait_unless_stalled(&self) {
        let stalled = self.changed.wait_while(lock(&self.is_stalled), |is_stalled| *is_stalled);
        drop(stalled.unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn stall(&self, is_stalled: bool) {
        *lock(&self.is_stalled) = is_stalled;
        self.changed.notify_all();
    }

    /// A process begins: nothing is in force until it says so.
    pub(super) fn begin(&self) -> usize {
        *lock(&self.in_force) = None;
        lock(&self.account).begin()
    }

    pub(super) fn starts(&self, process: usize) {
        let newest = lock(&self.account).runs().len().checked_sub(1);
        if newest == Some(process) {
            *lock(&self.in_force) = Some((process, Instant::now()));
        }
    }

    /// How long the plan of the process that runs has been in force.
    pub(super) fn in_force_for(&self) -> Option<Duration> {
        lock(&self.in_force).map(|(_, since)| since.elapsed())
    }
}

/// Shared by those who make the load.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) reading: Arc<Reading>,
    faults: Mutex<Vec<String>>,
    is_over: AtomicBool,
    /// Written while the API server is away, read while it is asked.
    api: RwLock<()>,
    back: Mutex<Option<Instant>>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(cluster: &'a Cluster, reading: Reading) -> Self {
        Self {
            cluster,
            reading: Arc::new(reading),
            faults: Mutex::default(),
            is_over: AtomicBool::new(false),
            api: RwLock::default(),
            back: Mutex::default(),
        }
    }

    pub(super) fn say(&self, text: &str) {
        self.reading.clock.say(text);
    }

    /// Something must not be. The load goes on.
    pub(super) fn fault(&self, text: String) {
        self.say(&format!("FAULT: {text}"));
        lock(&self.faults).push(text);
    }

    pub(super) fn faults(&self) -> Vec<String> {
        lock(&self.faults).clone()
    }

    /// Runs what goes on during the load; where it cannot go on, nothing does.
    pub(super) fn track(&self, what: &str, run: impl FnOnce() -> Result<()>) {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => self.fault(format!("{what}: {error:#}")),
            Err(_) => self.fault(format!("{what}: it panicked, see above")),
        }
        self.end();
    }

    /// The load is to end.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Sleeps until then, since the beginning. False when the load has ended.
    pub(super) fn sleep_until(&self, at: Duration) -> bool {
        loop {
            if self.is_over() {
                return false;
            }
            let left = at.saturating_sub(self.reading.clock.0.elapsed());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(Duration::from_millis(200)));
        }
    }

    /// To be held while the API server is asked; waits while it is away.
    pub(super) fn api(&self) -> RwLockReadGuard<'_, ()> {
        self.api.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be held while the API server is away.
    pub(super) fn without_api(&self) -> RwLockWriteGuard<'_, ()> {
        self.api.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The API server is back.
    pub(super) fn api_is_back(&self) {
        *lock(&self.back) = Some(Instant::now());
    }

    /// Whether the agent has come to know of all that was so at that moment: only then may it be forgotten by the API
    /// server, for a pod that this has forgotten cannot be named.
    pub(super) fn is_known(&self, since: Instant) -> bool {
        let is_in_step = lock(&self.back).is_none_or(|back| back.elapsed() > IN_STEP_WITHIN);
        let is_in_force = self.reading.in_force_for().is_some_and(|time| time > TAKES_UP_WITHIN);
        is_in_step && is_in_force && since.elapsed() > TAKES_UP_WITHIN && self.api.try_read().is_ok()
    }
}
