//! List and watch of each resource: an endless stream of objects becomes messages to the program's loop. Errors end
//! nothing: what is known stays in force, and the watch tries again.
//!
//! Lists are ordinary ones: servers before 1.27 know no `sendInitialEvents`.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use kube::Api;
use kube::core::params::WatchParams;
use kube::core::{Request, WatchEvent};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::UnboundedSender;

use crate::jitter::jitter;
use crate::list::{ListError, Wanted};
use crate::patience::{Patience, Trouble};
use crate::reason::reason_of;
use crate::resource::Resource;

/// A server whose definition of a resource has just got another field goes on for a moment to leave that field out of
/// what its older watches send. An object that came just then must not be taken for good for one without it.
const LIST_AGAIN: Duration = Duration::from_hours(1);
/// A watch ends by itself after this, less up to a third: those of many programs must not begin anew together. The library
/// takes no more.
const WATCH_FOR_S: f64 = 290.0;

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
///
/// What is read is what the server's cache has, objects of which nobody but this program asks among them. What is not
/// kept of an object is gone before the next one is read.
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
    /// Drops what is too much of a list, while it comes: whoever may make objects can make many.
    pub thin: Option<fn(&mut Vec<T>)>,
    /// The message that tells of it.
    pub message: fn(Delta<T>) -> M,
    /// The message that all is known up to a version.
    pub seen: Option<fn(String) -> M>,
    /// List it anew every hour. For resources whose definition may get another field while they are watched.
    pub lists_again: bool,
}

/// Nobody listens any more.
struct Deaf;

/// Why a watch is over.
enum Over {
    /// Nothing is wrong with where it was.
    End,
    /// It is to be listed anew.
    Stale,
}

