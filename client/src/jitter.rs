//! What keeps programs that started together from asking together.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Instant;

/// Anything in 0..1, another each time. Not worth a random number generator of its own: any number will do.
pub fn jitter() -> f64 {
    let bits = u32::try_from(RandomState::new().hash_one(Instant::now()) >> 32).unwrap_or_default();
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::jitter;

    #[test]
    fn it_is_spread_over_the_whole_range() {
        let drawn: Vec<f64> = (0..1_000).map(|_| jitter()).collect();
        assert!(drawn.iter().all(|one| (0.0..1.0).contains(one)));
        for tenth in 0..10 {
            let from = f64::from(tenth) / 10.0;
            assert!(drawn.iter().any(|one| (from..from + 0.1).contains(one)), "none from {from}");
        }
    }
}
