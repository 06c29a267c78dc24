//! What became of the lines. Each counter has one writing thread, so none needs an atomic read-modify-write.

use std::sync::atomic::{AtomicU64, Ordering};

/// Lines and bytes since the start. While lines flow the numbers are of slightly different moments; after
/// [`super::Queue::finish`] these hold exactly:
///
/// - event lines offered `== event_lines_accepted + lost_queue`
/// - `event_lines_accepted == event_lines_written + lost_write`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Event lines given a sequence number, or offered after the writer had ended.
    pub event_lines_accepted: u64,
    /// Event lines of which the kernel took every byte.
    pub event_lines_written: u64,
    /// Event lines refused for want of room (place `queue`), or because the format made no valid line.
    pub lost_queue: u64,
    /// Event lines accepted that will never be written (place `write`). Grows only once the writer has ended.
    pub lost_write: u64,
    /// Control lines (start, lost, heartbeat, headers) accepted.
    pub control_lines_accepted: u64,
    /// Control lines written.
    pub control_lines_written: u64,
    /// Control lines refused: the reserve was used up too, or the line was not valid.
    pub control_lines_refused: u64,
    /// Bytes in the current chunk, the queued chunks and the chunk being written.
    pub bytes_queued: u64,
    /// The most that `bytes_queued` has ever been.
    pub high_water: u64,
}

impl Totals {
    /// Event lines lost on the way out.
    pub fn lost(&self) -> u64 {
        self.lost_queue + self.lost_write
    }
}

/// A counter that only one thread changes.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, more: u64) {
        self.set(self.0.load(Ordering::Relaxed) + more);
    }

    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Changed by the pipeline thread. Apart from the writer's, so that the two threads share no cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Offered {
    pub(super) events: Counter,
    pub(super) lost_queue: Counter,
    pub(super) control: Counter,
    pub(super) control_refused: Counter,
    pub(super) bytes: Counter,
    pub(super) high_water: Counter,
}

/// Changed by the writer thread.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Written {
    pub(super) events: Counter,
    pub(super) control: Counter,
    /// Bytes of the chunks given back, whether written or not.
    pub(super) bytes: Counter,
}

/// `ended` must have been read before: then nothing more will be written, and what is missing is lost.
pub(super) fn totals(offered: &Offered, written: &Written, ended: bool) -> Totals {
    // The writer's side first: read after the pipeline's, it could be ahead of it.
    let (events_out, control_out, bytes_out) =
        (written.events.get(), written.control.get(), written.bytes.get());
    let accepted = offered.events.get();
    Totals {
        event_lines_accepted: accepted,
        event_lines_written: events_out,
        lost_queue: offered.lost_queue.get(),
        lost_write: if ended { accepted - events_out } else { 0 },
        control_lines_accepted: offered.control.get(),
        control_lines_written: control_out,
        control_lines_refused: offered.control_refused.get(),
        bytes_queued: if ended { 0 } else { offered.bytes.get() - bytes_out },
        high_water: offered.high_water.get(),
    }
}
