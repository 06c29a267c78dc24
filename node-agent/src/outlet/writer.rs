//! The thread that owns stdout. It alone blocks on it, and it alone knows which lines the kernel has taken.
//!
//! A regular file is written by the chunk. Anything else (pipe, terminal, socket) is given whole lines of at most
//! `PIPE_BUF` bytes: a pipe takes those whole or not at all, so no reader ever sees a torn line, whenever this process
//! dies. And the thread waits in poll(2), where it can be told to give up, and not in write(2), where it could not say
//! how much had gone out: it writes with `RWF_NOWAIT` where the file knows that (a pipe does since 6.4, /dev/null since
//! 5.16), and polls before each write where it does not.

use std::cell::Cell;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, SeekFrom, fstat, ftruncate, seek, tell};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

use super::chunk::{Chunk, MAX_LINE};
use super::queue::{Next, Shared};

/// `pwritev2`'s offset for "where the file stands": -1.
const WHERE_IT_STANDS: u64 = u64::MAX;
/// Pause when stdout was said to be writable and was not: others write to it as well.
const CONTENDED: Duration = Duration::from_millis(1);

/// Why the writer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every accepted line is written.
    Drained,
    /// Whoever read stdout has closed it: a clean end, as in `| head`.
    ReaderGone,
    /// Writing failed.
    Failed(WriteError),
    /// Stdout did not take everything in the time allowed.
    Deadline,
}

impl End {
    /// Whether the process may exit with success: all was written, or nobody wants the rest.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Drained | Self::ReaderGone)
    }
}

/// Writing to stdout failed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// write(2) refused.
    #[error("cannot write to stdout: {0}{advice}", advice = advice(*.0))]
    Refused(Errno),
    /// A defect of this program.
    #[error("the thread that writes to stdout panicked")]
    Panicked,
}

fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::NOSPC | Errno::DQUOT => {
            "; free some space where stdout is redirected to, or send it elsewhere"
        }
        Errno::FBIG => "; the file has reached the limit on file sizes (ulimit -f)",
        _ => "",
    }
}

/// The thread's body.
pub(super) fn run(shared: &Shared, out: &OwnedFd, on_end: impl FnOnce(&End)) {
    // `finish` must not wait for a thread that is no more. Nothing the writer shares is left half changed: it only
    // adds to counters.
    let writing = AssertUnwindSafe(|| Writer::new(shared, out).write_all());
    let end = catch_unwind(writing).unwrap_or(End::Failed(WriteError::Panicked));
    shared.end(end);
    if matches!(end, End::ReaderGone | End::Failed(_)) {
        on_end(&end);
    }
}

struct Writer<'a> {
    shared: &'a Shared,
    out: &'a OwnedFd,
    regular: bool,
    /// A write need not be preceded by a poll: the file says if it would have to wait.
    says_if_full: Cell<bool>,
}

/// How far one chunk came.
enum Step {
    Done,
    Stop(End),
}

impl<'a> Writer<'a> {
    fn new(shared: &'a Shared, out: &'a OwnedFd) -> Self {
        // What cannot be asked is treated with the care a pipe needs.
        let regular =
            fstat(out).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        Self { shared, out, regular, says_if_full: Cell::new(!regular) }
    }

    fn write_all(&self) -> End {
        let mut written = None;
        loop {
            match self.shared.next(written.take()) {
                Next::End(end) => return end,
                Next::Write(mut chunk) => {
                    if let Step::Stop(end) = self.write_chunk(&mut chunk) {
                        self.mend(&chunk);
                        return end;
                    }
                    written = Some(chunk);
                }
            }
        }
    }

    fn write_chunk(&self, chunk: &mut Chunk) -> Step {
        let limit = (!self.regular).then_some(MAX_LINE);
        loop {
            let bytes = chunk.unwritten(limit);
            if bytes.is_empty() {
                return Step::Done;
            }
            let Some(written) = self.write(bytes) else { return Step::Stop(End::Deadline) };
            match written {
                // Not an answer write(2) should give to a request for more than nothing; do not spin on it.
                Ok(0) => return Step::Stop(failed(Errno::IO)),
                Ok(taken) => self.count(chunk, taken),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => thread::sleep(CONTENDED),
                Err(Errno::PIPE | Errno::CONNRESET) => return Step::Stop(End::ReaderGone),
                Err(errno) => return Step::Stop(failed(errno)),
            }
            if self.regular && self.shared.gives_up() {
                return Step::Stop(End::Deadline);
            }
        }
    }

    /// What write(2) answers: at once for a regular file, for anything else when there is room. `None`: the writer shall
    /// give up.
    fn write(&self, bytes: &[u8]) -> Option<Result<usize, Errno>> {
        if self.regular {
            return Some(rustix::io::write(self.out, bytes));
        }
        if self.says_if_full.get() && !self.shared.gives_up() {
            match pwritev2(self.out, &[IoSlice::new(bytes)], WHERE_IT_STANDS, ReadWriteFlags::NOWAIT) {
                Err(Errno::AGAIN) => {}
                // If it fails for another reason than that the file or the kernel knows no such flag, the write below
                // fails as well.
                Err(_) => self.says_if_full.set(false),
                written => return Some(written),
            }
        }
        self.writable().then(|| rustix::io::write(self.out, bytes))
    }

    fn count(&self, chunk: &mut Chunk, taken: usize) {
        let lines = chunk.advance(taken);
        self.shared.written.events.add(lines.events);
        self.shared.written.control.add(lines.control);
        if let Some(witness) = self.shared.witness.get() {
            witness(lines.events, lines.events + lines.control - lines.notes);
        }
    }

    /// Waits until stdout takes a write. False: the writer shall give up.
    fn writable(&self) -> bool {
        loop {
            let mut fds =
                [PollFd::new(self.out, PollFlags::OUT), PollFd::new(&self.shared.give_up_fd, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => {}
                Ok(_) if !fds[1].revents().is_empty() => return false,
                // Writable, or broken in a way that the write will name (as it will if poll itself fails).
                Ok(_) | Err(_) => return true,
            }
        }
    }

    /// Takes the part of a line that went out back from a regular file, if nobody wrote behind it.
    fn mend(&self, chunk: &Chunk) {
        let torn = chunk.torn() as u64;
        if torn == 0 || !self.regular {
            return;
        }
        let (Ok(stat), Ok(position)) = (fstat(self.out), tell(self.out)) else {
            return;
        };
        let whole = position.saturating_sub(torn);
        if u64::try_from(stat.st_size) == Ok(position) && ftruncate(self.out, whole).is_ok() {
            // The offset is shared with whoever redirected us: their next line starts where ours ends.
            let _ = seek(self.out, SeekFrom::Start(whole));
        }
    }
}

fn failed(errno: Errno) -> End {
    End::Failed(WriteError::Refused(errno))
}
