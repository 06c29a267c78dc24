//! Durations as people and Kubernetes write them, and the thresholds of the minimum time in a state.

use std::fmt::Write as _;
use std::time::Duration;

use kube_tcpstates_common::rule::{MAX_TRACES, TraceSet};

use super::error::{FilterError, Reason};

/// Unit and its nanoseconds, largest first.
const UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads a duration in the form Kubernetes uses (Go's): numbers with units, one behind the other, `1m30s`, `1.5s`.
/// A number without a unit is refused: nobody knows what it means.
pub fn parse_duration(field: &str, text: &str) -> Result<Duration, FilterError> {
    nanoseconds(text.trim()).map(Duration::from_nanos).map_err(|reason| reason.of(field, text))
}

fn nanoseconds(text: &str) -> Result<u64, Reason> {
    if text.is_empty() {
        return Err(Reason::Empty);
    }
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(Reason::Duration)?;
        let (number, tail) = rest.split_at(digits);
        let (unit, tail) =
            tail.split_at(tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len()));
        let unit = if unit == "µs" { "us" } else { unit };
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(Reason::Duration)?;
        total = total.checked_add(scaled(number, *scale)?).ok_or(Reason::DurationRange)?;
        rest = tail;
    }
    Ok(total)
}

/// A decimal number times a whole scale, exactly.
fn scaled(number: &str, scale: u64) -> Result<u64, Reason> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(Reason::Duration);
    }
    let mut value = parse(whole)?.checked_mul(scale).ok_or(Reason::DurationRange)?;
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        let power = 10_u64.checked_pow(u32::try_from(fraction.len()).unwrap_or(u32::MAX));
        let power = power.ok_or(Reason::DurationRange)?;
        let part = u128::from(parse(fraction)?) * u128::from(scale);
        if part % u128::from(power) != 0 {
            return Err(Reason::DurationRange);
        }
        let part = u64::try_from(part / u128::from(power)).map_err(|_| Reason::DurationRange)?;
        value = value.checked_add(part).ok_or(Reason::DurationRange)?;
    }
    Ok(value)
}

fn parse(digits: &str) -> Result<u64, Reason> {
    digits.parse().map_err(|_| Reason::DurationRange)
}

/// Writes a duration so that [`parse_duration`] reads the same back.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    let mut text = String::new();
    for (unit, scale) in UNITS {
        let count = rest / u128::from(scale);
        rest %= u128::from(scale);
        if count != 0 {
            let _ = write!(text, "{count}{unit}");
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Thresholds ascending and padded, and for each number of thresholds reached the traces that accept.
pub(super) fn thresholds(
    minimums: &[(usize, Duration)],
    threshold: &mut [u64; MAX_TRACES],
    sets: &mut [TraceSet; MAX_TRACES + 1],
) {
    // A minimum beyond the type is never reached, as the padding is not.
    let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let mut sorted: Vec<_> = minimums.iter().map(|&(bit, minimum)| (nanoseconds(minimum), bit)).collect();
    sorted.sort_unstable();
    threshold.fill(u64::MAX);
    sets.fill(0);
    let mut reached = 0;
    for (index, &(minimum, bit)) in sorted.iter().enumerate().take(MAX_TRACES) {
        reached |= 1 << bit;
        threshold[index] = minimum;
        sets[index + 1] = reached;
    }
}

#[cfg(test)]
mod tests {
    use super::{Reason, format_duration, parse_duration};
    use std::time::Duration;

    use proptest::prelude::{any, proptest};

    #[test]
    fn durations_are_read_exactly() {
        for (text, nanoseconds) in [
            ("100ms", 100_000_000),
            ("1.5s", 1_500_000_000),
            ("1m30s", 90_000_000_000),
            ("2h", 7_200_000_000_000),
            ("10us", 10_000),
            ("10µs", 10_000),
            ("7ns", 7),
            ("0s", 0),
            ("0.1h", 360_000_000_000),
            ("1.50s", 1_500_000_000),
            ("18446744073709551615ns", u64::MAX),
        ] {
            assert_eq!(parse_duration("f", text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn a_bad_duration_is_refused_with_its_field_and_value() {
        for (text, reason) in [
            ("", Reason::Empty),
            ("100", Reason::Duration),
            ("0", Reason::Duration),
            ("ms", Reason::Duration),
            ("-1s", Reason::Duration),
            ("1 s", Reason::Duration),
            ("1d", Reason::Duration),
            (".5s", Reason::Duration),
            ("1.s", Reason::Duration),
            ("1.2.3s", Reason::Duration),
            ("1s5", Reason::Duration),
            ("0.5ns", Reason::DurationRange),
            ("18446744073709551616ns", Reason::DurationRange),
            ("9999999h", Reason::DurationRange),
            ("1.00000000000000000000000001s", Reason::DurationRange),
        ] {
            assert_eq!(parse_duration("--min", text), Err(reason.of("--min", text)), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nanoseconds in any::<u64>()) {
            let duration = Duration::from_nanos(nanoseconds);
            assert_eq!(parse_duration("f", &format_duration(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9.a-zµ -]{0,12}") {
            let _ = parse_duration("f", &text);
        }
    }
}
