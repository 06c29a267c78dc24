//! Buffers and heartbeats, which `trace` and `agent` have in common: the options, checked.

use std::time::Duration;

use super::args::TuningArguments;
use crate::{filter::duration, outlet::MIN_BOUND};

/// Smallest and largest ring, bytes.
const RING: std::ops::RangeInclusive<u64> = 4_096..=1 << 30;

/// Sizes and pauses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tuning {
    pub(super) ring_bytes: u32,
    pub(super) queue_bytes: usize,
    pub(super) heartbeat: Option<Duration>,
}

impl Tuning {
    /// Checks the arguments.
    pub(super) fn check(raw: &TuningArguments) -> Result<Self, String> {
        Ok(Self {
            ring_bytes: ring_bytes(&raw.ring_size)?,
            queue_bytes: queue_bytes(&raw.queue_size)?,
            heartbeat: heartbeat(&raw.heartbeat)?,
        })
    }
}

/// Time between heartbeats, if there are to be any.
fn heartbeat(text: &str) -> Result<Option<Duration>, String> {
    if text == "0" {
        return Ok(None);
    }
    let pause = duration::parse_duration("--heartbeat", text).map_err(|error| error.to_string())?;
    Ok(Some(pause).filter(|pause| !pause.is_zero()))
}

/// A size like `65536`, `64KiB`, `8MiB` or `1GiB`, in bytes.
pub(super) fn size(flag: &str, text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        unit => return Err(format!("{flag} {text:?}: no unit {unit:?}: use KiB, MiB or GiB")),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| format!("{flag} {text:?}: not a size, such as 64KiB or 8MiB"))
}

fn ring_bytes(text: &str) -> Result<u32, String> {
    let bytes = size("--ring-size", text)?;
    u32::try_from(bytes)
        .ok()
        .filter(|_| RING.contains(&bytes) && bytes.is_power_of_two())
        .ok_or_else(|| format!("--ring-size {text:?}: the kernel takes powers of two from 4KiB to 1GiB"))
}

fn queue_bytes(text: &str) -> Result<usize, String> {
    let bytes = size("--queue-size", text)?;
    usize::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes >= MIN_BOUND)
        .ok_or_else(|| format!("--queue-size {text:?}: give at least {}KiB", MIN_BOUND >> 10))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::size;
    use crate::command::args::Arguments;

    /// What the help of a command says of an option.
    fn help(command: &str, option: &str) -> String {
        let all = Arguments::command();
        let command = all.find_subcommand(command).unwrap();
        let argument = command.get_arguments().find(|argument| argument.get_long() == Some(option)).unwrap();
        format!(
            "{:?}: {:?} [{:?}]",
            argument.get_help_heading(),
            argument.get_help(),
            argument.get_default_values()
        )
    }

    #[test]
    #[cfg(feature = "cluster")]
    fn trace_and_agent_say_the_same_of_the_options_that_both_have() {
        for option in ["hook", "ring-size", "queue-size", "heartbeat"] {
            assert_eq!(help("trace", option), help("agent", option));
        }
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(size("x", "64KiB"), Ok(65_536));
        assert_eq!(size("x", "4096"), Ok(4_096));
        assert!(size("x", "99999999999GiB").is_err());
    }
}
