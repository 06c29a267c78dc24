//! The pipeline's end of the output: takes lines, never waits, never passes its byte bound.
//!
//! Memory is a fixed number of chunks of one size, so the bound holds for what is allocated and not merely for
//! what is in use. The chunk being filled belongs to the pipeline thread alone: an accepted line takes no lock, a
//! refused one neither. [`Queue::flush`] gives a partly filled chunk to the writer; if the writer has not taken it
//! by the next line, the pipeline takes it back and fills it further. So flushing often while stdout is blocked
//! costs no memory.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::Offer;
use super::chunk::{Chunk, Kind, MAX_LINE};
use super::sequence::Sequence;
use super::totals::{Offered, Totals, Written, totals};
use super::writer::{self, End};

/// Bytes that may wait for stdout unless configured otherwise: 8 MiB.
pub const DEFAULT_BOUND: usize = 8 << 20;
/// The smallest bound, in bytes: 128 KiB.
pub const MIN_BOUND: usize = 4 * SMALL_CHUNK;

const CHUNK: usize = 64 << 10;
const SMALL_CHUNK: usize = 32 << 10;
/// Room that events leave to control lines: for so many of the longest, and so many lines in all.
const RESERVE: usize = 2;
const RESERVE_LINES: usize = 64;
/// Lines of one offer. With the reserve they fit an empty chunk of either size.
const MAX_LINES: usize = 4;
/// Full chunks that wait before the writer is woken without a flush, if the bound has so many to spare: each wake-up is
/// two switches between threads where both have one processor.
const WAKE_AT: usize = 4;
/// With so many chunks that wait the writer has enough to do while nobody looks for more.
const ENOUGH: usize = 4;
/// Empty chunks kept for use again. After a burst the rest goes back to the allocator.
const SPARE: usize = 16;
/// How long a writer that was told to give up has to do so. It needs longer only when write(2) itself hangs.
const GIVE_UP: Duration = Duration::from_millis(200);

/// The output could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The bound leaves no room to work in.
    #[error("an output queue of {0} bytes is too small: give it at least {MIN_BOUND}")]
    BoundTooSmall(usize),
    /// A descriptor could not be had.
    #[error("cannot set up the output: {0}: {1}")]
    Descriptor(&'static str, #[source] io::Error),
    /// The writer's thread could not be started.
    #[error("cannot start the output's writer thread (limit on threads or memory?)")]
    Thread(#[source] io::Error),
}

/// The end of the output, as [`Queue::finish`] found it.
#[derive(Debug)]
pub struct Finished {
    /// Exact: nothing more will be counted.
    pub totals: Totals,
    /// Why the writer ended.
    pub end: End,
}

/// A descriptor of its own for this process's stdout. Shares its file offset and flags, as a duplicate does.
///
/// # Errors
/// The descriptor could not be duplicated (too many open files).
pub fn stdout_of_process() -> Result<OwnedFd, StartError> {
    io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| StartError::Descriptor("duplicating stdout", error))
}

/// What both threads see.
pub(super) struct Shared {
    state: Mutex<Chunks>,
    /// The writer waits here for chunks.
    work: Condvar,
    /// [`Queue::finish`] waits here for the writer.
    done: Condvar,
    chunk_size: usize,
    max_chunks: usize,
    /// The longest line.
    longest: usize,
    /// Chunks not free: current, queued, being written. Changed under the lock, read by the pipeline without.
    in_use: AtomicUsize,
    ended: AtomicBool,
    give_up: AtomicBool,
    /// Readable once the writer shall give up: it polls this beside stdout.
    pub(super) give_up_fd: OwnedFd,
    offered: Offered,
    pub(super) written: Written,
    pub(super) witness: OnceLock<Witness>,
}

/// Told by the writer of every write: how many lines of events it made whole, and how many numbered lines in all.
pub type Witness = Arc<dyn Fn(u64, u64) + Send + Sync>;

#[derive(Default)]
struct Chunks {
    queued: VecDeque<Chunk>,
    spare: Vec<Chunk>,
    /// The writer sleeps and nobody has woken it yet: only then does a hand-over cost a system call.
    writer_waits: bool,
    closed: bool,
    end: Option<End>,
}

