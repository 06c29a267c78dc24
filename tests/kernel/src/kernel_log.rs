//! What the kernel complains of while a test runs: a warning that nobody reads is a crash on somebody's node.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

use rustix::fs::{Mode, OFlags, open};

/// A record each read, in the form of `Documentation/ABI/testing/dev-kmsg`.
const LOG: &str = "/dev/kmsg";
/// The longest record (`PRINTK_MESSAGE_MAX`).
const RECORD: usize = 2048;
/// How the kernel's complaints of itself begin, or what they contain.
const COMPLAINTS: [&str; 6] =
    ["WARNING: ", "BUG: ", "kernel BUG at", "Oops: ", "general protection fault", "detected stall"];

/// The kernel's log from a moment on.
#[derive(Debug)]
pub struct KernelLog(File);

impl KernelLog {
    /// From now on. Fails the test where the log is not to be read: then nobody would know.
    #[track_caller]
    pub fn from_now() -> Self {
        let log = Self::open().unwrap_or_else(|error| panic!("this test cannot run here: {LOG}: {error}"));
        Self(log)
    }

    fn open() -> io::Result<File> {
        let mut log =
            File::from(open(LOG, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?);
        log.seek(SeekFrom::End(0))?;
        Ok(log)
    }

    /// What it has complained of since it was last asked.
    #[track_caller]
    pub fn complaints(&mut self) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut record = [0; RECORD];
        loop {
            match self.0.read(&mut record) {
                Ok(0) => return complaints,
                Ok(length) => complaints.extend(complaint(&String::from_utf8_lossy(&record[..length]))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return complaints,
                // Overwritten before it was read: the next read goes on behind it.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) => panic!("read {LOG}: {error}"),
            }
        }
    }

    /// Fails if there is any.
    #[track_caller]
    pub fn assert_quiet(&mut self) {
        let complaints = self.complaints();
        assert!(complaints.is_empty(), "the kernel complains:\n{}", complaints.join("\n"));
    }
}

/// The text of a record, if it is one. What programs write there is none: it has another facility than 0.
fn complaint(record: &str) -> Option<String> {
    let (prefix, text) = record.split_once(';')?;
    let priority: u32 = prefix.split(',').next()?.parse().ok()?;
    let text = text.lines().next()?;
    (priority < 8 && COMPLAINTS.iter().any(|start| text.contains(start))).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_a_bug_and_a_stall_are_complaints() {
        for text in [
            "WARNING: CPU: 0 PID: 71 at kernel/bpf/verifier.c:9898 check_map_prog_compatibility+0x1e2/0x220",
            "BUG: unable to handle page fault for address: ffffffffdeadbeef",
            "kernel BUG at mm/slub.c:305!",
            "rcu: INFO: rcu_preempt self-detected stall on CPU",
            "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [swapper/0:1]",
        ] {
            let record = format!("4,339,5140900,-;{text}\n SUBSYSTEM=none\n");
            assert_eq!(complaint(&record).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_else_is_said_is_none() {
        for record in [
            "6,339,5140900,-;eth0: renamed from p1\n",
            "4,340,5140901,-;------------[ cut here ]------------\n",
            // A program's, of facility 1.
            "12,341,5140902,-;WARNING: CPU: says a program\n",
            "nonsense",
        ] {
            assert_eq!(complaint(record), None, "{record}");
        }
    }

    #[test]
    fn the_log_is_readable_and_begins_now() {
        assert_eq!(KernelLog::from_now().complaints(), Vec::<String>::new());
    }
}
