//! Where the lines of a reader's agents come together: each agent puts its own in, as far as there is room for them.
//!
//! There is room for few. A reader that takes nothing is not read for: the agent's log waits on its node, and what is
//! rotated away there meanwhile shows as a gap.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};

use super::merge::{Merge, Next, Source};

/// Lines of one agent that wait at most, each shorter than 4 KiB.
const ROOM: usize = 16;

/// The end that is read.
#[derive(Default)]
pub(crate) struct Outlet {
    merge: Mutex<Merge<Item>>,
    changed: Notify,
}

struct Item {
    said: Said,
    room: Arc<Semaphore>,
}

/// A line, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// The trace's.
    Line(String),
    /// Of this program's own.
    Notice(String),
}

/// The end of one agent. Dropping it says that nothing comes any more.
pub(crate) struct Inlet {
    outlet: Arc<Outlet>,
    source: Source,
    room: Arc<Semaphore>,
}

impl Outlet {
    /// Another agent.
    pub(crate) fn open(self: &Arc<Self>, source: Source) -> Inlet {
        self.merge().open(source);
        Inlet { outlet: Arc::clone(self), source, room: Arc::new(Semaphore::new(ROOM)) }
    }

    /// The next line, if it is its time.
    pub(crate) fn next(&self, now: Instant) -> Next<Said> {
        match self.merge().next(now) {
            Next::Line(source, item) => {
                item.room.add_permits(1);
                Next::Line(source, item.said)
            }
            Next::NotBefore(when) => Next::NotBefore(when),
            Next::Nothing => Next::Nothing,
            Next::End => Next::End,
        }
    }

    /// Waits until [`Outlet::next`] may say something else.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn merge(&self) -> MutexGuard<'_, Merge<Item>> {
        self.merge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inlet {
    /// Puts a line in, once there is room.
    pub(crate) async fn put(&self, time: Timestamp, said: Said) {
        // It is never closed.
        if let Ok(permit) = self.room.acquire().await {
            permit.forget();
        }
        let item = Item { said, room: Arc::clone(&self.room) };
        self.outlet.merge().push(self.source, time, item, Instant::now());
        self.outlet.changed.notify_one();
    }

    /// All that there was is in.
    pub(crate) fn catch_up(&self) {
        self.outlet.merge().catch_up(self.source);
        self.outlet.changed.notify_one();
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.outlet.merge().close(self.source);
        self.outlet.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn an_agent_waits_for_its_reader() {
        let outlet = Arc::new(Outlet::default());
        let inlet = outlet.open(1);
        for number in 0..ROOM {
            inlet.put(Timestamp::UNIX_EPOCH, Said::Line(number.to_string())).await;
        }
        let last = Said::Notice("last".to_owned());
        {
            let mut put = std::pin::pin!(inlet.put(Timestamp::UNIX_EPOCH, last.clone()));
            let early = tokio::time::timeout(Duration::from_millis(20), put.as_mut()).await;
            assert!(early.is_err(), "there is no room");
            assert_eq!(outlet.next(Instant::now()), Next::Line(1, Said::Line("0".to_owned())));
            put.await;
        }
        drop(inlet);
        let left = std::iter::from_fn(|| match outlet.next(Instant::now()) {
            Next::Line(_, line) => Some(line),
            _ => None,
        });
        assert_eq!(left.last(), Some(last));
        assert_eq!(outlet.next(Instant::now()), Next::End);
    }
}
