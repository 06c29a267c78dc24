//! Stderr that nobody waits for. A pipe that is not read or a stopped terminal must not hold up the thread that reads
//! the ring, and one that is closed must not end it: what cannot be said soon is not said.

use std::io;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::chunk::MAX_LINE;

/// How long a reader may take to make room.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Writes that always succeed, as far as the caller can tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stderr;

/// Says one line on stderr. Nobody may be listening there; that must not stop anything.
pub fn say(what: &impl std::fmt::Display) {
    let _ = io::Write::write_all(&mut Stderr, format!("{what}\n").as_bytes());
}

impl io::Write for Stderr {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        // A pipe said to be writable takes so much whole (`PIPE_BUF`), so the write does not wait.
        for piece in text.chunks(MAX_LINE) {
            let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
            let ready = poll(&mut fds, Some(&PATIENCE)).is_ok_and(|ready| ready > 0);
            if !ready || rustix::io::write(stderr.as_fd(), piece).is_err() {
                break;
            }
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
