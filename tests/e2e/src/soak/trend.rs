//! Whether a figure grows: medians of each minute, and the slope that is in the middle of all slopes between two of them
//! (Theil and Sen). A minute that stands out, such as one in which nobody read stdout, does not move it.

use std::time::Duration;

/// What was measured when, since the beginning.
pub(super) type Point = (Duration, f64);

/// The value in the middle; none of nothing.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        return sorted.get(middle).copied();
    }
    Some(f64::midpoint(*sorted.get(middle.checked_sub(1)?)?, *sorted.get(middle)?))
}

/// The median of each minute that has any point, at that minute's middle.
pub(super) fn by_minute(points: &[Point]) -> Vec<Point> {
    let minute = |point: &Point| point.0.as_secs() / 60;
    let mut minutes: Vec<u64> = points.iter().map(minute).collect();
    minutes.sort_unstable();
    minutes.dedup();
    let of = |number: u64| {
        let values: Vec<f64> =
            points.iter().filter(|point| minute(point) == number).map(|point| point.1).collect();
        Some((Duration::from_secs(number * 60 + 30), median(&values)?))
    };
    minutes.into_iter().filter_map(of).collect()
}

/// The part of the points that lies behind the first quarter of their time.
pub(super) fn behind_first_quarter(points: &[Point]) -> &[Point] {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return &[] };
    let from = first.0 + (last.0.saturating_sub(first.0)) / 4;
    let start = points.iter().position(|point| point.0 >= from).unwrap_or(0);
    &points[start..]
}

/// From the first point to the last.
pub(super) fn span(points: &[Point]) -> Duration {
    match (points.first(), points.last()) {
        (Some(first), Some(last)) => last.0.saturating_sub(first.0),
        _ => Duration::ZERO,
    }
}

/// How much the value grows in an hour; none of less than two points.
pub(super) fn per_hour(points: &[Point]) -> Option<f64> {
    let mut slopes = Vec::new();
    for (number, (earlier, before)) in points.iter().enumerate() {
        for (later, after) in &points[number + 1..] {
            let hours = later.saturating_sub(*earlier).as_secs_f64() / 3600.0;
            if hours > 0.0 {
                slopes.push((after - before) / hours);
            }
        }
    }
    median(&slopes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: impl IntoIterator<Item = (u64, f64)>) -> Vec<Point> {
        values.into_iter().map(|(seconds, value)| (Duration::from_secs(seconds), value)).collect()
    }

    fn is(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert!(is(median(&[3.0, 1.0, 2.0]).unwrap(), 2.0));
        assert!(is(median(&[4.0, 1.0, 2.0, 3.0]).unwrap(), 2.5));
    }

    #[test]
    fn a_minute_has_one_point() {
        let minutes = by_minute(&points([(0, 1.0), (59, 3.0), (180, 7.0)]));
        assert_eq!(minutes, points([(30, 2.0), (210, 7.0)]));
    }

    #[test]
    fn a_line_has_its_slope_and_what_stands_out_does_not_change_it() {
        let mut line: Vec<Point> = points((0..60).map(|minute| (minute * 60, 40.0)));
        assert!(is(per_hour(&line).unwrap(), 0.0));
        line[30].1 = 90.0;
        assert!(is(per_hour(&line).unwrap(), 0.0));
        let growing: Vec<Point> =
            points((0..60_u32).map(|minute| (u64::from(minute) * 60, f64::from(minute) * 0.1)));
        assert!(is(per_hour(&growing).unwrap(), 6.0));
        assert_eq!(per_hour(&line[..1]), None);
    }

    #[test]
    fn the_first_quarter_is_left_out() {
        let all = points([(0, 1.0), (60, 1.0), (120, 1.0), (180, 1.0), (240, 1.0)]);
        assert_eq!(behind_first_quarter(&all), &all[1..]);
        assert_eq!(span(&all), Duration::from_mins(4));
        assert!(behind_first_quarter(&[]).is_empty());
    }
}
