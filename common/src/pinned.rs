//! What one reader leaves to the next when the programs stay attached: a map that user space writes and no program reads.
//!
//! The next reader may be of another build. So what stands in this map, and the counters, keep their places and their
//! meaning for good; what is new takes room that was left for it. Records in the ring may change, see [`FORMAT`].

use bytemuck::{Pod, Zeroable};

use crate::{counter::CounterBlock, rule::MAX_TRACES};

/// Another number each time that a reader of before could not read the records in the ring. It counts them as lost.
pub const FORMAT: u64 = 3;
/// The first whose map, and counters, are as they are here.
pub const FIRST_FORMAT: u64 = 2;

/// Index of a word in [`Pinned::words`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Word {
    /// [`FORMAT`], once all else is there.
    Format = 0,
    /// Which of the two texts holds.
    Text = 1,
    /// Numbered lines that were written, by all runs.
    Lines = 2,
    /// Lines of events that were written, by all runs.
    Written = 3,
    /// What became of the rest of what was taken from the ring, by all runs; see the names in `docs/output.md`.
    FilteredUser = 4,
    /// See there.
    ToldTwice = 5,
    /// See there; without what no line has told yet.
    Summarised = 6,
    /// See there.
    LostQueue = 7,
    /// See there.
    LostWrite = 8,
    /// See there.
    LostRate = 9,
    /// See there.
    LostIdentity = 10,
    /// Taken from the ring by runs that were killed before they had written it.
    LostRestart = 11,
    /// Transitions that waited in records which are no more.
    GivenUp = 12,
    /// How often the kernel skipped programs that were attached before.
    Skipped = 13,
    /// Losses that a `lost` line has told, by all runs.
    LossesTold = 14,
    /// Transitions that went into the rings of sets that are no more: taken, or lost.
    TakenEarlier = 15,
    /// From when on records in the ring count, boot time, ns: those before were another set's to tell.
    Begins = 16,
}

/// What a text is of that one run leaves to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum LeftKind {
    /// A cgroup of the unified hierarchy: its path.
    Cgroup = 0,
    /// One of the hierarchy of cgroup v1 that tells containers apart: its path.
    TaskCgroup = 1,
    /// A pod of the node: JSON.
    Pod = 2,
}

impl LeftKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Cgroup, Self::TaskCgroup, Self::Pod];
}

/// Names a part of a text.
#[derive(Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct LeftKey {
    /// Of the cgroup; of a pod a hash of its UID.
    pub id: u64,
    /// A [`LeftKind`].
    pub kind: u32,
    /// From 0.
    pub part: u32,
}

/// Bytes of text in a part: with its key and the kernel's own 48 bytes (`struct htab_elem`, `kernel/bpf/hashtab.c`, 6.18)
/// it makes 1,024.
pub const LEFT_LEN: usize = 944;
/// Parts that the map holds.
pub const LEFT_PARTS: u32 = 16_384;

/// A part of a text. The map's memory is taken part by part.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct LeftPart {
    /// Since when what it tells of is no more, boot time, ns; 0 while it lives. In the first part alone.
    pub gone_ns: u64,
    /// Of the whole text, bytes.
    pub text_len: u64,
    /// UTF-8, filled up with zeros.
    pub text: [u8; LEFT_LEN],
}

/// How many words there are, those to come included.
pub const WORDS: usize = 32;
/// Longest text, bytes: what is of a run, and 64 traces for each of its last rules; of two however long their names are.
pub const TEXT_LEN: usize = 64 * 1024;

/// The map's only element. Each word is written by one thread of one process.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct Pinned {
    /// By [`Word`].
    pub words: [u64; WORDS],
    /// A position in the ring, bytes, and how many transitions had been taken by there: before the last record, and
    /// behind it. The kernel's own mark stands at one of the two.
    pub taken: [[u64; 2]; 2],
    /// Losses for want of room in the ring that were put down to a trace, by its bit.
    pub ring_full: [u64; MAX_TRACES],
    /// Counters of sets that are no more, by [`crate::counter::Counter`].
    pub earlier: CounterBlock,
    /// Lengths of the texts.
    pub text_len: [u64; 2],
    /// JSON, UTF-8; one is written while the other holds.
    pub text: [[u8; TEXT_LEN]; 2],
}
