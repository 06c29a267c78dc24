//! One emulated machine: boots a kernel, shows what it says, counts what its tests say.
//!
//! Emulation, not virtualisation: it runs where there is no KVM, and the same everywhere.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::test::libtest::{self, Counts};

/// Debian's package qemu-system-x86 has it.
pub(super) const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// A machine that takes longer hangs.
const SECONDS: u32 = 900;
/// Where other programs keep the machine busy, a kernel may take its timer for broken and give up.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 rdinit=/init no_timer_check";
/// `guest-init` says it at its end.
const DONE: &str = "guest: done";
/// `guest-init` says it before what it found in the kernel's log.
const COMPLAINT: &str = "guest: the kernel complains: ";

/// What to boot.
pub(super) struct Machine {
    /// What its lines begin with.
    pub(super) name: &'static str,
    /// As QEMU names it.
    pub(super) processor: &'static str,
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
    /// Test programs in there: each must come to its closing line.
    pub(super) programs: usize,
}

impl Machine {
    /// Runs it to its end.
    pub(super) fn run(&self) -> (Counts, Result<()>) {
        let said = self.boot();
        let counts = said.as_ref().map_or_else(|_| Counts::default(), |(said, _)| said.counts);
        (counts, said.and_then(|(said, status)| self.judge(&said, status)))
    }

    fn boot(&self) -> Result<(Said, ExitStatus)> {
        let mut child = self.command().stdout(Stdio::piped()).spawn().context("start QEMU")?;
        let console = child.stdout.take().context("the machine's console")?;
        let said = follow(console, std::io::stdout(), self.name).context("follow the machine's console")?;
        let status = child.wait().context("wait for QEMU")?;
        Ok((said, status))
    }

    fn judge(&self, said: &Said, status: ExitStatus) -> Result<()> {
        let (closed, programs) = (said.closed, self.programs);
        ensure!(status.success(), "QEMU ended with {status} (124: after {SECONDS} s)");
        ensure!(said.done, "it did not come to its end");
        ensure!(closed == programs, "{closed} of {programs} test programs came to their end");
        ensure!(said.counts.failed == 0, "{} tests failed", said.counts.failed);
        ensure!(said.complaints == 0, "its kernel complained {} times", said.complaints);
        Ok(())
    }

    fn command(&self) -> Command {
        let mut qemu = Command::new("timeout");
        qemu.args(["--kill-after=5", &SECONDS.to_string(), QEMU]);
        qemu.args([
            "-accel",
            "tcg",
            "-cpu",
            self.processor,
            "-smp",
            "1",
            "-m",
            "1G",
            "-no-reboot",
            "-nodefaults",
        ]);
        qemu.args(["-display", "none", "-vga", "none", "-serial", "stdio"]);
        qemu.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initramfs);
        qemu.args(["-append", KERNEL_ARGUMENTS]).stdin(Stdio::null());
        qemu
    }
}

/// What was said on a console.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    counts: Counts,
    /// Closing lines of test programs.
    closed: usize,
    complaints: usize,
    done: bool,
}

/// Shows it line by line: several machines may run at once.
fn follow(console: impl Read, mut shown: impl Write, name: &str) -> std::io::Result<Said> {
    let mut said = Said::default();
    for line in BufReader::new(console).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        writeln!(shown, "{name:>7} {line}")?;
        if let Some(result) = libtest::parse(line) {
            said.counts = said.counts + result;
            said.closed += 1;
        }
        said.complaints += usize::from(line.starts_with(COMPLAINT));
        said.done |= line == DONE;
    }
    shown.flush()?;
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_ends_its_lines_with_a_carriage_return() {
        let console = b"guest: portable\r\ntest result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured\r\nguest: done\r\n";
        let mut shown = Vec::new();
        let said = follow(&console[..], &mut shown, "6.1").unwrap();
        assert_eq!(
            said,
            Said {
                counts: Counts { passed: 2, failed: 1, skipped: 0 },
                closed: 1,
                complaints: 0,
                done: true
            }
        );
        assert!(shown.starts_with(b"    6.1 guest: portable\n"));
    }

    #[test]
    fn a_kernel_that_complains_is_heard() {
        let said = follow(&b"guest: the kernel complains: WARNING: CPU: 0\r\n"[..], Vec::new(), "").unwrap();
        assert_eq!(said.complaints, 1);
    }

    #[test]
    fn a_machine_that_stops_halfway_is_not_done() {
        let said = follow(&b"guest: portable\r\nKernel panic - not syncing\r\n"[..], Vec::new(), "").unwrap();
        assert_eq!(said, Said::default());
    }
}
