//! How long a watch waits after an error. Pure.
//!
//! The waits are short: while the server is failing the gate lets one request a second out, and once it answers
//! again everybody is to be in step within seconds. Only what the server refuses of one resource alone is asked for
//! ever more rarely.

use std::time::{Duration, Instant};

/// What an error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// 403: the program may not read this resource.
    Forbidden,
    /// 404: the resource definition is not installed.
    NotInstalled,
    /// 410: what was read is too old to go on from.
    Gone,
    /// A watch broke off. By itself that is nothing: a connection that was silent for too long is cut, and servers
    /// before 1.21 send no bookmarks of resources that never change.
    Cut,
    /// 401: the token has expired, or is not the program's.
    Unauthorized,
    /// Anything else: the server is away or in trouble.
    Failing,
}

impl Trouble {
    /// Of an error within a watch.
    pub(crate) fn of_watch(error: &kube::Error) -> Self {
        match Self::of_request(error) {
            Self::Failing => Self::Cut,
            trouble => trouble,
        }
    }

    /// Of a request's error.
    pub fn of_request(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_code(status.code),
            _ => Self::Failing,
        }
    }

    const fn of_code(code: u16) -> Self {
        match code {
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotInstalled,
            410 => Self::Gone,
            _ => Self::Failing,
        }
    }

    /// The first wait and the longest.
    const fn waits(self) -> (Duration, Duration) {
        let (first_ms, longest_ms) = match self {
            Self::Forbidden => (1_000, 30_000),
            Self::NotInstalled => (1_000, 10_000),
            Self::Gone => (50, 2_000),
            Self::Unauthorized | Self::Cut | Self::Failing => (200, 1_600),
        };
        (Duration::from_millis(first_ms), Duration::from_millis(longest_ms))
    }
}

/// An error so long after the last one is the first of its own: the start of a watch says nothing by itself.
const QUIET: Duration = Duration::from_mins(1);

/// Grows with every error of the same kind.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    last: Option<(Trouble, Duration, Instant)>,
}

impl Patience {
    /// How long to wait now; `jitter` is anything in 0..1.
    pub(crate) fn after(&mut self, trouble: Trouble, jitter: f64, now: Instant) -> Duration {
        let (first, longest) = trouble.waits();
        let wait = match self.last {
            Some((same, wait, at)) if same == trouble && now < at + wait + QUIET => (wait * 2).min(longest),
            _ => first,
        };
        self.last = Some((trouble, wait, now));
        wait.mul_f64(1.0 - jitter.clamp(0.0, 1.0) * 0.4)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Patience, Trouble};

    /// Waits in ms of errors that follow each other.
    fn waits(trouble: Trouble, number: usize) -> Vec<u128> {
        let (mut patience, mut now) = (Patience::default(), Instant::now());
        let mut next = || {
            let wait = patience.after(trouble, 0.0, now);
            now += wait;
            wait.as_millis()
        };
        (0..number).map(|_| next()).collect()
    }

    #[test]
    fn what_is_refused_alone_is_asked_for_ever_more_rarely() {
        assert_eq!(waits(Trouble::Forbidden, 7), [1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        assert_eq!(waits(Trouble::NotInstalled, 6), [1000, 2000, 4000, 8000, 10000, 10000]);
    }

    #[test]
    fn a_server_that_is_away_is_asked_again_soon_however_long_it_was_away() {
        let longest = waits(Trouble::Failing, 1000).into_iter().max().unwrap();
        assert!(longest < 2000, "{longest}");
    }

    #[test]
    fn jitter_shortens_a_wait_by_up_to_two_fifths() {
        let (mut patience, now) = (Patience::default(), Instant::now());
        assert_eq!(patience.after(Trouble::Forbidden, 1.0, now), Duration::from_millis(600));
        assert_eq!(patience.after(Trouble::Forbidden, 0.0, now), Duration::from_secs(2));
    }

    #[test]
    fn another_trouble_and_a_quiet_minute_begin_anew() {
        let (mut patience, now) = (Patience::default(), Instant::now());
        patience.after(Trouble::Forbidden, 0.0, now);
        patience.after(Trouble::Forbidden, 0.0, now);
        assert_eq!(patience.after(Trouble::Failing, 0.0, now), Duration::from_millis(200));
        assert_eq!(patience.after(Trouble::Failing, 0.0, now), Duration::from_millis(400));
        let later = now + Duration::from_secs(61);
        assert_eq!(patience.after(Trouble::Failing, 0.0, later), Duration::from_millis(200));
    }
}
