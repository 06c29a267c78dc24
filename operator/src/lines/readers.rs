//! How many read at once. Each reader costs a stream from every agent, so there is a bound for each user, one for the traces
//! of each namespace, and one for all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many may read at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Of one user.
    pub(crate) per_user: usize,
    /// Of one namespace's traces, or of cluster traces.
    pub(crate) per_namespace: usize,
    /// Of all.
    pub(crate) in_all: usize,
}

/// Those who read now.
#[derive(Debug)]
pub(crate) struct Readers {
    bounds: Bounds,
    reading: Mutex<BTreeMap<Whose, usize>>,
}

/// A user, and the namespace of the trace; none of a cluster trace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Whose {
    user: String,
    namespace: Option<String>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reader {
    readers: Arc<Readers>,
    whose: Whose,
}

/// Why there may be no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooMany {
    /// Of one user.
    #[error("{0} readers of one user at once are allowed")]
    OfUser(usize),
    /// Of one namespace's traces.
    #[error("{0} readers of the traces of one namespace at once are allowed, and namespace {1} has as many")]
    OfNamespace(usize, String),
    /// Of cluster traces.
    #[error("{0} readers of cluster traces at once are allowed")]
    OfClusterTraces(usize),
    /// Of all.
    #[error("{0} readers at once are allowed")]
    InAll(usize),
}

impl Readers {
    /// Nobody reads yet.
    pub(crate) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, reading: Mutex::default() })
    }

    /// Lets one more in, to read a trace of a namespace, or a cluster trace.
    pub(crate) fn enter(self: &Arc<Self>, user: &str, namespace: Option<&str>) -> Result<Reader, TooMany> {
        let Bounds { per_user, per_namespace, in_all } = self.bounds;
        let mut reading = self.reading();
        let count = |counts: &dyn Fn(&Whose) -> bool| -> usize {
            reading.iter().filter(|(whose, _)| counts(whose)).map(|(_, count)| count).sum()
        };
        if count(&|whose| whose.user == user) >= per_user {
            return Err(TooMany::OfUser(per_user));
        }
        if count(&|whose| whose.namespace.as_deref() == namespace) >= per_namespace {
            return Err(match namespace {
                Some(namespace) => TooMany::OfNamespace(per_namespace, namespace.to_owned()),
                None => TooMany::OfClusterTraces(per_namespace),
            });
        }
        if count(&|_| true) >= in_all {
            return Err(TooMany::InAll(in_all));
        }
        let whose = Whose { user: user.to_owned(), namespace: namespace.map(str::to_owned) };
        *reading.entry(whose.clone()).or_default() += 1;
        Ok(Reader { readers: Arc::clone(self), whose })
    }

    fn reading(&self) -> MutexGuard<'_, BTreeMap<Whose, usize>> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut reading = self.readers.reading();
        if let Some(count) = reading.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                reading.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_again_when_a_reader_leaves() {
        let readers = Readers::new(Bounds { per_user: 2, per_namespace: 3, in_all: 3 });
        let _first = readers.enter("a", Some("shop")).unwrap();
        let second = readers.enter("a", None).unwrap();
        assert_eq!(readers.enter("a", Some("shop")).unwrap_err(), TooMany::OfUser(2));
        let _third = readers.enter("b", Some("shop")).unwrap();
        assert_eq!(readers.enter("c", Some("shop")).unwrap_err(), TooMany::InAll(3));
        drop(second);
        assert!(readers.enter("c", Some("shop")).is_ok());
        assert!(readers.enter("a", Some("shop")).is_ok());
    }

    #[test]
    fn the_many_accounts_of_one_namespace_leave_room_for_the_others() {
        let readers = Readers::new(Bounds { per_user: 4, per_namespace: 2, in_all: 9 });
        let enter = |user, namespace| readers.enter(user, namespace);
        let _kept = [enter("a", Some("shop")), enter("b", Some("shop")), enter("a", None), enter("b", None)];
        assert_eq!(
            enter("c", Some("shop")).unwrap_err().to_string(),
            "2 readers of the traces of one namespace at once are allowed, and namespace shop has as many"
        );
        assert_eq!(
            enter("c", None).unwrap_err().to_string(),
            "2 readers of cluster traces at once are allowed"
        );
        assert!(enter("c", Some("bank")).is_ok());
    }
}
