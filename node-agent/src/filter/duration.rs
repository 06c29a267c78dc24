//! The thresholds of the minimum time in a state, and durations as options and fields give them.

use std::time::Duration;

use kube_tcpstates_common::rule::{MAX_TRACES, TraceSet};
use kube_tcpstates_crds::duration;

use super::error::{FilterError, Reason};

/// Reads the duration that stands in an option or a field.
pub fn parse_duration(field: &str, text: &str) -> Result<Duration, FilterError> {
    duration::parse(text.trim()).map_err(|reason| Reason::from(reason).of(field, text))
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
    use super::parse_duration;

    #[test]
    fn a_bad_duration_is_refused_with_its_field_and_value() {
        for (text, told) in [
            ("", "--min: \"\": is empty"),
            (
                "1d",
                "--min: \"1d\": is not a duration such as 100ms, 1.5s or 1m30s (units h, m, s, ms, us, ns)",
            ),
            (
                "0.5ns",
                "--min: \"0.5ns\": is too long or too fine: durations are whole nanoseconds, at most 584 years",
            ),
        ] {
            assert_eq!(parse_duration("--min", text).unwrap_err().to_string(), told);
        }
    }
}
