//! Tracing that goes on while no process reads: maps, programs and links pinned in a BPF file system, and what one run
//! leaves to the next there. One process at a time works with it, by a lock.
//!
//! ```text
//! DIRECTORY/                      locked by whoever reads
//!   set-1f0c9a77e2b04d18/         maps, programs and links of one build with one set of options
//!     EVENTS, CONTROL, PINNED ...   maps, by name
//!     program                       the hook's program, for its count of skipped hits
//!     link_0, link_1 ...            what keeps the programs attached; the last to be made, the first to go
//!   set-1f0c9a77e2b04d18-over/    one that nobody read for too long: its programs traced nobody then
//! ```

mod directory;
mod left;
mod page;
mod set;
mod will;

pub use directory::{Directory, DirectoryError};
pub use left::{Left, LeftName, LeftText};
pub use page::Page;
pub(super) use set::Set;
pub use will::{Continues, RulesLeft};
pub(super) use will::{Facts, Will};
