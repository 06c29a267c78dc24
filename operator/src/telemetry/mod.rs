//! What the operator tells of itself over HTTP: `/metrics` in the `OpenMetrics` format, `/livez`, `/readyz`.

mod board;
mod http;
mod metrics;

pub use board::Board;
pub use http::{ServeError, serve};
