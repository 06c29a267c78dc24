//! What the operator tells of itself over HTTP: `/metrics` in the `OpenMetrics` format, `/livez`, `/readyz`.

mod board;
mod metrics;
mod pages;

pub use board::Board;
