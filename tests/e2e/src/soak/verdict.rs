//! What is wrong with what was told, with what stays in the kernel, and with what the agent takes. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use kube_tcpstates_kernel_tests::counts::Counts;
use serde::Serialize;

use super::account::{Account, Fault, Run};
use super::trend::{self, Point};

/// One write of whole lines to a pipe, the shortest of which has more than 200 bytes: what a killed agent may have written
/// and not counted.
pub(super) const ONE_WRITE: u64 = 4096 / 200;
/// Places of losses, by their names in the counts.
const PLACES: [&str; 6] =
    ["ring_full", "recursion", "lost_queue", "lost_write", "lost_identity", "lost_restart"];

/// The sums, and what is wrong with them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Accounts {
    /// Transitions that the workloads made.
    pub(super) happened: u64,
    /// Of those, the ones that have a line.
    pub(super) told: u64,
    /// The others.
    pub(super) missing: u64,
    /// Losses that the last run counts for all.
    pub(super) counted: u64,
    /// Those by place.
    pub(super) by_place: BTreeMap<String, u64>,
    /// Lines of killed runs that were read and do not count as written: each is counted as lost too.
    pub(super) read_not_counted: u64,
    /// Why it does not hold.
    pub(super) faults: Vec<String>,
}

/// Judges what was told.
pub(super) fn accounts(account: &Account) -> Accounts {
    let mut accounts = Accounts::default();
    for (name, pod) in account.pods() {
        accounts.happened += pod.happened;
        accounts.told += pod.told;
        accounts.missing += pod.happened.saturating_sub(pod.told);
        if pod.told > pod.happened {
            accounts.faults.push(format!("{name} made {} transitions, {} are told", pod.happened, pod.told));
        }
    }
    for (what, fault) in [
        ("lines are told twice", &account.twice),
        ("lines do not name the pod that made the socket", &account.misnamed),
        ("lines are torn", &account.torn),
        ("numbers of lines are skipped", &account.skipped),
    ] {
        accounts.faults.extend(tell(what, fault));
    }
    judge_chain(account.runs(), &mut accounts);
    judge_counts(account.runs().last(), &mut accounts);
    accounts
}

fn tell(what: &str, fault: &Fault) -> Option<String> {
    (fault.count > 0).then(|| format!("{} {what}:\n    {}", fault.count, fault.examples.join("\n    ")))
}

/// Each run that wrote anything goes on from the one before that did.
fn judge_chain(runs: &[Run], accounts: &mut Accounts) {
    let mut before: Vec<&Run> = Vec::new();
    for run in runs.iter().filter(|run| run.numbered > 0) {
        match (&run.continues, before.last()) {
            (None, None) => {}
            (Some(continues), Some(_)) => {
                // Of a run that is killed while it writes for the first time nothing may be known.
                let skipped: u64 = before
                    .iter()
                    .rev()
                    .take_while(|run| run.name.as_ref() != Some(&continues.run))
                    .map(|run| run.numbered)
                    .sum();
                accounts.read_not_counted += skipped;
                let found = before.iter().rfind(|run| run.name.as_ref() == Some(&continues.run));
                match found {
                    Some(found) if skipped <= ONE_WRITE => {
                        judge_seq(found, continues.seq, accounts);
                    }
                    _ => accounts.faults.push(format!(
                        "run {:?} continues {}, and the run before is {:?} with {skipped} lines",
                        run.name,
                        continues.run,
                        before.last().and_then(|run| run.name.as_ref())
                    )),
                }
            }
            (continues, before) => accounts.faults.push(format!(
                "run {:?} continues {continues:?}, and the run before is {:?}",
                run.name,
                before.and_then(|run| run.name.as_ref())
            )),
        }
        before.push(run);
    }
}

fn judge_seq(run: &Run, seq: u64, accounts: &mut Accounts) {
    let name = &run.name;
    match run.numbered.checked_sub(seq) {
        Some(more) if more <= ONE_WRITE => accounts.read_not_counted += more,
        Some(more) => accounts.faults.push(format!("{more} lines of run {name:?} do not count as written")),
        None => accounts
            .faults
            .push(format!("{seq} lines of run {name:?} count as written, and {} were read", run.numbered)),
    }
}

fn judge_counts(last: Option<&Run>, accounts: &mut Accounts) {
    let counts = last.and_then(|run| Counts::parse(run.counts.as_ref()?));
    let Some(counts) = counts else {
        return accounts.faults.push("the last run says no counts".to_owned());
    };
    if !last.is_some_and(|run| run.is_final) {
        accounts.faults.push("the last run has no final line".to_owned());
    }
    accounts.by_place = PLACES.map(|place| (place.to_owned(), counts.get(place))).into();
    accounts.counted = accounts.by_place.values().sum();
    if accounts.missing > accounts.counted {
        accounts
            .faults
            .push(format!("{} are missing, and {} counted as lost", accounts.missing, accounts.counted));
    }
    accounts.faults.extend(counts.wrong_sums());
}

/// How something grows, and whether that is too much.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Growth {
    /// Median at the beginning of what is judged, and at the end.
    pub(super) first: f64,
    pub(super) last: f64,
    /// Over the time behind the first quarter.
    pub(super) per_hour: f64,
    /// For so long.
    pub(super) minutes: u64,
    /// Whether that is long enough to be judged.
    pub(super) is_judged: bool,
    /// The median of each minute, also of the first quarter.
    pub(super) medians: Vec<f64>,
    pub(super) fault: Option<String>,
}

