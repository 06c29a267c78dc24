//! `--open-sockets`: how often, and what of that is open.

use std::time::Duration;

use crate::{
    filter::duration::parse_duration,
    open::{OpenStates, Snapshots},
};

const OPTION: &str = "--open-sockets";
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_hours(1);
/// As of the resources.
const LIMIT: usize = 100;
const LIMITS: std::ops::RangeInclusive<usize> = 1..=1000;

/// Reads `30s,state=CLOSE_WAIT|LAST_ACK,min-age=60s,limit=100`.
pub(super) fn parse(text: &str) -> Result<Snapshots, String> {
    let mut parts = text.split(',').map(str::trim);
    let duration = |field: &str, text: &str| parse_duration(field, text).map_err(|error| error.to_string());
    let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let every = duration(OPTION, parts.next().unwrap_or_default())?;
    if every < SHORTEST || every > LONGEST {
        return Err(format!("{OPTION}: {text:?}: the time between two must be from 1s to 1h"));
    }
    let mut snapshots =
        Snapshots { every_ns: ns(every), states: OpenStates::ANY, min_age_ns: 0, limit: LIMIT };
    for part in parts {
        match part.split_once('=') {
            Some(("state", states)) => {
                let states = OpenStates::named(states.split('|').map(str::trim));
                snapshots.states = states.map_err(|error| format!("{OPTION}: state: {error}"))?;
            }
            Some(("min-age", age)) => {
                snapshots.min_age_ns = ns(duration("--open-sockets: min-age", age)?);
            }
            Some(("limit", limit)) => {
                let number = limit.parse().ok().filter(|number| LIMITS.contains(number));
                snapshots.limit =
                    number.ok_or_else(|| format!("{OPTION}: limit: {limit:?} must be from 1 to 1000"))?;
            }
            _ => return Err(format!("{OPTION}: {part:?} is none of state=, min-age=, limit=")),
        }
    }
    Ok(snapshots)
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::open::OpenStates;

    #[test]
    fn everything_but_the_time_may_be_left_out() {
        let all = parse("30s,state=CLOSE_WAIT|last_ack,min-age=60s,limit=7").unwrap();
        assert_eq!(all.states.to_string(), "CLOSE_WAIT, LAST_ACK");
        assert_eq!((all.every_ns, all.min_age_ns, all.limit), (30_000_000_000, 60_000_000_000, 7));
        let least = parse("1h").unwrap();
        assert_eq!((least.states, least.min_age_ns, least.limit), (OpenStates::ANY, 0, 100));
    }

    #[test]
    fn what_cannot_be_met_is_refused_with_what_can() {
        for (text, told) in [
            ("", "is empty"),
            ("30", "is not a duration"),
            ("999ms", "must be from 1s to 1h"),
            ("61m", "must be from 1s to 1h"),
            ("30s,state=CLOSED", "\"CLOSED\" is not a state of an open socket; there are ESTABLISHED"),
            ("30s,state=", "\"\" is not a state"),
            ("30s,min-age=1", "min-age: \"1\": is not a duration"),
            ("30s,limit=0", "\"0\" must be from 1 to 1000"),
            ("30s,limit=1001", "must be from 1 to 1000"),
            ("30s,states=LISTEN", "\"states=LISTEN\" is none of state=, min-age=, limit="),
        ] {
            let refused = parse(text).unwrap_err();
            assert!(refused.starts_with("--open-sockets") && refused.contains(told), "{text}: {refused}");
        }
    }
}
