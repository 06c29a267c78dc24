//! Things that are rendered once and shown often.

use std::sync::atomic::{AtomicU64, Ordering};

/// Something with a number by which a rendering of it is found again: within a process equal numbers mean equal things,
/// and no number is given twice.
#[derive(Clone, Debug)]
pub struct Numbered<T> {
    number: u64,
    thing: T,
}

impl<T> Numbered<T> {
    /// Gives it the next number.
    pub fn new(thing: T) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { number: NEXT.fetch_add(1, Ordering::Relaxed), thing }
    }

    /// Its number, from 1.
    pub const fn number(&self) -> u64 {
        self.number
    }
}

impl<T> std::ops::Deref for Numbered<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.thing
    }
}
