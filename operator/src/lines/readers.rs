//! How many read at once. Each reader costs a stream from every agent, so there is a bound for each user and one for all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Those who read now.
#[derive(Debug)]
pub(crate) struct Readers {
    per_user: usize,
    in_all: usize,
    users: Mutex<BTreeMap<String, usize>>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reader {
    readers: Arc<Readers>,
    user: String,
}

/// Why there may be no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooMany {
    /// Of one user.
    #[error("{0} readers of one user at once are allowed")]
    OfUser(usize),
    /// Of all.
    #[error("{0} readers at once are allowed")]
    InAll(usize),
}

impl Readers {
    /// Nobody reads yet.
    pub(crate) fn new(per_user: usize, in_all: usize) -> Arc<Self> {
        Arc::new(Self { per_user, in_all, users: Mutex::default() })
    }

    /// Lets one more in.
    pub(crate) fn enter(self: &Arc<Self>, user: &str) -> Result<Reader, TooMany> {
        let mut users = self.users();
        if users.get(user).copied().unwrap_or(0) >= self.per_user {
            return Err(TooMany::OfUser(self.per_user));
        }
        if users.values().sum::<usize>() >= self.in_all {
            return Err(TooMany::InAll(self.in_all));
        }
        *users.entry(user.to_owned()).or_default() += 1;
        Ok(Reader { readers: Arc::clone(self), user: user.to_owned() })
    }

    fn users(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut users = self.readers.users();
        if let Some(count) = users.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_again_when_a_reader_leaves() {
        let readers = Readers::new(2, 3);
        let _first = readers.enter("a").unwrap();
        let second = readers.enter("a").unwrap();
        assert_eq!(readers.enter("a").unwrap_err(), TooMany::OfUser(2));
        let _third = readers.enter("b").unwrap();
        assert_eq!(readers.enter("c").unwrap_err(), TooMany::InAll(3));
        drop(second);
        assert!(readers.enter("c").is_ok());
        assert!(readers.enter("a").is_ok());
    }
}
