//! Lines between the pipeline and the thread that sends: bounded in bytes, and each accounted for.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::outlet::Totals;
use crate::render::MAX_LINE;

/// At the end of a run no pause is longer, unless the endpoint asked for it.
const PAUSE_AT_THE_END: Duration = Duration::from_millis(500);

/// Room that events leave for what the tracer says of itself: what was lost above all.
const RESERVE: usize = 4 * MAX_LINE;

/// The pipeline's end.
pub(super) struct Queue {
    pub(super) shared: Arc<Shared>,
    pub(super) thread: JoinHandle<()>,
}

/// What both ends see.
#[derive(Debug)]
pub(super) struct Shared {
    bound: usize,
    state: Mutex<Backlog>,
    changed: Condvar,
}

/// A line, and whether it is an event, whose loss counts.
#[derive(Debug)]
pub(super) struct Waiting {
    pub line: Vec<u8>,
    pub is_event: bool,
}

#[derive(Debug, Default)]
struct Backlog {
    lines: VecDeque<Waiting>,
    /// Bytes of lines that wait or are under way.
    bytes: usize,
    high_water: usize,
    offered: Count,
    full: Count,
    sent: Count,
    refused: Count,
    /// The run ends; the sender does at that time at the latest.
    ends: Option<Instant>,
    /// No more lines come.
    is_closed: bool,
}

/// Lines by kind.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    events: u64,
    control: u64,
}

impl Count {
    fn add(&mut self, is_event: bool) {
        if is_event {
            self.events += 1;
        } else {
            self.control += 1;
        }
    }
}

impl Queue {
    /// Whether a line of any length finds room. One that does not is counted.
    pub(super) fn has_room(&self, is_event: bool) -> bool {
        let mut state = self.shared.lock();
        let reserve = if is_event { RESERVE } else { 0 };
        let has_room = state.bytes + MAX_LINE + reserve <= self.shared.bound;
        if !has_room {
            state.full.add(is_event);
        }
        has_room
    }

    /// Hands in a line.
    pub(super) fn push(&self, line: Vec<u8>, is_event: bool) {
        let mut state = self.shared.lock();
        state.offered.add(is_event);
        state.bytes += line.len();
        state.high_water = state.high_water.max(state.bytes);
        let was_empty = state.lines.is_empty();
        state.lines.push_back(Waiting { line, is_event });
        drop(state);
        if was_empty {
            self.shared.changed.notify_one();
        }
    }

    pub(super) fn totals(&self) -> Totals {
        self.shared.totals(false)
    }

    /// The run ends by then: what waits does not wait for more to go with it.
    pub(super) fn ends_by(&self, deadline: Instant) {
        self.shared.lock().ends = Some(deadline);
        self.shared.changed.notify_one();
    }

    /// Lets what waits go out, for so long.
    pub(super) fn finish(self, within: Duration) -> Totals {
        let deadline = Instant::now() + within;
        self.shared.lock().is_closed = true;
        self.ends_by(deadline);
        // A request that hangs is not waited for: its lines count as lost.
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.shared.totals(true)
    }
}

impl Shared {
    pub(super) fn new(bound: usize) -> Self {
        Self { bound, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Backlog> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines: until there are enough for a request, or the first has waited for so long. `None`: none will come.
    pub(super) fn take(&self, most: usize, linger: Duration) -> Option<Vec<Waiting>> {
        let mut state = self.lock();
        while state.lines.is_empty() {
            if state.is_closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let until = Instant::now() + linger;
        while state.lines.len() < most && state.ends.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // Woken when the queue was empty or the run ends; else it looks again when the time is over.
            let slice = left.min(Duration::from_millis(50));
            state = self.changed.wait_timeout(state, slice).unwrap_or_else(PoisonError::into_inner).0;
        }
        let count = state.lines.len().min(most);
        Some(state.lines.drain(..count).collect())
    }

    /// Sleeps before a request is made again: for as long as the endpoint asked, else for `pause`. The end of the run cuts
    /// a pause short that nobody asked for. False: there is no time left.
    pub(super) fn pause(&self, asked: Option<Duration>, pause: Duration) -> bool {
        let mut state = self.lock();
        let was_ending = state.ends.is_some();
        let pause = if was_ending { pause.min(PAUSE_AT_THE_END) } else { pause };
        let until = Instant::now() + asked.unwrap_or(pause);
        loop {
            let now = Instant::now();
            if state.ends.is_some_and(|ends| now >= ends) {
                return false;
            }
            let ends_meanwhile = !was_ending && state.ends.is_some();
            if now >= until || (ends_meanwhile && asked.is_none()) {
                return true;
            }
            let end = state.ends.map_or(until, |ends| ends.min(until));
            state = self.changed.wait_timeout(state, end - now).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// These have arrived, all but `refused` of them.
    pub(super) fn settle(&self, lines: &[Waiting], refused: u64) {
        let mut state = self.lock();
        let mut refused = refused;
        for waiting in lines {
            state.bytes -= waiting.line.len();
            // The endpoint says how many it refused, not which: events are the most of them.
            let is_refused = refused > 0 && waiting.is_event;
            let count = if is_refused { &mut state.refused } else { &mut state.sent };
            count.add(waiting.is_event);
            refused -= u64::from(is_refused);
        }
    }

    fn totals(&self, is_over: bool) -> Totals {
        let state = self.lock();
        let waiting = state.offered.events - state.sent.events - state.refused.events;
        Totals {
            event_lines_accepted: state.offered.events,
            event_lines_written: state.sent.events,
            lost_queue: state.full.events,
            lost_write: state.refused.events + if is_over { waiting } else { 0 },
            control_lines_accepted: state.offered.control,
            control_lines_written: state.sent.control,
            control_lines_refused: state.full.control,
            bytes_queued: state.bytes as u64,
            high_water: state.high_water as u64,
        }
    }
}
