//! Runs `cargo test` and counts what its test programs say at their end.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::ops::Add;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::step;

/// How many tests passed, failed and were ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Ran and held.
    pub passed: u64,
    /// Ran and did not hold.
    pub failed: u64,
    /// Marked `#[ignore]`.
    pub skipped: u64,
}

impl Counts {
    /// How many tests ran at all.
    pub(crate) fn ran(self) -> u64 {
        self.passed + self.failed
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

/// The line that continuous integration reads.
impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(formatter, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// Runs a `cargo test`, passes on what it prints as it comes, and adds what it ran to `counts`.
pub(crate) fn run(cargo: &mut Command, counts: &mut Counts) -> Result<()> {
    let name = step::shown(cargo);
    let mut child = cargo.stdout(Stdio::piped()).spawn().with_context(|| format!("start `{name}`"))?;
    let output = child.stdout.take().context("the output of cargo test")?;
    tally(output, std::io::stdout().lock(), counts).context("pass on the output of cargo test")?;
    let status = child.wait().with_context(|| format!("wait for `{name}`"))?;
    ensure!(status.success(), "`{name}` ended with {status}");
    Ok(())
}

fn tally(output: impl Read, mut shown: impl Write, counts: &mut Counts) -> std::io::Result<()> {
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        shown.write_all(&line)?;
        shown.write_all(b"\n")?;
        if let Some(result) = std::str::from_utf8(&line).ok().and_then(parse) {
            *counts = *counts + result;
        }
    }
    shown.flush()
}

/// The closing line of one test program:
/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`.
pub(crate) fn parse(line: &str) -> Option<Counts> {
    let (_verdict, counted) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
    let count =
        |what: &str| counted.split("; ").find_map(|part| part.strip_suffix(what)?.trim_end().parse().ok());
    Some(Counts { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_counted() {
        let ok =
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s";
        assert_eq!(parse(ok), Some(Counts { passed: 12, failed: 0, skipped: 1 }));
        let bad =
            "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s";
        assert_eq!(parse(bad), Some(Counts { passed: 5, failed: 2, skipped: 0 }));
    }

    #[test]
    fn other_lines_are_not() {
        for line in
            ["", "running 12 tests", "test a_test ... ok", "12 passed; 0 failed", "test result: nonsense"]
        {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn the_sum_has_the_form_that_is_read() {
        let sum = Counts { passed: 12, failed: 0, skipped: 0 } + Counts { passed: 5, failed: 2, skipped: 0 };
        assert_eq!(sum.to_string(), "17 passed, 2 failed");
        assert_eq!(Counts { passed: 1, failed: 0, skipped: 4 }.to_string(), "1 passed, 0 failed, 4 skipped");
    }

    #[test]
    fn output_is_passed_on_as_it_is_and_counted() {
        let output = b"\xff not UTF-8\ntest result: ok. 1 passed; 0 failed; 0 ignored\n\
                       test result: FAILED. 1 passed; 1 failed; 0 ignored\n";
        let (mut shown, mut counts) = (Vec::new(), Counts::default());
        tally(&output[..], &mut shown, &mut counts).unwrap();
        assert_eq!(shown, output);
        assert_eq!(counts, Counts { passed: 2, failed: 1, skipped: 0 });
    }

    #[test]
    fn a_run_that_fails_is_noticed() {
        let error = run(Command::new("sh").args(["-c", "exit 101"]), &mut Counts::default()).unwrap_err();
        assert!(error.to_string().contains("101"));
    }
}
