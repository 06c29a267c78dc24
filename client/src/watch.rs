//! List and watch of each resource: an endless stream of objects becomes messages to the program's loop. Errors end
//! nothing: what is known stays in force, and the watch tries again.
//!
//! Lists are ordinary ones, in pages: servers before 1.27 know no `sendInitialEvents`.

use std::fmt::Debug;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt as _};
use kube::Api;
use kube::runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::UnboundedSender;

use crate::jitter::jitter;
use crate::patience::{Patience, Trouble};
use crate::reason::reason_of;
use crate::resource::Resource;

/// Objects of one page. A node runs about a hundred pods.
const PAGE: u32 = 250;

/// A server whose definition of a resource has just got another field goes on for a moment to leave that field out of
/// what its older watches send. An object that came just then must not be taken for good for one without it.
const LIST_AGAIN: Duration = Duration::from_mins(5);

/// What became of the objects of one resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta<T> {
    /// These are all. What is not among them does not exist any more.
    Listed(Vec<T>),
    /// It was added or changed.
    Applied(T),
    /// It was deleted.
    Deleted(T),
}

/// A list or watch does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Of this resource.
    pub resource: Resource,
    /// What kind of error it was.
    pub trouble: Trouble,
    /// What the error says.
    pub reason: String,
}

/// One resource to follow: objects `K`, of which `T` is kept, told as `M`.
pub struct Watch<K, T, M> {
    /// Which.
    pub resource: Resource,
    /// Where to read it.
    pub api: Api<K>,
    /// The same in an older version, for a server that does not have it there.
    pub older: Option<Api<K>>,
    /// Which objects of it: a field selector.
    pub fields: Option<String>,
    /// What to keep of an object. `None`: nothing of it is of use.
    pub keep: fn(K) -> Option<T>,
    /// The message that tells of it.
    pub message: fn(Delta<T>) -> M,
    /// List it anew every few minutes. For resources whose definition may get another field while they are watched.
    pub lists_again: bool,
    /// List it as the server's cache has it, in one page. For what is large and read on every node.
    pub from_cache: bool,
}

impl<K, T, M> Watch<K, T, M>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    M: From<Broken>,
{
    /// Follows it for ever, or until nobody listens.
    pub async fn follow(self, messages: UnboundedSender<M>) {
        let mut config = watcher::Config::default().page_size(PAGE);
        if self.from_cache {
            config = config.any_semantic();
            config.page_size = None;
        }
        config.field_selector = self.fields.clone();
        let mut patience = Patience::default();
        let mut versions = Versions {
            apis: [Some(&self.api), self.older.as_ref()].into_iter().flatten().collect(),
            absent: 0,
        };
        loop {
            let mut events = pin!(watcher(versions.now(), config.clone()));
            let mut listed = Vec::new();
            let again = self
                .lists_again
                .then(|| tokio::time::Instant::now() + LIST_AGAIN.mul_f64(0.8 + 0.4 * jitter()));
            while let Some(event) = next_until(&mut events, again).await {
                let (message, trouble) = match event {
                    Ok(event) => {
                        // That it is about to list says nothing.
                        if !matches!(event, Event::Init) {
                            versions.absent = 0;
                        }
                        (self.delta(event, &mut listed).map(self.message), None)
                    }
                    Err(error) => {
                        let trouble = Trouble::of(&error);
                        if trouble == Trouble::NotInstalled && versions.try_next() {
                            break;
                        }
                        let broken = Broken { resource: self.resource, trouble, reason: reason_of(&error) };
                        (Some(M::from(broken)), Some(trouble))
                    }
                };
                if message.is_some_and(|message| messages.send(message).is_err()) {
                    return;
                }
                let Some(trouble) = trouble else { continue };
                tokio::time::sleep(patience.after(trouble, jitter(), Instant::now())).await;
                if trouble == Trouble::Gone || versions.absent > 0 {
                    // Lists anew. Where the start of a watch was answered so, kube would ask for the same version for
                    // ever.
                    versions.absent = 0;
                    break;
                }
            }
        }
    }

    /// What an event says. A list is told at its end, as a whole: what was known stays in force until then.
    fn delta(&self, event: Event<K>, listed: &mut Vec<T>) -> Option<Delta<T>> {
        match event {
            Event::Init => {
                listed.clear();
                None
            }
            Event::InitApply(object) => {
                listed.extend((self.keep)(object));
                None
            }
            Event::InitDone => Some(Delta::Listed(std::mem::take(listed))),
            Event::Apply(object) => (self.keep)(object).map(Delta::Applied),
            Event::Delete(object) => (self.keep)(object).map(Delta::Deleted),
        }
    }
}

/// Versions of the API in which a resource may be read, the next one to try first.
struct Versions<'a, K> {
    apis: Vec<&'a Api<K>>,
    /// How many of them the server was just found not to have.
    absent: usize,
}

impl<K: Clone> Versions<'_, K> {
    fn now(&self) -> Api<K> {
        self.apis[0].clone()
    }

    /// The server does not have this one. Whether there is another to try at once.
    fn try_next(&mut self) -> bool {
        self.absent += 1;
        self.apis.rotate_left(1);
        self.absent < self.apis.len()
    }
}

/// The next event; `None` when the time has come first.
async fn next_until<S: Stream + Unpin>(
    events: &mut S,
    until: Option<tokio::time::Instant>,
) -> Option<S::Item> {
    match until {
        Some(until) => tokio::time::timeout_at(until, events.next()).await.ok().flatten(),
        None => events.next().await,
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
