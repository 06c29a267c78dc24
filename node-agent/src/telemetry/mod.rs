//! What the agent tells of itself over HTTP: `/metrics` in the `OpenMetrics` format, `/livez`, `/readyz`. An edge; it
//! decides nothing, and sees the cluster as its [`Observer`](crate::cluster::Observer). `docs/metrics.md` explains every metric.

mod board;
mod health;
mod metrics;
mod pages;
mod workloads;

pub use board::{Board, Facts, Telemetry};
pub use health::Health;