/// A slope says something over so long a time; less is printed and not judged.
const JUDGED_FROM: Duration = Duration::from_mins(20);

/// Judges how what was sampled grows in an hour, behind the first quarter of its time.
pub(super) fn growth(what: &str, samples: &[Point], at_most: f64) -> Growth {
    let minutes = trend::by_minute(samples);
    let judged = trend::behind_first_quarter(&minutes);
    let (Some(first), Some(last)) = (judged.first(), judged.last()) else {
        return Growth { fault: Some(format!("{what}: nothing was sampled")), ..Growth::default() };
    };
    let span = trend::span(judged);
    let medians = minutes.iter().map(|(_, median)| *median).collect();
    let is_judged = span >= JUDGED_FROM;
    let per_hour = trend::per_hour(judged).unwrap_or(0.0);
    let fault = (is_judged && per_hour > at_most)
        .then(|| format!("{what} grows by {per_hour:.2} an hour, more than {at_most}"));
    Growth { first: first.1, last: last.1, per_hour, minutes: span.as_secs() / 60, is_judged, medians, fault }
}

/// What the kernel holds: entries by name of the map.
pub(super) type Entries = BTreeMap<String, u64>;

/// How many entries of a map may be more at the end than at the beginning. What happens once in some restarts is not what
/// grows with each pod or connection.
const MORE: u64 = 8;
/// An LRU of fixed size: what was in it once may stay.
const FORGETS: &str = "RING_SHARES";
/// A row for each set of traces that ever lost: bounded by the sets there were, and not by pods or connections.
const BY_TRACES: &str = "RING_FULL_BY_TRACES";

/// Judges the maps, when all pods are gone again.
pub(super) fn entries(before: &Entries, after: &Entries) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, count) in after {
        let before = before.get(name).copied().unwrap_or(0);
        if name != FORGETS && name != BY_TRACES && *count > before + MORE {
            faults.push(format!("{name} has {count} entries when all pods are gone; it had {before}"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COUNTS: &str = "counts: hit=12 seen=11 recursion=1 other_protocol=1 filtered=2 pending=0 ring_full=3 \
        emitted=5 told_twice=0 summarised=0 filtered_user=0 held=0 lost_queue=1 lost_rate=0 lost_write=0 \
        lost_identity=0 lost_restart=0 written=4 exact=true";

    fn take(account: &mut Account, process: usize, tcpstates: &serde_json::Value) {
        account.take(process, json!({"tcpstates": tcpstates}).to_string().as_bytes());
    }

    /// Two runs, of which the second says its counts and ends.
    fn account(continues: &serde_json::Value, counts: &str) -> Account {
        let mut account = Account::new("soak/all");
        account.expect("client-1", 77);
        let (first, second) = (account.begin(), account.begin());
        take(&mut account, first, &json!({"type": "start", "run": "a", "seq": 1}));
        for seq in 2..4 {
            take(&mut account, first, &json!({"type": "heartbeat", "run": "a", "seq": seq}));
        }
        take(&mut account, second, &json!({"type": "start", "run": "b", "seq": 1, "continues": continues}));
        take(&mut account, second, &json!({"type": "heartbeat", "run": "b", "seq": 2, "final": true}));
        take(&mut account, second, &json!({"type": "log", "run": "b", "level": "info", "text": counts}));
        account
    }

    #[test]
    fn what_is_missing_must_be_counted() {
        let mut account = account(&json!({"run": "a", "seq": 2}), COUNTS);
        account.happened("client-1", 5);
        let judged = accounts(&account);
        assert_eq!(judged.faults, Vec::<String>::new());
        assert_eq!((judged.missing, judged.counted, judged.read_not_counted), (5, 5, 1));
        account.happened("client-1", 1);
        assert_eq!(accounts(&account).faults, ["6 are missing, and 5 counted as lost"]);
    }

    #[test]
    fn a_chain_that_breaks_is_a_fault() {
        for continues in [json!(null), json!({"run": "c", "seq": 3}), json!({"run": "a", "seq": 4})] {
            let judged = accounts(&account(&continues, COUNTS));
            assert_eq!(judged.faults.len(), 1, "{continues}: {:?}", judged.faults);
        }
    }

    #[test]
    fn counts_that_do_not_add_up_are_a_fault() {
        let counts = COUNTS.replace("written=4", "written=5");
        let judged = accounts(&account(&json!({"run": "a", "seq": 3}), &counts));
        assert_eq!(judged.faults.len(), 1, "{:?}", judged.faults);
    }

    #[test]
    fn growth_is_judged_over_a_long_time_alone() {
        let of = |minutes: u32| -> Vec<Point> {
            (0..minutes).map(|minute| (Duration::from_mins(minute.into()), f64::from(minute))).collect()
        };
        assert!(growth("memory", &of(60), 5.0).fault.is_some());
        assert!(growth("memory", &of(60), 61.0).fault.is_none());
        let short = growth("memory", &of(10), 5.0);
        assert!(!short.is_judged && short.fault.is_none() && short.per_hour > 5.0);
        assert!(growth("memory", &[], 5.0).fault.is_some());
    }

    #[test]
    fn a_map_that_stays_full_is_a_fault() {
        let of = |count| Entries::from([("CGROUP_SETS".to_owned(), count), (FORGETS.to_owned(), count)]);
        assert!(entries(&of(3), &of(11)).is_empty());
        assert_eq!(entries(&of(3), &of(12)).len(), 1);
    }
}
