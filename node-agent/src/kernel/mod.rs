//! Station 1, an edge: the running kernel. What it has, where its structures keep what we read, the programs and
//! their hook, the rings, the rules, the counters, the clock.
//!
//! The only station with `unsafe` code: memory shared with the eBPF program, and the types that cross into its maps.

mod btf;
mod call;
mod capability;
mod classic;
mod clock;
mod control;
mod counters;
mod error;
mod hashes;
mod heap;
mod load;
mod look;
mod mapped;
mod object;
mod offsets;
mod pinned;
mod pod;
mod preexisting;
mod records;
mod release;
mod remembered;
mod ring;
mod rules;
mod shares;
mod together;
mod walk;

pub use btf::{Btf, BtfError};
pub use capability::{Capability, effective_capabilities, missing_capabilities};
pub use clock::{Clock, boot_ns, jiffy_ns};
pub use counters::{CounterSnapshot, Counters};
pub use error::LoadError;
// What a program is attached to and where its records are, as lines name them.
pub use kube_tcpstates_events::{Hook, Storage};
pub use load::{Earlier, GoesOn, Inherited, Loaded, Options, Pinning, TaskHierarchy, load};
pub use look::Looker;
pub use offsets::{Missing, resolve as resolve_offsets};
pub use pinned::{Continues, Directory, DirectoryError, Left, LeftName, LeftText, Page, RulesLeft};
// Of what a text is.
pub use kube_tcpstates_common::pinned::LeftKind;
pub use release::{kernel_release, kernel_version};
pub use ring::{
    BATCH, CgroupChange, CgroupChangeKind, CgroupRing, EventRing, Look, Rings, Sleeper, Wake, Waker,
    cgroup_change, record_of,
};
pub use rules::{Rules, RulesError};
pub use shares::RingShares;
