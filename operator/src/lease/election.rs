//! What a candidate does about the lease as it is. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::LEASE;

/// The lease as the server has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Who holds it; empty when it was given back.
    pub(super) holder: String,
    /// Changes with every write.
    pub(super) version: String,
    /// How long it is theirs without a renewal.
    duration: Duration,
    transitions: i32,
}

impl Record {
    pub(super) fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            holder: spec.holder_identity.unwrap_or_default(),
            version: lease.resource_version().unwrap_or_default(),
            duration: seconds.map_or(LEASE, Duration::from_secs).max(LEASE),
            transitions: spec.lease_transitions.unwrap_or_default(),
        }
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is none.
    Make,
    /// It is nobody's, or its holder is gone.
    Take,
    /// It is held.
    Renew,
    /// It is another's.
    Wait,
}

/// One candidate's view.
#[derive(Debug)]
pub(super) struct Election {
    identity: String,
    /// The other's lease in the version last seen, and since when.
    seen: Option<(String, Instant)>,
}

impl Election {
    pub(super) fn new(identity: &str) -> Self {
        Self { identity: identity.to_owned(), seen: None }
    }

    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    pub(super) fn step(&mut self, there: Option<&Record>, now: Instant) -> Step {
        let Some(record) = there else { return Step::Make };
        if record.holder == self.identity {
            return Step::Renew;
        }
        if record.holder.is_empty() {
            return Step::Take;
        }
        match &self.seen {
            Some((version, since)) if *version == record.version => {
                if now >= *since + record.duration {
                    Step::Take
                } else {
                    Step::Wait
                }
            }
            _ => {
                self.seen = Some((record.version.clone(), now));
                Step::Wait
            }
        }
    }

    /// What makes or keeps it this candidate's, unless another has written meanwhile.
    pub(super) fn patch(&self, there: Option<&Record>, now: Timestamp) -> Value {
        let record = there.cloned().unwrap_or_default();
        // Six digits of a second, always: other numbers of digits are not a MicroTime to every server.
        let now = now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let mut spec = json!({
            "holderIdentity": self.identity, "leaseDurationSeconds": LEASE.as_secs(), "renewTime": now,
        });
        if record.holder != self.identity {
            spec["acquireTime"] = json!(now);
            spec["leaseTransitions"] = json!(record.transitions.saturating_add(1));
        }
        json!({"metadata": {"resourceVersion": record.version}, "spec": spec})
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::json;
    use tokio::time::Instant;

    use super::{Election, LEASE, Record, Step};
    use crate::lease::{TERM, WRITE_WITHIN};

    fn held(holder: &str, version: u64) -> Record {
        Record { holder: holder.to_owned(), version: version.to_string(), duration: LEASE, transitions: 3 }
    }

    #[test]
    fn a_lease_that_is_not_there_or_given_back_is_taken_at_once() {
        let (mut election, now) = (Election::new("a"), Instant::now());
        assert_eq!(election.step(None, now), Step::Make);
        assert_eq!(election.step(Some(&held("", 1)), now), Step::Take);
        assert_eq!(election.step(Some(&held("a", 2)), now), Step::Renew);
    }

    #[test]
    fn anothers_is_taken_when_it_was_seen_unchanged_for_its_whole_time() {
        let (mut election, start) = (Election::new("a"), Instant::now());
        let mut step =
            |version, seconds| election.step(Some(&held("b", version)), start + Duration::from_secs(seconds));
        assert_eq!(step(1, 0), Step::Wait);
        assert_eq!(step(1, 11), Step::Wait);
        assert_eq!(step(2, 12), Step::Wait, "it was renewed");
        assert_eq!(step(2, 23), Step::Wait);
        assert_eq!(step(2, 24), Step::Take);
    }

    #[test]
    fn a_patch_holds_only_over_what_was_seen_and_counts_changes_of_hand() {
        let (election, now) = (Election::new("a"), Timestamp::UNIX_EPOCH);
        let taken = election.patch(Some(&held("b", 7)), now);
        let expected = json!({"metadata": {"resourceVersion": "7"}, "spec": {"holderIdentity": "a",
            "leaseDurationSeconds": 12, "renewTime": "1970-01-01T00:00:00.000000Z",
            "acquireTime": "1970-01-01T00:00:00.000000Z", "leaseTransitions": 4}});
        assert_eq!(taken, expected);
        let renewed = election.patch(Some(&held("a", 8)), now);
        assert_eq!(renewed["spec"].as_object().unwrap().len(), 3, "{renewed}");
    }

    /// Milliseconds: at once, about as long as a lease lasts, or any.
    fn pause() -> impl Strategy<Value = u64> {
        prop_oneof![0..50_u64, 11_900..12_100_u64, 0..9_000_u64]
    }

    proptest! {
        /// Two candidates that look when they like. One may hang for any time, between looking and writing too.
        #[test]
        fn when_one_begins_to_write_what_another_began_has_ended(
            steps in prop::collection::vec((0..2_usize, pause(), pause()), 1..60),
        ) {
            let start = Instant::now();
            let mut candidates = [Election::new("0"), Election::new("1")];
            let mut lease: Option<Record> = None;
            let mut version = 0;
            // When each was last sure, by when it had asked.
            let mut ends = [start; 2];
            let mut now = start;
            for (who, pause, answer) in steps {
                now += Duration::from_millis(pause);
                let sent = now;
                let step = candidates[who].step(lease.as_ref(), now);
                now += Duration::from_millis(answer);
                if step == Step::Wait {
                    continue;
                }
                version += 1;
                lease = Some(held(&who.to_string(), version));
                prop_assert!(ends[1 - who] <= now, "both write");
                ends[who] = sent + TERM + WRITE_WITHIN;
            }
        }
    }
}
