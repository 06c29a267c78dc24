//! What the kernel says of programs: how often each ran, and for how long.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result};

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The kernel takes every program's time while this lives. That costs each run of a program some 40 ns, so it is on
/// only for the figures that need it.
#[derive(Debug)]
pub struct RunTimes {
    before: String,
}

impl RunTimes {
    /// Switches it on.
    pub fn taken() -> Result<Self> {
        let before = fs::read_to_string(SWITCH).with_context(|| format!("read {SWITCH}"))?;
        fs::write(SWITCH, "1").with_context(|| format!("write {SWITCH}: it must run as root"))?;
        Ok(Self { before })
    }
}

impl Drop for RunTimes {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, &self.before) {
            eprintln!("bench: cannot set {SWITCH} back to {}: {error}", self.before.trim());
        }
    }
}

/// What several programs have done since they were loaded, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Runs while times were taken.
    pub runs: u64,
    /// Their time, ns.
    pub ns: u64,
}

impl Ran {
    /// Of those programs among `ids` that are still loaded.
    pub fn of(ids: &BTreeSet<u32>) -> Self {
        let mut all = Self::default();
        for program in
            aya::programs::loaded_programs().flatten().filter(|program| ids.contains(&program.id()))
        {
            let Ok(fd) = program.fd() else { continue };
            let place = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
            let text = fs::read_to_string(place).unwrap_or_default();
            all.runs += number(&text, "run_cnt");
            all.ns += number(&text, "run_time_ns");
        }
        all
    }

    /// What they did since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { runs: self.runs - earlier.runs, ns: self.ns - earlier.ns }
    }
}

/// The number behind `name:`; 0 where there is none.
pub(crate) fn number(text: &str, name: &str) -> u64 {
    let values = text.lines().filter_map(|line| line.split_once(':'));
    values
        .filter(|(key, _)| *key == name)
        .find_map(|(_, value)| value.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_read_from_what_the_kernel_says_of_a_descriptor() {
        let text = "prog_type:\t26\nrun_time_ns:\t328964557\nrun_cnt:\t600002\nPrivate_Dirty:     64 kB\n";
        assert_eq!(number(text, "run_cnt"), 600_002);
        assert_eq!(number(text, "Private_Dirty"), 64);
        assert_eq!(number(text, "memlock"), 0);
    }
}
