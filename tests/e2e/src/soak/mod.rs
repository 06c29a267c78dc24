//! Everything at once for hours, judged by exact accounts: `./x soak`, see `docs/soak.md`.
//!
//! ```text
//!   schedule ─► restarts ─► agent ──── lines ───► account ─┐
//!      │    └─► troubles, traces                    ├─► verdict ─► summary
//!      └──────► pods (cgroups, networks, workloads) ─ happened ─┤
//!               watch (memory, descriptors, CPU) ─► trend ─┤
//!               maps (what the kernel holds) ──────────────┘
//! ```
//! `account`, `line`, `schedule`, `trend` and `verdict` do no I/O.

mod account;
mod agent;
mod install;
mod line;
mod maps;
mod pods;
mod run;
mod schedule;
mod stage;
mod summary;
mod traces;
mod trend;
mod troubles;
mod verdict;
mod watch;

pub use run::run;
