//! Every TCP state transition of this machine, attributed to the container and pod that own the socket.
//!
//! ```text
//!  kernel                                          node agent (this crate)
//! ┌────────────────────────────────────┐        ┌─────────────────────────────────────────────────────────────┐
//! │ hook ─► classify ─► socket record ─│─ ring ─│─► decode ─► connection ─► identity ─► serialise ─► output ──│─► stdout
//! └────────────────────────────────────┘        └─────────────────────────────────────────────────────────────┘
//!            ▲ rules, swapped as a whole                                  ▲ cgroups, /proc
//!            └───────────── filter ───────────────────────────────────────┴ cgroupfs
//! ```
//!
//! The stations in order: [`kernel`], [`decode`], [`connection`], [`identity`], [`filter`], [`serialise`],
//! [`output`]; [`pipeline`] joins them. `decode`, `connection`, `identity`, `filter` and `serialise` are core: they
//! do no I/O and take time as an argument. The others are edges.

/// The product's version, the workspace's, as a literal.
macro_rules! version {
    () => {
        env!("CARGO_PKG_VERSION")
    };
}
pub(crate) use version;

/// The product's version.
pub const VERSION: &str = version!();

pub mod cgroupfs;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod command;
pub mod connection;
pub mod decode;
pub mod filter;
pub mod identity;
pub mod kernel;
pub mod limit;
pub mod names;
pub mod outlet;
pub mod pipeline;
pub mod plan;
pub mod preflight;
pub mod render;
pub mod roster;
#[cfg(feature = "cluster")]
pub mod telemetry;
