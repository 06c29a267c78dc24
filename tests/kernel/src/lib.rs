//! What the tests against the running kernel share: places to run traffic in, programs that make it, the
//! tracer under test, and what its output says.
//!
//! ```text
//!   Container ─┐                      ┌─ Puppet   one socket call at a time, told over a pipe
//!   Netns ─────┼─ Place ─► Workload ──┼─ Server   answers connections in bulk
//!   Network ───┘                      └─ churn    makes them in bulk          all three: `tcp-workload`
//!
//!   Tracer ─► Finished { lines, counts } ─► Transition ─► tuple multisets, owners, loss
//!                                 ages, of every JSON run
//!   Peer   ─► the same from libbpf-tools' tcpstates
//! ```
//!
//! Rules every test keeps: traffic stays on loopback and in network namespaces that the test made; every loop
//! is bounded in count and time; whatever was made is taken away again by a `Drop`, also when the test fails;
//! a machine that cannot run a test fails it with the reason ([`requirements`]).
//!
//! Helpers panic where a test could not go on: the message says what was tried, and the backtrace where.
#![allow(clippy::missing_panics_doc, reason = "in a test harness every failure is a panic by design")]

pub mod age;
pub mod cgroup;
pub mod counts;
pub mod endings;
pub mod kernel_log;
pub mod line;
pub mod listed;
pub mod netns;
pub mod peer;
pub mod pinned;
pub mod place;
pub mod proc_net;
pub mod procfs;
pub mod programs;
pub mod puppet;
pub mod requirements;
pub mod restarts;
pub mod scene;
pub mod ss;
pub mod statistics;
pub mod tracer;
pub mod traffic;
pub mod tuple;
pub mod workload;
