//! Which transitions are wanted: from what a trace asks to the tables that the kernel program judges by.
//!
//! ```text
//!  -L 8080, spec.localPorts ─► TraceFilter ─► compile ─► Compiled ─► kernel maps ─► classify (eBPF)
//!         (text, objects)       (trace)      ports, cidr,    └─────► UserTables ──► classify (user space, tests)
//!                                   │        duration
//!                                   └──────► linear: the same answer one trace at a time, for sockets found open, and for the tests
//! ```
//!
//! Core: no I/O, no clock. Which cgroups a trace selects is not decided here but by identity and cluster; the
//! tables only know that a trace is bound to some.

pub mod cidr;
pub mod compile;
pub mod duration;
mod error;
mod explain;
pub mod linear;
pub mod ports;
pub mod states;
pub mod tables;
pub mod trace;

#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod properties;

pub use cidr::Cidr;
pub use compile::{CompileError, Compiled, compile};
pub use error::{FilterError, Reason};
pub use ports::PortRange;
pub use states::{StateSet, TransitionFilter};
pub use tables::UserTables;
pub use trace::{CgroupChoice, Mode, TraceFilter};
