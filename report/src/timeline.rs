//! Connections by the time they ended, in slices that widen as the time covered grows.

use std::collections::BTreeMap;

use crate::figures::sum;
use crate::outcome::{ByOutcome, OUTCOMES};

/// Slices that are kept; a page has no room for more.
const SLICES_AT_MOST: usize = 480;

/// Connections by time.
#[derive(Debug)]
pub(crate) struct Timeline {
    /// How long a slice is, s.
    width_s: u64,
    /// By the number of the slice since 1970.
    slices: BTreeMap<u64, ByOutcome>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { width_s: 1, slices: BTreeMap::new() }
    }
}

/// A slice of time, and what ended in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    /// Its beginning, s since 1970.
    pub start_s: u64,
    pub by_outcome: ByOutcome,
}

impl Timeline {
    /// `count` connections ended so at this time, s since 1970.
    pub(crate) fn add(&mut self, time_s: u64, outcome: usize, count: u64) {
        let ended = &mut self.slices.entry(time_s / self.width_s).or_default()[outcome];
        *ended = ended.saturating_add(count);
        while self.span() > SLICES_AT_MOST as u64 {
            self.widen();
        }
    }

    /// The beginning of its first slice and of its last, s since 1970; none without a connection.
    pub(crate) fn ends(&self) -> Option<[u64; 2]> {
        let ends = self.slices.first_key_value().zip(self.slices.last_key_value());
        ends.map(|((first, _), (last, _))| [first * self.width_s, last * self.width_s])
    }

    /// Reaches over these times too, so that it can stand below another that does.
    pub(crate) fn reach(&mut self, times_s: [u64; 2]) {
        for time_s in times_s {
            self.add(time_s, 0, 0);
        }
    }

    /// Takes another in.
    pub(crate) fn merge(&mut self, other: &Self) {
        for slice in other.slices() {
            for (outcome, count) in slice.by_outcome.into_iter().enumerate() {
                self.add(slice.start_s, outcome, count);
            }
        }
    }

    /// How many connections ended.
    pub(crate) fn ended(&self) -> u64 {
        sum(self.slices.values().flatten().copied())
    }

    /// Slices from the first to the last, those between too in which nothing was.
    fn span(&self) -> u64 {
        let ends = self.slices.first_key_value().zip(self.slices.last_key_value());
        ends.map_or(0, |((first, _), (last, _))| last - first + 1)
    }

    fn widen(&mut self) {
        // 1, 2, 5, 10 s ... then minutes and hours, so that a slice begins where a person expects it.
        const WIDTHS_S: [u64; 14] = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400];
        let next = WIDTHS_S.into_iter().find(|width| *width > self.width_s && width % self.width_s == 0);
        let next = next.unwrap_or(self.width_s * 2);
        let by = next / self.width_s;
        let mut wider: BTreeMap<u64, ByOutcome> = BTreeMap::new();
        for (slice, counts) in std::mem::take(&mut self.slices) {
            let into = wider.entry(slice / by).or_insert([0; OUTCOMES.len()]);
            into.iter_mut().zip(counts).for_each(|(mine, theirs)| *mine = mine.saturating_add(theirs));
        }
        (self.width_s, self.slices) = (next, wider);
    }

    /// How long a slice is, s.
    pub(crate) fn width_s(&self) -> u64 {
        self.width_s
    }

    /// Every slice from the first to the last.
    pub(crate) fn slices(&self) -> Vec<Slice> {
        let Some((first, last)) =
            self.slices.first_key_value().zip(self.slices.last_key_value()).map(|((a, _), (b, _))| (*a, *b))
        else {
            return Vec::new();
        };
        (first..=last)
            .map(|slice| Slice {
                start_s: slice * self.width_s,
                by_outcome: self.slices.get(&slice).copied().unwrap_or_default(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_connection_is_in_one_slice_however_long_the_time(
            times in prop::collection::vec(1_700_000_000_u64..1_900_000_000, 1..300)
        ) {
            let mut timeline = Timeline::default();
            for time in &times {
                timeline.add(*time, 0, 1);
            }
            let slices = timeline.slices();
            prop_assert!(slices.len() <= SLICES_AT_MOST);
            for slice in &slices {
                let within = slice.start_s..slice.start_s + timeline.width_s();
                let there = times.iter().filter(|time| within.contains(time)).count() as u64;
                prop_assert_eq!(slice.by_outcome[0], there);
            }
        }
    }

    #[test]
    fn one_that_reaches_over_anothers_time_has_the_same_slices() {
        let (mut short, mut long) = (Timeline::default(), Timeline::default());
        short.add(1_700_000_100, 0, 1);
        for time in [1_700_000_000, 1_700_003_600] {
            long.add(time, 1, 1);
        }
        short.reach(long.ends().unwrap());
        let starts =
            |timeline: &Timeline| timeline.slices().iter().map(|slice| slice.start_s).collect::<Vec<_>>();
        assert_eq!(starts(&short), starts(&long));
        assert_eq!(short.slices().iter().map(|slice| slice.by_outcome[0]).sum::<u64>(), 1);
        assert_eq!(Timeline::default().ends(), None);
    }

    #[test]
    fn an_hour_has_slices_of_whole_seconds_that_divide_it() {
        let mut timeline = Timeline::default();
        for time in 1_700_000_000..1_700_003_600 {
            timeline.add(time, 1, 2);
        }
        assert_eq!(timeline.width_s(), 10);
        assert_eq!(timeline.slices().iter().map(|slice| slice.by_outcome[1]).sum::<u64>(), 7200);
    }
}
