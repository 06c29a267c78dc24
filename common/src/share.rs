//! How a ring that is nearly full is shared out among those who fill it, so that one of them does not take it all.
//!
//! While the last quarter is in use, each may bring a part of what is free, anew each time that the reader has freed a
//! slice of the ring. However many bring more than that, something stays free: with dynamic thresholds (A. K. Choudhury
//! and E. L. Hahne, IEEE/ACM Transactions on Networking 6(2), 1998) what is free settles where their parts add up to what
//! the reader frees.

use bytemuck::{Pod, Zeroable};

/// Among whom: different cgroups and namespaces at a time. The one not heard of for longest makes room; it then starts
/// anew.
pub const SHARES: usize = 4_096;

/// What one of them brought.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Share {
    /// The slice of which the next is counted.
    pub slice: u64,
    /// Bytes brought in that.
    pub bytes: u64,
    /// Transitions that were beyond their share, ever.
    pub refused: u64,
}

/// Whose share: cgroup id, then network namespace inode. On a hybrid node containers may share the first, on the host the
/// second.
pub type Sharer = [u64; 2];

/// Whether so many bytes that wait in the ring leave so little that it is shared out.
#[inline(always)]
#[must_use]
pub const fn is_scarce(waiting: u64, ring_bytes: u64) -> bool {
    waiting > ring_bytes / 4 * 3
}

/// Number of the slice in which the reader is that has taken so many bytes.
#[inline(always)]
#[must_use]
pub const fn slice_of(taken: u64, ring_bytes: u64) -> u64 {
    // Never 0: that is what a share begins with. The size is a power of two.
    (taken >> (ring_bytes.trailing_zeros() - 4)) + 1
}

/// Bytes that each may bring in a slice.
#[inline(always)]
#[must_use]
pub const fn allowance(waiting: u64, ring_bytes: u64) -> u64 {
    ring_bytes.saturating_sub(waiting) / 8
}

#[cfg(test)]
mod tests {
    use super::{Share, allowance, is_scarce, slice_of};

    const RING: u64 = 1 << 20;
    const RECORD: u64 = 256;

    /// A ring, whoever fills it, and what each of them lost.
    struct Model {
        waiting: u64,
        taken: u64,
        shares: Vec<Share>,
        full: Vec<u64>,
    }

    impl Model {
        fn bring(&mut self, who: usize) {
            if is_scarce(self.waiting, RING) {
                let (share, slice) = (&mut self.shares[who], slice_of(self.taken, RING));
                if share.slice != slice {
                    *share = Share { slice, bytes: 0, ..*share };
                }
                if share.bytes >= allowance(self.waiting, RING) {
                    share.refused += 1;
                    return;
                }
                share.bytes += RECORD;
            }
            if self.waiting + RECORD > RING {
                self.full[who] += 1;
            } else {
                self.waiting += RECORD;
            }
        }

        fn take(&mut self, records: u64) {
            let bytes = self.waiting.min(records * RECORD);
            self.waiting -= bytes;
            self.taken += bytes;
        }
    }

    /// `floods` of them bring ten times as much as is taken, each; nine others a hundredth of it. What these lost, and what
    /// the others brought through.
    fn flood(floods: usize) -> (u64, u64) {
        let (all, taken) = (floods + 9, 100);
        let mut model =
            Model { waiting: 0, taken: 0, shares: vec![Share::default(); all], full: vec![0; all] };
        let mut told = 0;
        for _ in 0..2_000 {
            for _ in 0..10 * taken {
                (0..floods).for_each(|who| model.bring(who));
            }
            (floods..all).for_each(|who| model.bring(who));
            told += model.waiting.min(taken * RECORD) / RECORD;
            model.take(taken);
        }
        assert!((0..floods).all(|who| model.shares[who].refused > 0));
        let quiet = (floods..all).map(|who| model.shares[who].refused + model.full[who]).sum();
        (quiet, told)
    }

    #[test]
    fn the_quiet_lose_nothing_however_many_flood() {
        for floods in [1, 2, 5, 15] {
            let (quiet, told) = flood(floods);
            assert_eq!(quiet, 0, "{floods} flood");
            // And the reader never waits for want of records.
            assert_eq!(told, 2_000 * 100, "{floods} flood");
        }
    }

    #[test]
    fn while_nobody_reads_each_gets_a_part_of_the_last_quarter() {
        let mut model = Model { waiting: 0, taken: 0, shares: vec![Share::default(); 10], full: vec![0; 10] };
        for _ in 0..100_000 {
            model.bring(0);
        }
        assert!(model.waiting < RING / 4 * 3 + RING / 16);
        for _ in 0..40 {
            (1..10).for_each(|who| model.bring(who));
        }
        assert_eq!((1..10).map(|who| model.shares[who].refused + model.full[who]).sum::<u64>(), 0);
    }

    #[test]
    fn a_slice_is_a_sixteenth_of_the_ring() {
        assert_eq!([0, RING / 16 - 1, RING / 16, RING].map(|taken| slice_of(taken, RING)), [1, 1, 2, 17]);
        assert_eq!(slice_of(4095, 4096), 16);
    }
}
