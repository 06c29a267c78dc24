//! How connections ended.

use crate::figures::sum;

/// One number for each outcome, and for what a later version may call otherwise.
pub(crate) type ByOutcome = [u64; OUTCOMES.len()];

/// Names as they stand on lines, worst last; the first is the one that is no failure.
pub(crate) const OUTCOMES: [&str; 11] = [
    "closed",
    "refused",
    "rejected",
    "unanswered",
    "no_local_port",
    "reset_by_peer",
    "reset_by_us",
    "timed_out",
    "never_accepted",
    "cancelled",
    "unknown",
];

/// Its place in [`OUTCOMES`]. What a later version of the lines names is `unknown` here.
pub(crate) fn place_of(outcome: &str) -> usize {
    OUTCOMES.iter().position(|name| *name == outcome).unwrap_or(OUTCOMES.len() - 1)
}

/// How the connection that a transition ends has ended, as far as a transition tells it: by the state it was in and the
/// error it closed with.
pub(crate) fn of_transition(old_state: &str, error: Option<&str>) -> &'static str {
    match (old_state, error) {
        ("SYN_SENT", Some("ECONNREFUSED")) => "refused",
        ("SYN_SENT", Some("ETIMEDOUT")) => "unanswered",
        ("SYN_SENT", Some("EADDRNOTAVAIL")) => "no_local_port",
        ("SYN_SENT", Some("EHOSTUNREACH" | "ENETUNREACH" | "EACCES" | "ECONNABORTED")) => "rejected",
        ("SYN_SENT", _) => "cancelled",
        (_, Some("ECONNRESET" | "EPIPE")) => "reset_by_peer",
        (_, Some("ETIMEDOUT")) => "timed_out",
        (_, None) => "closed",
        (_, Some(_)) => "unknown",
    }
}

/// All but the orderly ends.
pub(crate) fn failed(by_outcome: &ByOutcome) -> u64 {
    sum(by_outcome[1..].iter().copied())
}
