//! Durations as people and Kubernetes write them, Go's form: numbers with units, one behind the other, `1m30s`. A number
//! without a unit is refused: nobody knows what it means. Who takes less than all of it says so (`text`).

use std::fmt::Write as _;
use std::time::Duration;

/// Unit and its nanoseconds, largest first.
const UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// There is nothing.
    #[error("is empty")]
    Empty,
    /// It has another form.
    #[error("is not a duration such as 100ms, 1.5s or 1m30s (units h, m, s, ms, us, ns)")]
    Form,
    /// More than 2^64 ns, or finer than 1 ns.
    #[error("is too long or too fine: durations are whole nanoseconds, at most 584 years")]
    Range,
}

/// Reads a duration, exactly: `1m30s`, `1.5s`.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    let mut total = 0_u64;
    for group in groups(text) {
        let (number, unit) = group.ok_or(DurationError::Form)?;
        let unit = if unit == "µs" { "us" } else { unit };
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(DurationError::Form)?;
        total = total.checked_add(scaled(number, *scale)?).ok_or(DurationError::Range)?;
    }
    Ok(Duration::from_nanos(total))
}

/// Writes a duration so that [`parse`] reads the same back.
pub fn format(duration: Duration) -> String {
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

/// Number and unit, one pair behind the other; `None`, at the end, for a number without a unit.
pub(crate) fn groups(text: &str) -> impl Iterator<Item = Option<(&str, &str)>> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(digits) = rest.find(|c| !is_number(c)) else {
            rest = "";
            return Some(None);
        };
        let (number, tail) = rest.split_at(digits);
        let (unit, tail) = tail.split_at(tail.find(is_number).unwrap_or(tail.len()));
        rest = tail;
        Some(Some((number, unit)))
    })
}

/// A decimal number times a whole scale, exactly.
fn scaled(number: &str, scale: u64) -> Result<u64, DurationError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(DurationError::Form);
    }
    let mut value = integer(whole)?.checked_mul(scale).ok_or(DurationError::Range)?;
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        let power = 10_u64.checked_pow(u32::try_from(fraction.len()).unwrap_or(u32::MAX));
        let power = power.ok_or(DurationError::Range)?;
        let part = u128::from(integer(fraction)?) * u128::from(scale);
        if part % u128::from(power) != 0 {
            return Err(DurationError::Range);
        }
        let part = u64::try_from(part / u128::from(power)).map_err(|_| DurationError::Range)?;
        value = value.checked_add(part).ok_or(DurationError::Range)?;
    }
    Ok(value)
}

fn integer(digits: &str) -> Result<u64, DurationError> {
    digits.parse().map_err(|_| DurationError::Range)
}

#[cfg(test)]
mod tests {
    use super::{DurationError, format, parse};
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
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", DurationError::Empty),
            ("100", DurationError::Form),
            ("0", DurationError::Form),
            ("ms", DurationError::Form),
            ("-1s", DurationError::Form),
            ("1 s", DurationError::Form),
            ("1d", DurationError::Form),
            (".5s", DurationError::Form),
            ("1.s", DurationError::Form),
            ("1.2.3s", DurationError::Form),
            ("1s5", DurationError::Form),
            ("0.5ns", DurationError::Range),
            ("18446744073709551616ns", DurationError::Range),
            ("9999999h", DurationError::Range),
            ("1.00000000000000000000000001s", DurationError::Range),
        ] {
            assert_eq!(parse(text), Err(reason), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nanoseconds in any::<u64>()) {
            let duration = Duration::from_nanos(nanoseconds);
            assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9.a-zµ -]{0,12}") {
            let _ = parse(&text);
        }
    }
}
