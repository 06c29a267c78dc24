//! List and watch of each resource: an endless stream of objects becomes [`Change`]s. Errors end nothing: what is
//! known stays in force, and the watch tries again.
//!
//! Lists are ordinary ones, in pages: servers before 1.27 know no `sendInitialEvents`.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Instant;

use futures_util::StreamExt as _;
use kube::Api;
use kube::runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::UnboundedSender;

use super::change::{Change, Told};
use super::client::reason_of;
use super::patience::{Patience, Trouble};
use super::resource::Resource;

/// Objects of one page. A node runs about a hundred pods.
const PAGE: u32 = 250;

/// One resource to follow.
pub(super) struct Watch<K, T> {
    /// Which.
    pub resource: Resource,
    /// Where to read it.
    pub api: Api<K>,
    /// Which objects of it: a field selector.
    pub fields: Option<String>,
    /// What to keep of an object. `None`: nothing of it is of use.
    pub keep: fn(K) -> Option<T>,
    /// What the state calls it.
    pub change: fn(Told<T>) -> Change,
}

impl<K, T> Watch<K, T>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// Follows it for ever, or until nobody listens.
    pub(super) async fn follow(self, changes: UnboundedSender<Change>) {
        let mut config = watcher::Config::default().page_size(PAGE);
        config.field_selector = self.fields.clone();
        let mut patience = Patience::default();
        loop {
            let mut events = pin!(watcher(self.api.clone(), config.clone()));
            let mut listed = Vec::new();
            while let Some(event) = events.next().await {
                let (change, trouble) = match event {
                    Ok(event) => (self.told(event, &mut listed).map(self.change), None),
                    Err(error) => {
                        let trouble = Trouble::of(&error);
                        (Some(Change::Broken(self.resource, trouble, reason_of(&error))), Some(trouble))
                    }
                };
                if change.is_some_and(|change| changes.send(change).is_err()) {
                    return;
                }
                let Some(trouble) = trouble else { continue };
                tokio::time::sleep(patience.after(trouble, jitter(), Instant::now())).await;
                if trouble == Trouble::Gone {
                    // Lists anew. Where the start of a watch was answered so, kube would ask for the same version for
                    // ever.
                    break;
                }
            }
        }
    }

    /// What an event says. A list is told at its end, as a whole: what was known stays in force until then.
    fn told(&self, event: Event<K>, listed: &mut Vec<T>) -> Option<Told<T>> {
        match event {
            Event::Init => {
                listed.clear();
                None
            }
            Event::InitApply(object) => {
                listed.extend((self.keep)(object));
                None
            }
            Event::InitDone => Some(Told::All(std::mem::take(listed))),
            Event::Apply(object) => (self.keep)(object).map(Told::Applied),
            Event::Delete(object) => (self.keep)(object).map(Told::Deleted),
        }
    }
}

/// Spreads the agents of a cluster. Not worth a random number generator of its own: any number will do.
pub(super) fn jitter() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    let bits = u32::try_from(RandomState::new().hash_one(Instant::now()) >> 32).unwrap_or_default();
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
