//! The durations of a connection's lines add up to its age: every scene whose lines are JSON is held to it.
//!
//! Excepted is what cannot be added: a connection older than the tracer (`partial`), one of which a filter, a limit or a
//! loss has taken lines, and one with a line that no program got (`gap`, `inferred`), whose time nobody knows.

use std::collections::HashMap;

use crate::line::{Event, Line};

const DAY_NS: i64 = 86_400_000_000_000;
const TOLERANCE_US: u64 = 1_000;

/// Lines of one connection, as far as they have come.
#[derive(Debug)]
struct Life {
    born_ns: i64,
    state: String,
    sum_us: u64,
    steps: u64,
}

/// Checks all connections that a run shows from their birth on, at every line. Returns how many lines it held against
/// an age.
#[track_caller]
pub fn assert_durations_add_up(lines: &[Line]) -> u64 {
    let events = lines.iter().filter_map(|line| serde_json::from_slice(&line.text).ok().map(Event));
    let mut by_id: HashMap<String, Life> = HashMap::new();
    let mut checked = 0;
    for event in events.filter(|event| event.text("tcpstates.type") == Some("transition")) {
        let (Some(at), Some(id)) = (event.text("time"), event.text("tcpstates.connection.id")) else {
            continue;
        };
        let at_ns = of_day_ns(at).unwrap_or_else(|| panic!("no time: {at}"));
        let (old, new) = (event.must("tcpstates.old_state"), event.must("tcpstates.new_state"));
        if is_birth(old, new) {
            let life = Life { born_ns: at_ns, state: new.to_owned(), sum_us: 0, steps: 0 };
            by_id.insert(id.to_owned(), life);
            continue;
        }
        let marked = ["gap", "inferred", "connection.partial"];
        let is_marked = marked.iter().any(|mark| event.get(&format!("tcpstates.{mark}")).is_some());
        let Some(mut life) = by_id.remove(id).filter(|life| !is_marked && life.state == old) else {
            continue;
        };
        let duration = event.number("tcpstates.state_duration_us");
        life.sum_us += duration.unwrap_or_else(|| panic!("a line without its duration: {}", event.0));
        life.steps += 1;
        let age_us = u64::try_from((at_ns - life.born_ns).rem_euclid(DAY_NS) / 1_000).expect("not negative");
        // Each duration is rounded down.
        assert!(
            age_us.abs_diff(life.sum_us) <= TOLERANCE_US + life.steps,
            "a connection is {age_us} us old, its durations add up to {} us: {}",
            life.sum_us,
            event.0
        );
        checked += 1;
        if new != "CLOSE" {
            new.clone_into(&mut life.state);
            by_id.insert(id.to_owned(), life);
        }
    }
    checked
}

fn is_birth(old: &str, new: &str) -> bool {
    matches!((old, new), ("CLOSE", "SYN_SENT" | "LISTEN") | ("LISTEN", "SYN_RECV"))
}

/// `2026-11-22T15:25:01.123456789Z`, since midnight.
fn of_day_ns(time: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| time.get(range)?.parse::<i64>().ok();
    let seconds = (number(11..13)? * 60 + number(14..16)?) * 60 + number(17..19)?;
    Some(seconds * 1_000_000_000 + number(20..29)?)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    /// Seconds and milliseconds, states, duration in milliseconds, what else the object has.
    fn line(at: &str, states: (&str, &str), duration_ms: Option<u64>, more: &str) -> Line {
        let duration =
            duration_ms.map_or_else(String::new, |ms| format!(r#""state_duration_us":{},"#, ms * 1_000));
        let text = format!(
            r#"{{"time":"2026-11-22T{at}000000Z","tcpstates":{{"type":"transition",{duration}{more}
               "old_state":"{}","new_state":"{}","connection":{{"id":"1"}}}}}}"#,
            states.0, states.1
        );
        Line { text: text.into_bytes(), arrived: SystemTime::UNIX_EPOCH }
    }

    const BIRTH: (&str, &str) = ("CLOSE", "SYN_SENT");
    const ANSWER: (&str, &str) = ("SYN_SENT", "ESTABLISHED");
    const RESET: (&str, &str) = ("ESTABLISHED", "CLOSE");

    #[test]
    fn what_adds_up_is_checked_line_by_line_over_midnight() {
        let lines = [
            line("23:59:59.900", BIRTH, None, ""),
            line("23:59:59.950", ANSWER, Some(50), ""),
            line("00:00:00.100", RESET, Some(150), ""),
        ];
        assert_eq!(assert_durations_add_up(&lines), 2);
    }

    #[test]
    #[should_panic(expected = "200000 us old, its durations add up to 60000 us")]
    fn a_duration_that_begins_too_late_is_found() {
        assert_durations_add_up(&[
            line("00:00:00.000", BIRTH, None, ""),
            line("00:00:00.050", ANSWER, Some(50), ""),
            line("00:00:00.200", RESET, Some(10), ""),
        ]);
    }

    #[test]
    #[should_panic(expected = "without its duration")]
    fn so_is_one_that_is_missing() {
        assert_durations_add_up(&[
            line("00:00:00.000", BIRTH, None, ""),
            line("00:00:00.050", ANSWER, None, ""),
        ]);
    }

    #[test]
    fn nothing_is_said_of_what_has_gaps_or_no_beginning() {
        let lines = [
            line("00:00:00.000", ANSWER, Some(50), ""),
            line("00:00:01.000", RESET, Some(1), ""),
            line("00:00:02.000", BIRTH, None, ""),
            line("00:00:03.000", RESET, Some(1), r#""gap":true,"#),
            line("00:00:04.000", BIRTH, None, ""),
            // A filter took what is between.
            line("00:00:05.000", RESET, Some(1), ""),
        ];
        assert_eq!(assert_durations_add_up(&lines), 0);
    }
}
