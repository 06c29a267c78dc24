//! Times by powers of two: 64 numbers for any amount of them.

use crate::figures::sum;

/// Buckets: below 1 us, then one for each power of two; the last holds all above 2^38 us, three days.
pub(crate) const BUCKETS: usize = 40;

/// How many times fell into each bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Histogram {
    counts: [u64; BUCKETS],
    max_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], max_us: 0 }
    }
}

impl Histogram {
    /// Counts a time.
    pub(crate) fn add(&mut self, us: u64) {
        self.add_many(us, 1);
    }

    /// Counts a time that several had.
    pub(crate) fn add_many(&mut self, us: u64, count: u64) {
        let counted = &mut self.counts[bucket_of(us)];
        *counted = counted.saturating_add(count);
        self.max_us = self.max_us.max(us);
    }

    /// Takes another in.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine = mine.saturating_add(theirs);
        }
        self.max_us = self.max_us.max(other.max_us);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        sum(self.counts)
    }

    /// An upper bound of the time that this share of them did not exceed, us: the end of its bucket, or the longest if
    /// that is less. `None`: there are none.
    pub(crate) fn quantile(&self, share: f64) -> Option<u64> {
        let total = self.count();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank; shares are between 0 and 1"
        )]
        let rank = ((total as f64 * share).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0_u64;
        self.counts.iter().enumerate().find_map(|(bucket, count)| {
            seen = seen.saturating_add(*count);
            (seen >= rank && total > 0).then(|| end_of(bucket).min(self.max_us))
        })
    }

    /// The buckets that hold something, each with its two ends in us.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        let rows = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        rows.map(|(bucket, count)| (end_of(bucket) / 2, end_of(bucket), *count))
    }

    /// How many fell into the bucket that ends there.
    pub(crate) fn count_below(&self, end_us: u64) -> u64 {
        (0..BUCKETS).find(|bucket| end_of(*bucket) == end_us).map_or(0, |bucket| self.counts[bucket])
    }
}

/// 0 for 0 us, n for times from 2^(n-1) us to below 2^n.
fn bucket_of(us: u64) -> usize {
    let bits = (u64::BITS - us.leading_zeros()) as usize;
    bits.min(BUCKETS - 1)
}

/// Where a bucket ends, us: the first time that is not in it.
fn end_of(bucket: usize) -> u64 {
    1 << bucket
}

#[cfg(test)]
mod tests {
    use super::Histogram;

    fn of(times: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for us in times {
            histogram.add(*us);
        }
        histogram
    }

    #[test]
    fn a_time_falls_between_the_ends_of_its_bucket() {
        for us in [0, 1, 2, 3, 4, 1000, 1_000_000, 1 << 37] {
            let rows: Vec<_> = of(&[us]).rows().collect();
            let [(from, to, 1)] = rows[..] else { panic!("{us}: {rows:?}") };
            assert!(from <= us && us < to, "{us} in {from}..{to}");
        }
        assert_eq!(of(&[u64::MAX]).count(), 1);
    }

    #[test]
    fn a_quantile_is_never_below_the_time_and_never_above_twice_it() {
        let histogram = of(&(1..=1000).collect::<Vec<_>>());
        for (share, exact) in [(0.5, 500), (0.9, 900), (0.99, 990), (1.0, 1000)] {
            let bound = histogram.quantile(share).unwrap();
            assert!((exact..=2 * exact).contains(&bound), "{share}: {bound}");
        }
        assert_eq!(histogram.quantile(1.0), Some(1000));
        assert_eq!(of(&[]).quantile(0.5), None);
    }

    #[test]
    fn two_merged_are_one_of_both() {
        let (mut one, other) = (of(&[1, 50]), of(&[7, 9000]));
        one.merge(&other);
        assert_eq!(one, of(&[1, 7, 50, 9000]));
    }
}
