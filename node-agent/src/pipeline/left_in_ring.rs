//! Whether records stay in the ring for now. What waits there outlives this process where it is pinned; what waits for stdout
//! in its memory does not, and takes five times the room.

/// So long at most: a record may be of one whose name is soon forgotten.
const AT_MOST_NS: u64 = 10_000_000_000;

/// Since when they stay, and whether there are more to take at once.
#[derive(Debug, Default)]
pub(super) struct LeftInRing {
    since_ns: Option<u64>,
    has_more: bool,
}

impl LeftInRing {
    /// `is_behind`: nobody takes lines as fast as they come. Of the ring `waiting` bytes of `size` are in use.
    pub(super) fn stay(&mut self, is_behind: bool, waiting: u64, size: u64, now_ns: u64) -> bool {
        if !is_behind {
            self.since_ns = None;
            return false;
        }
        let since_ns = *self.since_ns.get_or_insert(now_ns);
        // With more than that in it producers wake the reader.
        let stay = waiting <= size / 2 && now_ns.saturating_sub(since_ns) < AT_MOST_NS;
        self.has_more &= !stay;
        stay
    }

    /// So many were taken, and no more than `most` would have been.
    pub(super) fn took(&mut self, taken: usize, most: usize) {
        self.has_more = taken == most;
    }

    /// The last were taken until there were enough, not until the ring was empty: no time to rest. While records stay there
    /// is.
    pub(super) const fn has_more(&self) -> bool {
        self.has_more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 20;

    #[test]
    fn they_stay_while_lines_wait_and_there_is_room() {
        let mut left = LeftInRing::default();
        assert!(!left.stay(false, 100, SIZE, 1));
        assert!(left.stay(true, 100, SIZE, 2));
        assert!(!left.stay(true, SIZE / 2 + 8, SIZE, 3), "the ring fills");
        assert!(left.stay(true, SIZE / 2, SIZE, 4));
    }

    #[test]
    fn there_is_time_to_rest_when_the_ring_is_empty_and_while_they_stay() {
        let mut left = LeftInRing::default();
        assert!(!left.has_more());
        left.took(128, 128);
        assert!(left.has_more());
        assert!(!left.stay(false, 100, SIZE, 1));
        assert!(left.has_more(), "they do not stay");
        assert!(left.stay(true, 100, SIZE, 2));
        assert!(!left.has_more(), "it would look again and again, and take none");
        left.took(128, 128);
        left.took(127, 128);
        assert!(!left.has_more());
    }

    #[test]
    fn they_do_not_stay_for_ever() {
        let mut left = LeftInRing::default();
        assert!(left.stay(true, 100, SIZE, 5));
        assert!(left.stay(true, 100, SIZE, 4 + AT_MOST_NS));
        assert!(!left.stay(true, 100, SIZE, 5 + AT_MOST_NS));
        assert!(!left.stay(true, 100, SIZE, 9 * AT_MOST_NS), "not before lines have gone out");
        assert!(!left.stay(false, 100, SIZE, 9 * AT_MOST_NS));
        assert!(left.stay(true, 100, SIZE, 9 * AT_MOST_NS));
    }
}
