//! What is known of how the operator does. Written by whoever does something, read by whoever asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube_tcpstates_client::{Answer, Resource};
use tokio::time::Instant;

use crate::cluster::resources::WATCHED;

/// The loop turns every five seconds at least, or something hangs.
const ALIVE_WITHIN: Duration = Duration::from_secs(30);

/// A replica is not sent readers before it serves lines. Where they cannot be served, in a cluster without aggregation, the
/// rest of the operator is ready after so long.
const LINES_WITHIN: Duration = Duration::from_secs(30);

/// Shared by all who write and read it.
#[derive(Clone, Debug)]
pub struct Board(Arc<Mutex<Figures>>);

/// What stands on it.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) leads: bool,
    pub(super) queue: usize,
    pub(super) traces: usize,
    pub(super) nodes: usize,
    pub(super) reporting: usize,
    pub(super) writes: BTreeMap<&'static str, u64>,
    pub(super) events: BTreeMap<&'static str, u64>,
    pub(super) requests: BTreeMap<(&'static str, &'static str), u64>,
    pub(super) syncs: BTreeMap<Resource, Sync>,
    turned: Instant,
    started: Instant,
    serves_lines: bool,
}

/// Of one watch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sync {
    has_come: bool,
    is_broken: bool,
}

impl Sync {
    pub(super) const fn in_sync(self) -> bool {
        self.has_come && !self.is_broken
    }
}

impl Default for Board {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Figures {
            leads: false,
            queue: 0,
            traces: 0,
            nodes: 0,
            reporting: 0,
            writes: ["ok", "gone", "busy", "failed"].map(|outcome| (outcome, 0)).into(),
            events: ["ok", "gone", "busy", "failed"].map(|outcome| (outcome, 0)).into(),
            requests: BTreeMap::new(),
            syncs: WATCHED.map(|resource| (resource, Sync::default())).into(),
            turned: Instant::now(),
            started: Instant::now(),
            serves_lines: false,
        })))
    }
}

impl Board {
    pub(super) fn state(&self) -> MutexGuard<'_, Figures> {
        // Whoever panicked while it held the lock has left numbers, at worst.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop has turned.
    pub fn turned(
        &self,
        leads: bool,
        queue: usize,
        (traces, nodes, reporting): (usize, usize, usize),
        now: Instant,
    ) {
        let mut state = self.state();
        state.leads = leads;
        state.queue = queue;
        (state.traces, state.nodes, state.reporting) = (traces, nodes, reporting);
        state.turned = now;
    }

    /// A watch brought something, or was started anew; `is_list`: all there is.
    pub fn works(&self, resource: Resource, is_list: bool) {
        if let Some(sync) = self.state().syncs.get_mut(&resource) {
            sync.is_broken = false;
            sync.has_come |= is_list;
        }
    }

    /// A list or watch does not work.
    pub fn broken(&self, resource: Resource) {
        if let Some(sync) = self.state().syncs.get_mut(&resource) {
            sync.is_broken = true;
        }
    }

    /// The API server answered, or did not.
    pub fn answered(&self, answer: Answer) {
        let key = (answer.resource_label(), answer.ending.code());
        *self.state().requests.entry(key).or_default() += 1;
    }

    /// A status was written, or not.
    pub fn wrote(&self, outcome: &'static str) {
        *self.state().writes.entry(outcome).or_default() += 1;
    }

    /// An Event was made, or not.
    pub fn announced(&self, outcome: &'static str) {
        *self.state().events.entry(outcome).or_default() += 1;
    }

    /// kube-apiserver can ask for lines.
    pub fn serves_lines(&self) {
        self.state().serves_lines = true;
    }

    /// What `/livez` says.
    pub(super) fn live_at(&self, now: Instant) -> Result<(), String> {
        let since = now.saturating_duration_since(self.state().turned);
        if since <= ALIVE_WITHIN {
            return Ok(());
        }
        Err(format!("the loop has not turned for {} s", since.as_secs()))
    }

    /// What `/readyz` says. What has come once stays known while the API server is away.
    pub(super) fn ready_at(&self, now: Instant) -> Result<(), String> {
        let state = self.state();
        if !state.serves_lines && now.saturating_duration_since(state.started) < LINES_WITHIN {
            return Err("not serving lines yet".to_owned());
        }
        let missing = state.syncs.iter().filter(|(_, sync)| !sync.has_come);
        let missing: Vec<_> = missing.map(|(resource, _)| resource.plural()).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("not listed yet: {}", missing.join(", "))) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Board;
    use crate::cluster::resources::{NODES, WATCHED};

    #[test]
    fn it_is_ready_once_every_list_has_come_and_stays_so() {
        let (board, now) = (Board::default(), Instant::now());
        board.serves_lines();
        for resource in WATCHED {
            assert!(board.ready_at(now).unwrap_err().contains(resource.plural()));
            board.works(resource, false);
            assert!(board.ready_at(now).is_err(), "a watch that started has brought nothing");
            board.works(resource, true);
        }
        assert_eq!(board.ready_at(now), Ok(()));
        board.broken(NODES);
        assert_eq!(board.ready_at(now), Ok(()));
        assert!(!board.state().syncs[&NODES].in_sync());
    }

    #[test]
    fn it_waits_for_lines_to_be_served_but_not_for_ever() {
        let (board, now) = (Board::default(), Instant::now());
        for resource in WATCHED {
            board.works(resource, true);
        }
        assert!(board.ready_at(now).is_err());
        assert_eq!(board.ready_at(now + Duration::from_secs(31)), Ok(()));
        board.serves_lines();
        assert_eq!(board.ready_at(now), Ok(()));
    }

    #[test]
    fn a_loop_that_does_not_turn_is_not_alive() {
        let (board, now) = (Board::default(), Instant::now());
        board.turned(false, 0, (0, 0, 0), now);
        assert_eq!(board.live_at(now + Duration::from_secs(30)), Ok(()));
        assert_eq!(
            board.live_at(now + Duration::from_secs(31)).unwrap_err(),
            "the loop has not turned for 31 s"
        );
    }
}