impl<K, T, M> Watch<K, T, M>
where
    K: kube::Resource + Clone + DeserializeOwned + Send + 'static,
    M: From<Broken>,
{
    /// Follows it for ever, or until nobody listens.
    pub async fn follow(self, messages: UnboundedSender<M>) {
        // Its end is that nobody listens.
        let _ = self.run(&messages).await;
    }

    async fn run(&self, messages: &UnboundedSender<M>) -> Result<(), Deaf> {
        let mut patience = Patience::default();
        let mut versions = Versions {
            apis: [Some(&self.api), self.older.as_ref()].into_iter().flatten().collect(),
            absent: 0,
        };
        loop {
            let api = versions.now();
            let wanted = Wanted {
                path: api.resource_url(),
                fields: self.fields.as_deref(),
                keep: self.keep,
                thin: self.thin,
            };
            match wanted.list(&api.clone().into_client()).await {
                Ok((listed, version)) => {
                    versions.absent = 0;
                    self.tell(messages, (self.message)(Delta::Listed(listed)))?;
                    self.saw(messages, &version)?;
                    self.watch(api, version, &mut patience, messages).await?;
                }
                Err(error) => {
                    let (trouble, reason) = match &error {
                        ListError::Request(error) => (Trouble::of_request(error), reason_of(error)),
                        other => (Trouble::Failing, reason_of(other)),
                    };
                    if trouble == Trouble::NotInstalled && versions.try_next() {
                        continue;
                    }
                    versions.absent = 0;
                    self.stumble(messages, trouble, reason, &mut patience).await?;
                }
            }
        }
    }

    /// Watches from a version on, until it has to be listed anew.
    async fn watch(
        &self,
        api: &Api<K>,
        mut version: String,
        patience: &mut Patience,
        messages: &UnboundedSender<M>,
    ) -> Result<(), Deaf> {
        let again = LIST_AGAIN.mul_f64(0.8 + 0.4 * jitter());
        let again = self.lists_again.then(|| tokio::time::Instant::now() + again);
        loop {
            let watched = self.watch_once(api, &mut version, patience, messages);
            let over = match again {
                Some(again) => match tokio::time::timeout_at(again, watched).await {
                    Ok(over) => over?,
                    Err(_) => Over::Stale,
                },
                None => watched.await?,
            };
            if matches!(over, Over::Stale) {
                return Ok(());
            }
        }
    }

    /// One request.
    async fn watch_once(
        &self,
        api: &Api<K>,
        version: &mut String,
        patience: &mut Patience,
        messages: &UnboundedSender<M>,
    ) -> Result<Over, Deaf> {
        let started = match self.request(api, version) {
            Ok(request) => api.clone().into_client().request_events::<K>(request).await,
            Err(error) => Err(error),
        };
        let events = match started {
            Ok(events) => events,
            Err(error) => {
                let trouble = Trouble::of_request(&error);
                self.stumble(messages, trouble, reason_of(&error), patience).await?;
                // One that is not there any more may be in another version.
                let stale = matches!(trouble, Trouble::Gone | Trouble::NotInstalled);
                return Ok(if stale { Over::Stale } else { Over::End });
            }
        };
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            let (delta, at) = match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    let at = object.meta().resource_version.clone();
                    ((self.keep)(object).map(Delta::Applied), at)
                }
                Ok(WatchEvent::Deleted(object)) => {
                    let at = object.meta().resource_version.clone();
                    ((self.keep)(object).map(Delta::Deleted), at)
                }
                Ok(WatchEvent::Bookmark(mark)) => (None, Some(mark.metadata.resource_version)),
                Ok(WatchEvent::Error(status)) => {
                    let error = kube::Error::Api(status);
                    let trouble = Trouble::of_request(&error);
                    self.stumble(messages, trouble, reason_of(&error), patience).await?;
                    if trouble == Trouble::Gone {
                        return Ok(Over::Stale);
                    }
                    continue;
                }
                Err(error) => {
                    self.stumble(messages, Trouble::of_watch(&error), reason_of(&error), patience).await?;
                    continue;
                }
            };
            if let Some(delta) = delta {
                self.tell(messages, (self.message)(delta))?;
            }
            if let Some(at) = at.filter(|at| !at.is_empty()) {
                *version = at;
                self.saw(messages, version)?;
            }
        }
        Ok(Over::End)
    }

    fn request(&self, api: &Api<K>, version: &str) -> kube::Result<http::Request<Vec<u8>>> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 193 to 290")]
        let parameters = WatchParams {
            field_selector: self.fields.clone(),
            timeout: Some((WATCH_FOR_S * (1.0 - jitter() / 3.0)) as u32),
            bookmarks: true,
            ..WatchParams::default()
        };
        let requests = Request::new(api.resource_url());
        let request = if K::metadata_api() {
            requests.watch_metadata(&parameters, version)
        } else {
            requests.watch(&parameters, version)
        };
        request.map_err(kube::Error::BuildRequest)
    }

    /// Something does not work: says so, and waits.
    async fn stumble(
        &self,
        messages: &UnboundedSender<M>,
        trouble: Trouble,
        reason: String,
        patience: &mut Patience,
    ) -> Result<(), Deaf> {
        self.tell(messages, M::from(Broken { resource: self.resource, trouble, reason }))?;
        tokio::time::sleep(patience.after(trouble, jitter(), Instant::now())).await;
        Ok(())
    }

    fn saw(&self, messages: &UnboundedSender<M>, version: &str) -> Result<(), Deaf> {
        self.seen.map_or(Ok(()), |seen| self.tell(messages, seen(version.to_owned())))
    }

    #[expect(clippy::unused_self, reason = "it is what a watch does")]
    fn tell(&self, messages: &UnboundedSender<M>, message: M) -> Result<(), Deaf> {
        messages.send(message).map_err(|_| Deaf)
    }
}

/// Versions of the API in which a resource may be read, the next one to try first.
struct Versions<'a, K> {
    apis: Vec<&'a Api<K>>,
    /// How many of them the server was just found not to have.
    absent: usize,
}

impl<'a, K> Versions<'a, K> {
    fn now(&self) -> &'a Api<K> {
        self.apis[0]
    }

    /// The server does not have this one. Whether there is another to try at once.
    fn try_next(&mut self) -> bool {
        self.absent += 1;
        self.apis.rotate_left(1);
        self.absent < self.apis.len()
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
