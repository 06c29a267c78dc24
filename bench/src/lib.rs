//! What tracing costs, against nothing and against others that trace the same.
//!
//! ```text
//!  subject (a process: the agent, tcpstates, bpftrace, bare programs) ─┐
//!  traffic (a process: tcp-load, see `load`) ──────────────────────────┴► measure/ ─► report (Markdown, JSON)
//!  records from a real run ─► micro, replay: the agent's own parts in this process ───┘
//! ```
//!
//! Every comparison is made in one run, in pairs that take turns. Nothing is asserted: a benchmark tells, people judge.

pub mod bare;
pub mod kernel;
pub mod load;
pub mod machine;
pub mod measure;
pub mod report;
pub mod statistics;
pub mod subject;
pub mod traces;
pub mod traffic;
