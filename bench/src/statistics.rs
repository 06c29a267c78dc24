//! What is said of a figure that was taken several times.

use serde::Serialize;

/// The middle and how far the rest is from it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Half of the runs were below.
    pub median: f64,
    /// A quarter of the runs were below.
    pub lower_quartile: f64,
    /// A quarter of the runs were above.
    pub upper_quartile: f64,
    /// Every run, in the order in which they were made.
    pub runs: Vec<f64>,
}

impl Summary {
    /// `None` of no runs.
    pub fn of(runs: Vec<f64>) -> Option<Self> {
        let mut sorted = runs.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| quantile(&sorted, part);
        Some(Self { median: at(0.5)?, lower_quartile: at(0.25)?, upper_quartile: at(0.75)?, runs })
    }
}

/// Between two values where none is at that very part.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "few runs"
)]
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part * (sorted.len().checked_sub(1)? as f64);
    let (below, above) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        let runs = vec![5.0, 1.0, 3.0, 2.0, 4.0];
        let expected = Summary { median: 3.0, lower_quartile: 2.0, upper_quartile: 4.0, runs: runs.clone() };
        assert_eq!(Summary::of(runs), Some(expected));
        let two = vec![1.0, 2.0];
        let between = Summary { median: 1.5, lower_quartile: 1.25, upper_quartile: 1.75, runs: two.clone() };
        assert_eq!(Summary::of(two), Some(between));
        assert_eq!(Summary::of(Vec::new()), None);
    }
}
