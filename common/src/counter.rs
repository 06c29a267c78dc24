//! Counters of the kernel program. Together they account for every hit of the hook:
//! `seen = other_protocol + filtered + pending + ring_full + emitted`, exactly, once the program is detached.
//! A ring record of two transitions counts two. In the kernel a hit whose socket no trace wants is counted once, as
//! `unwanted`; whoever reads the counters adds it to `seen` and to `filtered`.

use bytemuck::{Pod, Zeroable};

/// Index of a counter in [`CounterBlock`]. What a number means never changes: another build reads it, too, see
/// [`crate::pinned`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// The program ran.
    Seen = 0,
    /// Not protocol 6: MPTCP's own socket, SCTP, DCCP.
    OtherProtocol = 1,
    /// No trace wants the transition.
    Filtered = 2,
    /// Kept in the socket's record until its next transition decides (up and down).
    Pending = 3,
    /// Wanted, but the ring buffer had no room, or none for this container: lost.
    RingFull = 4,
    /// In the ring buffer.
    Emitted = 5,
    /// The old state was not the one last recorded.
    Gap = 6,
    /// A socket's record could not be made: its durations and owner stay unknown.
    StorageFailed = 7,
    /// A state outside 0..16.
    StateOutOfRange = 8,
    /// The reader was woken.
    Wakeup = 9,
    /// Socket records made.
    StorageCreated = 10,
    /// Socket records deleted by the program (hash fallback only).
    StorageDeleted = 11,
    /// A cgroup record had no room in its ring: that cgroup is then looked up by id.
    CgroupRingFull = 12,
    /// A cgroup's entry in the filter could not be made.
    CgroupEntryFailed = 13,
    /// The kernel skipped the program because it was running on that CPU already, and the second program took the
    /// hit. Among `Seen`.
    Rescued = 14,
    /// A transition that had no room in the ring, and it could not be kept which traces wanted it. Among `RingFull`.
    RingFullUntold = 15,
    /// No trace wants the socket, whatever it does. Neither in `Seen` nor in `Filtered` as the kernel counts them.
    Unwanted = 16,
    /// Sockets that were open before the attach whose record the program took over from what user space had found.
    TakenOver = 17,
    /// Transitions that no program got and that follow from those around them. Among `Seen`.
    Inferred = 18,
}

/// Slots of the counter array, those to come included.
pub const COUNTERS: usize = 32;

/// Counters by [`Counter`].
pub type CounterBlock = [u64; COUNTERS];

/// Places for sockets whose hit is between the two programs of a hook: several on a CPU, as an interrupt or another task may
/// come between. A power of two.
pub const TAKEN: usize = 8;

/// Words in which a program keeps what no other build reads.
const OWN: usize = 32;

/// What the program keeps for a CPU: the only element of a per-CPU array. Its size and the counters' place are the same in
/// every build.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct CpuBlock {
    /// This CPU's part.
    pub counters: CounterBlock,
    /// 1 while the ring is shared out, see [`crate::share`].
    pub scarce: u64,
    /// Sockets of which the first of a hook's two programs has taken the hit, until the second has seen that; 0 where there
    /// is none. Each has its place by its ports.
    pub taken: [u64; TAKEN],
    /// 0.
    pub spare: [u64; OWN - 1 - TAKEN],
}

/// Different sets of traces of which losses can be counted at a time.
pub const LOST_SETS: usize = 1_024;
