//! What became of the transitions, from the kernel's counters and our own.

use std::{collections::BTreeMap, fmt};

use kube_tcpstates_common::counter::Counter;
use kube_tcpstates_events::{ByPlace, Totals};

use crate::{kernel::CounterSnapshot, outlet};

/// Everything counted, at one time. Exact once the programs are detached, the ring drained and the output finished.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// The kernel's part.
    pub kernel: CounterSnapshot,
    /// The part of the run's own outlet.
    pub output: outlet::Totals,
    /// What outlets beside it lost, by their names; only those that lost something.
    pub lost_beside: BTreeMap<&'static str, u64>,
    /// Emitted by the kernel, wanted by nobody after all.
    pub filtered_user: u64,
    /// Counted once more, as they became more than one thing: a line of the transition, one of the connection that it
    /// ends, part of a summary.
    pub told_twice: u64,
    /// Added to a summary.
    pub summarised: u64,
    /// Nobody could say in time whose they are, and no trace may have them without.
    pub lost_identity: u64,
    /// Left out by a rate limit.
    pub lost_rate: u64,
    /// Taken by runs that were killed before they had written it.
    pub lost_restart: u64,
    /// Waiting for an owner's name, or for who else wants it.
    pub held: u64,
    /// The hook can tell what it missed, and the programs have traced all the time.
    pub counts_exactly: bool,
    /// Socket records that exist, where that can be told.
    pub socket_records: Option<u64>,
    /// Records of closed sockets among them.
    pub closed_socket_records: Option<u64>,
}

impl Tally {
    /// Hits on which the kernel ran no program and that nothing else has told of. Its own count of them is too low now
    /// and then (seen on 6.18: one hit in a million, in a softirq from the timer interrupt, neither run nor counted), but
    /// a socket that is followed shows at its next transition, or at its end, that one is missing.
    fn skipped(&self) -> u64 {
        let gaps = self.kernel.get(Counter::Gap).saturating_sub(self.kernel.get(Counter::Inferred));
        self.counted_by_kernel().max(gaps)
    }

    /// What the kernel counted, less what was inferred.
    fn counted_by_kernel(&self) -> u64 {
        self.kernel.recursion.saturating_sub(self.kernel.get(Counter::Inferred))
    }

    /// The losses are the truth and not a lower bound.
    pub fn exact(&self) -> bool {
        self.counts_exactly && self.kernel.recursion_known && self.skipped() == self.counted_by_kernel()
    }

    /// Losses by place.
    pub fn lost(&self) -> ByPlace {
        ByPlace {
            ring: self.kernel.get(Counter::RingFull),
            recursion: self.skipped(),
            queue: self.output.lost_queue,
            rate: self.lost_rate,
            write: self.output.lost_write,
            identity: self.lost_identity,
            restart: self.lost_restart,
        }
    }

    /// The totals of a heartbeat.
    pub fn totals(&self) -> Totals {
        let kernel = |counter| self.kernel.get(counter);
        Totals {
            seen: kernel(Counter::Seen),
            other_protocol: kernel(Counter::OtherProtocol),
            filtered: kernel(Counter::Filtered),
            pending: kernel(Counter::Pending),
            ring_full: kernel(Counter::RingFull),
            emitted: kernel(Counter::Emitted),
            // What is accepted stands before the line that tells this, so whoever reads it has read them all.
            written: self.output.event_lines_accepted - self.output.lost_write,
            filtered_user: self.filtered_user,
            told_twice: self.told_twice,
            summarised: self.summarised,
            held: self.held,
            lost: self.lost().total(),
        }
    }
}

/// The line on stderr at the end and on SIGUSR1: `name=value` separated by spaces. The two identities of
/// `docs/output.md` can be checked from it.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernel = |counter| self.kernel.get(counter);
        let seen = kernel(Counter::Seen);
        let lost = self.lost();
        write!(
            f,
            "counts: hit={} seen={seen} recursion={} other_protocol={} filtered={} pending={} ring_full={} emitted={}",
            seen + lost.recursion,
            lost.recursion,
            kernel(Counter::OtherProtocol),
            kernel(Counter::Filtered),
            kernel(Counter::Pending),
            kernel(Counter::RingFull),
            kernel(Counter::Emitted),
        )?;
        write!(
            f,
            " told_twice={} summarised={} filtered_user={} held={} lost_queue={} lost_rate={} lost_write={} lost_identity={} lost_restart={} written={}",
            self.told_twice,
            self.summarised,
            self.filtered_user,
            self.held,
            lost.queue,
            lost.rate,
            lost.write,
            lost.identity,
            lost.restart,
            self.output.event_lines_written,
        )?;
        write!(
            f,
            " exact={} rescued={} queue_high_water={} wakeups={} gaps={} inferred={} storage_failed={} cgroup_ring_full={}",
            self.exact(),
            kernel(Counter::Rescued),
            self.output.high_water,
            kernel(Counter::Wakeup),
            kernel(Counter::Gap),
            kernel(Counter::Inferred),
            kernel(Counter::StorageFailed),
            kernel(Counter::CgroupRingFull),
        )?;
        if let (Some(records), Some(closed)) = (self.socket_records, self.closed_socket_records) {
            write!(f, " socket_records={records} closed_socket_records={closed}")?;
        }
        Ok(())
    }
}
