//! libbpf-tools' `tcpstates`: another implementation to agree with.

use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};

use crate::tracer::TRACEFS_WRAPPER;
use crate::tuple::{End, Tuple};

/// Where Debian's package libbpf-tools puts it. The same name in `PATH` may be another tool.
pub const PROGRAM: &str = "/usr/sbin/tcpstates";
/// Its tool that prints a line for each connection.
pub const TCPLIFE: &str = "/usr/sbin/tcplife";

/// A running `tcpstates -w`; killed on drop.
#[derive(Debug)]
pub struct Peer {
    child: std::process::Child,
    output: tempfile::TempPath,
}

impl Peer {
    /// Starts it and waits for its header, which it prints after attaching.
    #[track_caller]
    pub fn start() -> Self {
        assert!(fs::exists(PROGRAM).unwrap_or(false), "{PROGRAM} is missing: install libbpf-tools");
        let output = tempfile::NamedTempFile::new().expect("make a temporary file");
        let child = Command::new(TRACEFS_WRAPPER[0])
            .args(&TRACEFS_WRAPPER[1..])
            .args(["stdbuf", "-oL", PROGRAM, "--wide"])
            .stdout(output.as_file().try_clone().expect("share a file"))
            .spawn()
            .expect("start unshare");
        let mut peer = Self { child, output: output.into_temp_path() };
        for _ in 0..1000 {
            if peer.text().contains("NEWSTATE") {
                return peer;
            }
            let ended = peer.child.try_wait().expect("wait for tcpstates");
            assert!(ended.is_none(), "{PROGRAM} ended at once: {ended:?}");
            thread::sleep(Duration::from_millis(10));
        }
        panic!("{PROGRAM} printed no header within 10 s");
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.output).expect("read what tcpstates wrote")
    }

    /// Ends it and returns every transition that it printed.
    #[track_caller]
    pub fn stop(mut self) -> Vec<Tuple> {
        // It polls its buffers every 100 ms.
        thread::sleep(Duration::from_millis(300));
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::INT).expect("send SIGINT to tcpstates");
        self.child.wait().expect("wait for tcpstates");
        let text = self.text();
        assert!(!text.contains("lost "), "tcpstates lost events:\n{text}");
        text.lines().filter_map(parse).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Both fail only when it has ended and been waited for already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Reads a row from the right, because a thread's name can hold blanks: `... LADDR LPORT RADDR RPORT OLD -> NEW
/// MS`. Nothing for the header.
fn parse(line: &str) -> Option<Tuple> {
    let mut words = line.split_whitespace().rev();
    let _duration = words.next().filter(|word| word.parse::<f64>().is_ok())?;
    let new = words.next()?.to_owned();
    words.next().filter(|arrow| *arrow == "->")?;
    let old = words.next()?.to_owned();
    let mut end = || {
        let port = words.next()?.parse().ok()?;
        Some(End::new(words.next()?.parse().ok()?, port))
    };
    let peer = end()?;
    let local = end()?;
    Some(Tuple { local, peer, old, new })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_past_a_name_with_blanks() {
        let row = "ffff888106871bc0 17129   Web Content      4  127.0.0.1                  0     127.77.1.1     \
                   20077 CLOSE       -> SYN_SENT    0.378";
        let tuple = parse(row).expect("a row");
        assert_eq!((tuple.local.port, tuple.peer.port), (0, 20077));
        assert_eq!((tuple.old.as_str(), tuple.new.as_str()), ("CLOSE", "SYN_SENT"));
    }
}
