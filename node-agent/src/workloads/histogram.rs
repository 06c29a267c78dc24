//! Times by fixed bounds, as the text format of metrics has them.

/// Upper bounds for handshakes, us. A SYN that is sent again comes after 1, 3 and 7 s.
pub const HANDSHAKES: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    3_000_000,
];
/// Upper bounds for how long connections last, us.
pub const DURATIONS: [u64; 9] =
    [1_000, 10_000, 100_000, 1_000_000, 10_000_000, 60_000_000, 600_000_000, 3_600_000_000, 86_400_000_000];

/// Times by bounds, which are an argument each time: the same for all of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<const N: usize> {
    /// How many are within each bound and above the one before.
    pub within: [u64; N],
    /// Those above the last.
    pub above: u64,
    /// The sum of all, us.
    pub sum_us: u64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self { within: [0; N], above: 0, sum_us: 0 }
    }
}

impl<const N: usize> Histogram<N> {
    /// One more.
    pub fn add(&mut self, bounds: &[u64; N], us: u64) {
        let place = bounds.partition_point(|bound| *bound < us);
        *self.within.get_mut(place).unwrap_or(&mut self.above) += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.within.iter().sum::<u64>() + self.above
    }
}

#[cfg(test)]
mod tests {
    use super::Histogram;

    #[test]
    fn a_time_is_within_the_first_bound_that_it_does_not_exceed() {
        let mut histogram = Histogram::default();
        for us in [0, 10, 11, 20, 21, u64::MAX - 100] {
            histogram.add(&[10, 20], us);
        }
        assert_eq!((histogram.within, histogram.above, histogram.count()), ([2, 2], 2, 6));
        assert_eq!(histogram.sum_us, u64::MAX - 100 + 62);
    }
}
