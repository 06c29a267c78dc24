//! Renderings of what stands on many lines, made once.

use crate::names::{Numbered, QuickMap};

/// Renderings kept. Above this they are all dropped, and made again as they are needed.
const KEPT: usize = 16_384;

/// Renderings by the number of the thing.
#[derive(Debug)]
pub(super) struct Cache<R> {
    by_number: QuickMap<u64, R>,
}

impl<R> Default for Cache<R> {
    fn default() -> Self {
        Self { by_number: QuickMap::default() }
    }
}

impl<R> Cache<R> {
    /// The rendering of a thing.
    pub(super) fn of<T>(&mut self, thing: &Numbered<T>, render: impl FnOnce(&T) -> R) -> &R {
        if self.by_number.len() >= KEPT && !self.by_number.contains_key(&thing.number()) {
            self.by_number.clear();
        }
        self.by_number.entry(thing.number()).or_insert_with(|| render(thing))
    }
}

#[cfg(test)]
mod tests {
    use super::{Cache, KEPT};
    use crate::names::Numbered;

    #[test]
    fn a_thing_is_rendered_once_and_another_that_is_equal_by_itself() {
        let (one, other) = (Numbered::new(7), Numbered::new(7));
        let mut cache = Cache::default();
        assert_eq!(cache.of(&one, i32::to_string), "7");
        assert_eq!(cache.of(&one, |_| String::from("made again")), "7");
        assert_eq!(cache.of(&other, |_| String::from("another's")), "another's");
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let mut cache = Cache::default();
        for n in 0..2 * KEPT {
            cache.of(&Numbered::new(n), |n| *n);
            assert!(cache.by_number.len() <= KEPT);
        }
    }
}
