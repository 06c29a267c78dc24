//! What is open: what becomes of a socket that the walk over the kernel's tables has found. Its side, its holder, its
//! figures in units that people know, and which of many a snapshot shows. No I/O; whose a socket is and what a line
//! looks like is the business of others.
//!
//! ```text
//!   Sight (kernel) ─► roles, holders ─► Found ─► choose (who asked, states, ages, limits) ─► lines
//!   what a tracer remembers ─► ages ────┘
//! ```

mod ages;
mod choose;
mod drops;
mod found;
mod holders;
mod roles;
mod states;

pub use ages::{Ages, Remembered};
pub use choose::{Choice, Chosen, Counts, Snapshots, Wish, choose};
pub use drops::Drops;
pub use found::{Figures, Found, Look, Passing, Queue, Sight, What};
pub use states::{NoSuchState, OpenStates};

pub(crate) use holders::Holders;
pub(crate) use roles::{Open, Roles};
