//! A buffer of whole lines that remembers where each ends, so that a write cut short can be counted by line.

/// The longest line of most formats in bytes, its newline included. It is `PIPE_BUF` too: the kernel takes a write of
/// that size to a pipe whole or not at all.
pub const MAX_LINE: usize = 4096;

/// Fewest bytes a line is reckoned with when room for marks is set aside. Shorter lines fill a chunk's marks
/// before its bytes, which bounds the memory of the marks as well.
const SHORTEST_LINE: usize = 32;

/// What a line is to the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Has a sequence number; its loss is counted.
    Event,
    /// Start, lost, heartbeat, a table's header.
    Control,
    /// A diagnostic: it has no sequence number.
    Note,
}

/// Lines by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) events: u64,
    /// Diagnostics among them.
    pub(super) control: u64,
    pub(super) notes: u64,
}

/// The end of a line in its chunk, and in the two top bits what it is.
#[derive(Clone, Copy)]
struct Mark(u32);

impl Mark {
    const EVENT: u32 = 1 << 31;
    const NOTE: u32 = 1 << 30;
    const END: u32 = Self::NOTE - 1;

    fn new(end: usize, kind: Kind) -> Self {
        // A chunk is 64 KiB at most, so neither the conversion nor the top bits can lose anything.
        let end = u32::try_from(end).unwrap_or(u32::MAX) & Self::END;
        Self(match kind {
            Kind::Event => end | Self::EVENT,
            Kind::Control => end,
            Kind::Note => end | Self::NOTE,
        })
    }

    fn end(self) -> usize {
        (self.0 & Self::END) as usize
    }

    fn is_event(self) -> bool {
        self.0 & Self::EVENT != 0
    }

    fn is_note(self) -> bool {
        self.0 & Self::NOTE != 0
    }
}

/// The format broke its contract: whole lines, as many as announced, none longer than the chunk takes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Whole lines, and how far the writer has come with them.
pub(super) struct Chunk {
    bytes: Vec<u8>,
    marks: Vec<Mark>,
    capacity: usize,
    /// The longest line it takes.
    longest: usize,
    /// Bytes that the kernel has taken.
    written: usize,
    /// Lines of which the kernel has taken every byte.
    complete: usize,
}

impl Chunk {
    /// An empty chunk. Nothing it holds is allocated again until it is dropped.
    pub(super) fn new(capacity: usize, longest: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
            marks: Vec::with_capacity(capacity / SHORTEST_LINE),
            capacity,
            longest,
            written: 0,
            complete: 0,
        }
    }

    /// Whether `bytes` more bytes and `lines` more lines fit.
    pub(super) fn has_room(&self, bytes: usize, lines: usize) -> bool {
        self.bytes.len() + bytes <= self.capacity && self.marks.len() + lines <= self.capacity / SHORTEST_LINE
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends the `lines` lines that `write` makes and returns their length, or leaves the chunk as it was.
    /// The caller has asked [`Chunk::has_room`].
    pub(super) fn append(
        &mut self,
        lines: usize,
        kind: Kind,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<usize, Malformed> {
        self.drop_unfinished();
        let (start, marks) = (self.bytes.len(), self.marks.len());
        write(&mut self.bytes);
        assert!(self.bytes.len() >= start, "a format appends; it must not shorten the lines before its own");
        if self.mark(start, lines, kind).is_err() {
            self.marks.truncate(marks);
            self.bytes.truncate(start);
            // A line far too long made the buffer grow: the bound is on what is allocated, so give it back.
            self.bytes.shrink_to(self.capacity);
            return Err(Malformed);
        }
        Ok(self.bytes.len() - start)
    }

    fn mark(&mut self, start: usize, lines: usize, kind: Kind) -> Result<(), Malformed> {
        let added = &self.bytes[start..];
        if added.last().is_some_and(|&last| last != b'\n') || (lines == 1 && added.is_empty()) {
            return Err(Malformed);
        }
        if lines == 1 {
            // The common case is not searched for newlines: keeping them out of a line is the format's work.
            if added.len() > self.longest {
                return Err(Malformed);
            }
            self.marks.push(Mark::new(self.bytes.len(), kind));
            return Ok(());
        }
        let mut found = 0;
        let mut end = start;
        for line in added.split_inclusive(|&byte| byte == b'\n') {
            found += 1;
            end += line.len();
            if found > lines || line.len() > self.longest {
                return Err(Malformed);
            }
            self.marks.push(Mark::new(end, kind));
        }
        if found == lines { Ok(()) } else { Err(Malformed) }
    }

    /// Drops bytes behind the last whole line: a format that panicked left them.
    pub(super) fn drop_unfinished(&mut self) {
        let end = self.marks.last().map_or(0, |mark| mark.end());
        self.bytes.truncate(end);
    }

    /// What to write next: with a limit, the most whole lines within it, or what is left of a line that is longer.
    pub(super) fn unwritten(&self, limit: Option<usize>) -> &[u8] {
        let Some(limit) = limit else {
            return &self.bytes[self.written..];
        };
        let mut ends = self.marks[self.complete..].iter().map(|mark| mark.end());
        let first = ends.next().unwrap_or(self.bytes.len());
        let further = ends.take_while(|end| end - self.written <= limit).last();
        &self.bytes[self.written..further.unwrap_or(first)]
    }

    /// The kernel took `bytes` more bytes; returns the lines this made complete.
    pub(super) fn advance(&mut self, bytes: usize) -> Lines {
        self.written += bytes;
        let mut lines = Lines::default();
        for mark in self.marks[self.complete..].iter().take_while(|mark| mark.end() <= self.written) {
            self.complete += 1;
            if mark.is_event() {
                lines.events += 1;
            } else {
                lines.control += 1;
                lines.notes += u64::from(mark.is_note());
            }
        }
        lines
    }

    /// Bytes the kernel has taken of a line that is not complete.
    pub(super) fn torn(&self) -> usize {
        let whole = self.complete.checked_sub(1).map_or(0, |last| self.marks[last].end());
        self.written - whole
    }

    /// Makes the chunk empty and keeps what it allocated.
    pub(super) fn reset(&mut self) {
        self.bytes.clear();
        self.marks.clear();
        self.written = 0;
        self.complete = 0;
    }
}
