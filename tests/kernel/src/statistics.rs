//! Percentiles of what a test measured.

use std::time::Duration;

/// Durations in order.
#[derive(Clone, Debug)]
pub struct Sorted(Vec<Duration>);

impl Sorted {
    /// Puts them in order; there must be some.
    #[track_caller]
    pub fn new(mut values: Vec<Duration>) -> Self {
        assert!(!values.is_empty(), "nothing was measured");
        values.sort_unstable();
        Self(values)
    }

    /// The value that `percent` of them do not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0[rank.min(self.0.len()) - 1]
    }

    /// One line for a person.
    pub fn summary(&self) -> String {
        let [half, most, all] = [50, 99, 100].map(|percent| self.percentile(percent));
        format!("{} values, p50 {half:?}, p99 {most:?}, max {all:?}", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_smallest_value_that_so_many_do_not_exceed() {
        let sorted = Sorted::new((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!(sorted.percentile(50), Duration::from_millis(100));
        assert_eq!(sorted.percentile(99), Duration::from_millis(198));
        assert_eq!(sorted.percentile(100), Duration::from_millis(200));
    }
}
