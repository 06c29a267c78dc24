//! An outlet for tests: keeps every line, unless it is told to have no room.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kube_tcpstates_events::Line;

use super::{End, Finished, Offer, Outlet, Totals};
use crate::render::{Event, ended::Ended};

/// Shared by the test and the outlets that it belongs to.
#[derive(Clone, Default)]
pub(crate) struct Recorder {
    lines: Arc<Mutex<Vec<Line>>>,
    /// So many more it has no room for.
    pub(crate) refuses: Arc<AtomicU64>,
}

impl Recorder {
    pub(crate) fn boxed(&self) -> Box<dyn Outlet> {
        Box::new(self.clone())
    }

    /// Those that it took.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap().clone()
    }

    pub(crate) fn forget(&self) {
        self.lines.lock().unwrap().clear();
    }

    /// From now on it has room, or has not.
    pub(crate) fn set_full(&self, is_full: bool) {
        self.refuses.store(if is_full { u64::MAX } else { 0 }, Ordering::Relaxed);
    }

    fn offer(&self) -> Offer {
        match self.refuses.load(Ordering::Relaxed).checked_sub(1) {
            Some(left) => {
                self.refuses.store(left, Ordering::Relaxed);
                Offer::Full
            }
            None => Offer::Accepted,
        }
    }
}

impl Outlet for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn transition(&mut self, _: &Event<'_>) -> Offer {
        self.offer()
    }

    fn connection(&mut self, _: &Event<'_>, _: &Ended<'_>) -> Offer {
        self.offer()
    }

    fn line(&mut self, line: &Line) -> Offer {
        let offer = self.offer();
        if offer == Offer::Accepted {
            self.lines.lock().unwrap().push(line.clone());
        }
        offer
    }

    fn flush(&mut self) {}

    fn totals(&self) -> Totals {
        Totals::default()
    }

    fn is_over(&self) -> bool {
        false
    }

    fn finish(self: Box<Self>, _: Duration) -> Finished {
        Finished { totals: Totals::default(), end: End::Drained }
    }
}
