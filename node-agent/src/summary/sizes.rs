//! How times are spread, as counts by their size: eight sizes to each doubling, so that a quantile is a sixteenth off at
//! most. Only sizes that there were take memory.

/// Sizes in a doubling, as a power of two.
const PART_BITS: u32 = 3;
const PARTS: u64 = 1 << PART_BITS;

/// Times, us, by their size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Size and how many there are, the smallest first.
    counts: Vec<(u8, u32)>,
}

impl Sizes {
    /// One more.
    pub fn add(&mut self, us: u64) {
        self.count(size_of(us), 1);
    }

    /// All of another.
    pub fn join(&mut self, other: &Self) {
        for (size, count) in &other.counts {
            self.count(*size, *count);
        }
    }

    fn count(&mut self, size: u8, more: u32) {
        match self.counts.binary_search_by_key(&size, |(size, _)| *size) {
            Ok(place) => self.counts[place].1 = self.counts[place].1.saturating_add(more),
            Err(place) => self.counts.insert(place, (size, more)),
        }
    }

    /// The time that so many of a hundred do not exceed; `None` where there is none.
    pub fn quantile(&self, percent: u64) -> Option<u64> {
        let all: u64 = self.counts.iter().map(|(_, count)| u64::from(*count)).sum();
        let rank = (all * percent).div_ceil(100).max(1);
        let mut passed = 0;
        self.counts.iter().find_map(|(size, count)| {
            passed += u64::from(*count);
            (passed >= rank).then(|| middle(*size))
        })
    }
}

/// The first sizes are one time each; from there on each doubling has its parts.
fn size_of(us: u64) -> u8 {
    let Some(above) = us.checked_ilog2().and_then(|log| log.checked_sub(PART_BITS)) else {
        return u8::try_from(us).unwrap_or(u8::MAX);
    };
    let size = u64::from(above) * PARTS + (us >> above);
    u8::try_from(size).unwrap_or(u8::MAX)
}

/// A time in the middle of a size.
fn middle(size: u8) -> u64 {
    let size = u64::from(size);
    if size < 2 * PARTS {
        return size;
    }
    let (above, part) = (size / PARTS - 1, size % PARTS);
    ((PARTS + part) << above) + (1 << above) / 2
}

#[cfg(test)]
mod tests {
    use super::{Sizes, middle, size_of};

    fn of(times: impl IntoIterator<Item = u64>) -> Sizes {
        let mut sizes = Sizes::default();
        times.into_iter().for_each(|us| sizes.add(us));
        sizes
    }

    #[test]
    fn sizes_grow_with_times_and_their_middle_is_a_sixteenth_off_at_most() {
        let mut last = 0;
        for us in (0..5_000).chain((5_000..9_000_000).step_by(997)).chain([1 << 33, u64::MAX]) {
            let size = size_of(us);
            assert!(size >= last, "{us}");
            last = size;
            if us < 1 << 33 {
                assert!(middle(size).abs_diff(us) * 16 <= us, "{us}: {}", middle(size));
            }
        }
        assert_eq!(last, u8::MAX);
    }

    #[test]
    fn quantiles_are_of_the_rank_that_they_name() {
        let sizes = of((0..98).map(|_| 5).chain([1_000_000, 3_000_000]));
        assert_eq!((sizes.quantile(50), sizes.quantile(98)), (Some(5), Some(5)));
        let slow = sizes.quantile(99).unwrap();
        assert!(slow.abs_diff(1_000_000) * 16 <= 1_000_000, "{slow}");
        assert_eq!(of([7]).quantile(0), Some(7));
        assert_eq!(Sizes::default().quantile(50), None);
    }

    #[test]
    fn two_that_are_joined_are_as_one_that_got_all() {
        let mut one = of([1, 2, 900, 70_000]);
        one.join(&of([2, 900, 1_000_000]));
        assert_eq!(one, of([1, 2, 2, 900, 900, 70_000, 1_000_000]));
    }
}
