//! Renderings of what stands on many lines, made once.

use crate::names::{Numbered, QuickMap};

/// Renderings kept of late. A thing has another number whenever pods change, so most of what was rendered is never asked for
/// again; a node has some hundred containers.
const KEPT: usize = 2_048;

/// Renderings by the number of the thing: those that were asked for of late, and as many that were before.
#[derive(Debug)]
pub(super) struct Cache<R> {
    late: QuickMap<u64, R>,
    before: QuickMap<u64, R>,
}

impl<R> Default for Cache<R> {
    fn default() -> Self {
        Self { late: QuickMap::default(), before: QuickMap::default() }
    }
}

impl<R> Cache<R> {
    /// The rendering of a thing.
    pub(super) fn of<T>(&mut self, thing: &Numbered<T>, render: impl FnOnce(&T) -> R) -> &R {
        let Self { late, before } = self;
        let number = thing.number();
        if late.len() >= KEPT && !late.contains_key(&number) {
            *before = std::mem::take(late);
        }
        late.entry(number).or_insert_with(|| before.remove(&number).unwrap_or_else(|| render(thing)))
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
    fn what_is_asked_for_stays_and_there_is_an_end_to_what_is_kept() {
        let often = Numbered::new(usize::MAX);
        let mut cache = Cache::default();
        cache.of(&often, |n| *n);
        for n in 0..5 * KEPT {
            cache.of(&Numbered::new(n), |n| *n);
            assert!(cache.late.len() <= KEPT && cache.before.len() <= KEPT);
            if n % (KEPT / 2) == 0 {
                assert_eq!(*cache.of(&often, |_| 0), usize::MAX, "it is not made again");
            }
        }
        let seldom = Numbered::new(7);
        cache.of(&seldom, |n| *n);
        for n in 0..2 * KEPT {
            cache.of(&Numbered::new(n), |n| *n);
        }
        assert_eq!(*cache.of(&seldom, |_| 8), 8, "it is made again");
    }
}
