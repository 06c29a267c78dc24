//! What runs in the pods of the e2e tests, and what can be derived from its log.
//!
//! ```text
//!   client ──── connections ────► server        `e2e-workload client|server`, in pods
//!      │                             │
//!      └── log: one JSON line ───────┘
//!           a connection  │
//!                         ▼
//!                 expect: the transitions that each end must have made
//! ```
//! Other roles leak connections, or have trouble with them, and log no more than that they do.
//!
//! Both ends tell how each connection ended as they saw it themselves, so that a connection of which they do not
//! agree is noticed. A crate of its own, because it is linked statically and copied into an image.

pub mod client;
pub mod expect;
pub mod leak;
pub mod log;
pub mod protocol;
pub mod server;
pub mod trouble;
