//! How many of the wanted transitions become lines: a limit for each trace, and one for the agent, shared fairly by
//! namespace. Core: no I/O, time is an argument.

mod fair;
mod rate;
mod whole;

pub use rate::{Admission, RateLimiter};
pub use whole::Drawn;
