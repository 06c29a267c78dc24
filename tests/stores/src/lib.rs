//! What the tests with a log store share: the store, the ways to it, an incident, and the questions that are asked of it.
//!
//! ```text
//!   Incident ─► Tracer ─┬─ --otlp-endpoint ───────────────────► Gate ─► Store ─► Questions of docs/pipelines.md
//!   (real sockets)      └─ stdout ─► Pods ─┬─ Rsyslog ────────►   (passes on, slow, refuses, away)
//!                          (CRI log files) └─ Loki's push API ►
//! ```
//!
//! All of it is on loopback. What was started is ended by a `Drop`, also when the test fails.
#![allow(clippy::missing_panics_doc, reason = "in a test harness every failure is a panic by design")]

pub mod gate;
pub mod incident;
pub mod pods;
pub mod questions;
pub mod rsyslog;
pub mod store;
