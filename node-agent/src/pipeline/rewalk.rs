//! When to list the cgroups again: the kernel had no room to tell of some (their ring was full).

/// Rest after a walk. Whoever may make cgroups can fill the ring again and again.
const APART_NS: u64 = 1_000_000_000;
/// And so many times as long as the walk took.
const SHARE: u64 = 16;

/// What of the losses a walk has made good.
#[derive(Debug, Default)]
pub(super) struct Rewalk {
    made_good: u64,
    not_before_ns: u64,
}

impl Rewalk {
    /// When the next walk is due, boot time ns, after so many losses. `None`: nothing is missing.
    pub(super) fn due_ns(&self, losses: u64) -> Option<u64> {
        (losses != self.made_good).then_some(self.not_before_ns)
    }

    /// A walk took from then to then. So many losses were known before.
    pub(super) fn walked(&mut self, losses: u64, started_ns: u64, ended_ns: u64) {
        let took_ns = ended_ns.saturating_sub(started_ns);
        self.made_good = losses;
        self.not_before_ns = ended_ns.saturating_add(APART_NS.max(took_ns.saturating_mul(SHARE)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_made_good_by_one_walk_at_once() {
        let mut rewalk = Rewalk::default();
        assert_eq!(rewalk.due_ns(0), None);
        assert_eq!(rewalk.due_ns(3), Some(0));
        rewalk.walked(3, 10, 20);
        assert_eq!(rewalk.due_ns(3), None);
    }

    #[test]
    fn losses_without_end_leave_most_of_the_time_to_other_work() {
        let mut rewalk = Rewalk::default();
        rewalk.walked(1, 0, 20);
        assert_eq!(rewalk.due_ns(2), Some(20 + APART_NS));
        rewalk.walked(2, 0, APART_NS);
        assert_eq!(rewalk.due_ns(3), Some(APART_NS + SHARE * APART_NS));
    }
}