/// What the writer does next.
pub(super) enum Next {
    Write(Chunk),
    End(End),
}

impl Shared {
    /// A thread that panicked with the lock left the state whole: no foreign code runs under it, and every step
    /// under it moves chunks one at a time. Counting goes on.
    fn lock(&self) -> MutexGuard<'_, Chunks> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free_chunks(&self) -> usize {
        // Acquire: whoever sees a chunk free also sees its bytes subtracted, so the high-water mark stays true.
        self.max_chunks - self.in_use.load(Ordering::Acquire)
    }

    pub(super) fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(super) fn gives_up(&self) -> bool {
        self.give_up.load(Ordering::Acquire)
    }

    /// Takes back the chunk just written, and waits for another or for the end.
    pub(super) fn next(&self, written: Option<Chunk>) -> Next {
        let mut state = self.lock();
        if let Some(mut chunk) = written {
            self.written.bytes.add(chunk.len() as u64);
            self.in_use.fetch_sub(1, Ordering::Release);
            if state.spare.len() < SPARE {
                chunk.reset();
                state.spare.push(chunk);
            }
        }
        loop {
            if self.gives_up() {
                return Next::End(End::Deadline);
            }
            if let Some(chunk) = state.queued.pop_front() {
                return Next::Write(chunk);
            }
            if state.closed {
                return Next::End(End::Drained);
            }
            state.writer_waits = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The writer has ended. What is queued is lost, which the totals show from here on.
    pub(super) fn end(&self, end: End) {
        let mut state = self.lock();
        // `finish` may have given up on a writer that comes back after all.
        if state.end.is_none() {
            state.end = Some(end);
        }
        state.queued = VecDeque::new();
        state.spare = Vec::new();
        self.ended.store(true, Ordering::Release);
        self.done.notify_all();
    }

    /// The writer's end, if it comes in time.
    fn wait_for_end(&self, within: Duration) -> Option<End> {
        let state = self.lock();
        self.done
            .wait_timeout_while(state, within, |state| state.end.is_none())
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .end
            .take()
    }

    /// Wakes the writer if it sleeps. Not under the lock, for which it would only have to wait again.
    fn wake(&self, mut state: MutexGuard<'_, Chunks>) {
        let waits = std::mem::take(&mut state.writer_waits);
        drop(state);
        if waits {
            self.work.notify_one();
        }
    }

    fn tell_to_give_up(&self) {
        self.give_up.store(true, Ordering::Release);
        // An eventfd takes its first write at once; if it did not, the writer would only be left behind.
        let _ = rustix::io::write(&self.give_up_fd, &1_u64.to_ne_bytes());
    }

    /// A chunk of those free; only the pipeline takes one, after asking whether there are any.
    fn take_chunk(&self) -> Chunk {
        let spare = {
            let mut state = self.lock();
            self.in_use.fetch_add(1, Ordering::Relaxed);
            state.spare.pop()
        };
        spare.unwrap_or_else(|| Chunk::new(self.chunk_size, self.longest))
    }

    fn totals(&self) -> Totals {
        let ended = self.ended();
        totals(&self.offered, &self.written, ended)
    }
}

/// Takes lines from one thread and has another write them. Dropped without [`Queue::finish`] it writes what it
/// holds as long as the process lives.
pub struct Queue {
    shared: Arc<Shared>,
    current: Option<Chunk>,
    /// Chunks were handed over and the writer not woken.
    unwoken: bool,
    sequence: Sequence,
    writer: Option<JoinHandle<()>>,
}

impl Queue {
    /// Starts the thread that writes to `out`; at most `bound` bytes wait for it.
    ///
    /// `on_end` is called once, on the writer's thread, if the writer ends by itself: the reader of stdout has
    /// gone, or writing failed. It is not called for an end that [`Queue::finish`] brought about.
    ///
    /// # Errors
    /// `bound` is below [`MIN_BOUND`], or the system refuses a descriptor or a thread.
    pub fn start(
        out: OwnedFd,
        bound: usize,
        on_end: impl FnOnce(&End) + Send + 'static,
    ) -> Result<Self, StartError> {
        Self::start_for(MAX_LINE, out, bound, on_end)
    }

    /// The same, for lines of up to `longest` bytes: half of a small chunk at most.
    ///
    /// # Errors
    /// As [`Queue::start`].
    pub fn start_for(
        longest: usize,
        out: OwnedFd,
        bound: usize,
        on_end: impl FnOnce(&End) + Send + 'static,
    ) -> Result<Self, StartError> {
        if bound < MIN_BOUND {
            return Err(StartError::BoundTooSmall(bound));
        }
        let chunk_size = if bound < 4 * CHUNK { SMALL_CHUNK } else { CHUNK };
        let give_up_fd = eventfd(0, EventfdFlags::CLOEXEC)
            .map_err(|errno| StartError::Descriptor("making an eventfd", errno.into()))?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            chunk_size,
            max_chunks: bound / chunk_size,
            longest: longest.min(SMALL_CHUNK / 2),
            in_use: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            give_up: AtomicBool::new(false),
            give_up_fd,
            offered: Offered::default(),
            written: Written::default(),
            witness: OnceLock::new(),
        });
        let its = Arc::clone(&shared);
        let writer = thread::Builder::new()
            .name("stdout".to_owned())
            .spawn(move || writer::run(&its, &out, on_end))
            .map_err(StartError::Thread)?;
        Ok(Self { shared, current: None, unwoken: false, sequence: Sequence::new(), writer: Some(writer) })
    }

    /// Has somebody told of every write. To be called before the first line.
    #[must_use]
    pub fn witnessed(self, witness: Option<Witness>) -> Self {
        if let Some(witness) = witness {
            let _ = self.shared.witness.set(witness);
        }
        self
    }

    /// Offers `lines` event lines (1 to 4), all or none of them. `write` appends exactly that many to the buffer,
    /// each ending in a newline and no longer than was said; it is given the sequence number of the first.
    pub fn line(&mut self, lines: u32, write: impl FnOnce(&mut Vec<u8>, u64)) -> Offer {
        let seq = self.sequence.peek();
        let offer = self.offer(lines, Kind::Event, |buffer| write(buffer, seq));
        let counted = &self.shared.offered;
        match offer {
            Offer::Accepted => {
                self.sequence.consume(lines);
                counted.events.add(lines.into());
            }
            Offer::Closed => counted.events.add(lines.into()),
            Offer::Full | Offer::Malformed => counted.lost_queue.add(lines.into()),
        }
        offer
    }

    /// Offers one control line. Events leave a reserve free for these, so that it can be said that events are being
    /// lost. The reserve, too, is finite: [`Offer::Full`] means to try again later.
    pub fn control(&mut self, write: impl FnOnce(&mut Vec<u8>, u64)) -> Offer {
        let seq = self.sequence.peek();
        let offer = self.offer(1, Kind::Control, |buffer| write(buffer, seq));
        let counted = &self.shared.offered;
        match offer {
            Offer::Accepted => {
                self.sequence.consume(1);
                counted.control.add(1);
            }
            Offer::Full | Offer::Malformed | Offer::Closed => counted.control_refused.add(1),
        }
        offer
    }

    /// Offers one line that has no number: a diagnostic.
    pub fn note(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Offer {
        let offer = self.offer(1, Kind::Note, write);
        let counted = &self.shared.offered;
        match offer {
            Offer::Accepted => counted.control.add(1),
            Offer::Full | Offer::Malformed | Offer::Closed => counted.control_refused.add(1),
        }
        offer
    }

    /// Gives the writer what has been accepted. To be called whenever the ring is drained; cheap if nothing is new.
    pub fn flush(&mut self) {
        self.hand_over(HandOver::Flush);
    }

    /// Whether more waits than the writer needs to go on.
    pub fn is_behind(&self) -> bool {
        self.shared.in_use.load(Ordering::Acquire) >= ENOUGH.min(self.shared.max_chunks / 2)
    }

    /// Whether the writer has ended, by itself or because it was told to.
    pub fn has_ended(&self) -> bool {
        self.shared.ended()
    }

    /// A snapshot of the totals.
    pub fn totals(&self) -> Totals {
        self.shared.totals()
    }

    /// Takes no more lines and waits at most `within` for the writer to write the rest. What is not written then
    /// is lost and counted. Also ends when stdout never takes another byte.
    ///
    /// Lines are counted by the bytes that the kernel is known to have taken. Only where write(2) itself hangs (a
    /// stopped terminal, a dead NFS server) may bytes of one write go out that are counted as lost.
    pub fn finish(mut self, within: Duration) -> Finished {
        self.hand_over(HandOver::Close);
        let shared = Arc::clone(&self.shared);
        let end = shared.wait_for_end(within).or_else(|| {
            shared.tell_to_give_up();
            shared.wait_for_end(GIVE_UP)
        });
        if let (Some(_), Some(writer)) = (&end, self.writer.take()) {
            // It has nothing left to do. Had it panicked, `end` would say so.
            let _ = writer.join();
        }
        let totals = totals(&shared.offered, &shared.written, true);
        Finished { totals, end: end.unwrap_or(End::Deadline) }
    }

    fn offer(&mut self, lines: u32, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) -> Offer {
        if self.shared.ended() {
            return Offer::Closed;
        }
        let lines = lines as usize;
        let Some(chunk) = self.chunk_for(lines, kind) else {
            return Offer::Full;
        };
        let Ok(bytes) = chunk.append(lines, kind, write) else {
            return Offer::Malformed;
        };
        let Shared { offered, written, .. } = &*self.shared;
        offered.bytes.add(bytes as u64);
        let queued = offered.bytes.get() - written.bytes.get();
        if queued > offered.high_water.get() {
            offered.high_water.set(queued);
        }
        Offer::Accepted
    }

    /// The current chunk, another if that is full, or nothing if there is no room.
    fn chunk_for(&mut self, lines: usize, kind: Kind) -> Option<&mut Chunk> {
        let longest = self.shared.longest;
        if lines > MAX_LINES.min(self.shared.chunk_size / longest) {
            return None;
        }
        if self.current.is_none() {
            self.reopen();
        }
        let fits = self.current.as_ref().is_some_and(|chunk| chunk.has_room(lines * longest, lines));
        if fits {
            let chunk = self.current.as_mut()?;
            // Another chunk would hold the reserve; in the last one, events keep out of it.
            let allowed = kind != Kind::Event
                || chunk.has_room((lines + RESERVE) * longest, lines + RESERVE_LINES)
                || self.shared.free_chunks() > 0;
            return allowed.then_some(chunk);
        }
        if self.shared.free_chunks() == 0 {
            return None;
        }
        self.hand_over(HandOver::Full);
        Some(self.current.insert(self.shared.take_chunk()))
    }

    /// Takes back the chunk that was handed over last, if the writer has not come to it.
    fn reopen(&mut self) {
        self.current = self.shared.lock().queued.pop_back();
    }

    fn hand_over(&mut self, why: HandOver) {
        let chunk = self.current.take_if(|chunk| !chunk.is_empty());
        if chunk.is_none() && !self.unwoken && why != HandOver::Close {
            return;
        }
        let mut state = self.shared.lock();
        if let Some(mut chunk) = chunk
            && state.end.is_none()
        {
            chunk.drop_unfinished();
            state.queued.push_back(chunk);
        }
        state.closed |= why == HandOver::Close;
        let wake_at = WAKE_AT.min(self.shared.max_chunks / 2);
        self.unwoken = why == HandOver::Full && state.queued.len() < wake_at;
        if !self.unwoken {
            self.shared.wake(state);
        }
    }
}

/// Why the writer gets what has been accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HandOver {
    /// The chunk has no more room.
    Full,
    /// There is nothing to add to it for now.
    Flush,
    /// There is nothing to add to it any more.
    Close,
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.hand_over(HandOver::Close);
    }
}
