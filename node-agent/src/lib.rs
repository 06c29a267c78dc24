//! Every TCP state transition of this machine, attributed to the container and pod that own the socket.
//!
//! ```text
//!  kernel                                          node agent (this crate)
//! ┌────────────────────────────────────┐        ┌─────────────────────────────────────────────────────────────┐
//! │ hook ─► classify ─► socket record ─│─ ring ─│─► decode ─► connection ─► identity ─► limit ─► outlets ─────│─► stdout
//! └────────────────────────────────────┘        └─────────────────────────────────────────────────────────────┘
//!            ▲ rules, swapped as a whole                                  ▲ cgroups, /proc
//!            └──── filter ◄── plan ◄── options, cluster ──────────────────┴ cgroupfs
//! ```
//!
//! The folders in order, each importing only from those before it (`xtask/src/layers.rs` holds them to it): [`names`],
//! [`decode`], [`connection`], [`summary`], [`identity`], [`filter`], [`open`], [`workloads`], [`top`], [`roster`], [`peers`], [`plan`] and [`limit`] are
//! core: no I/O, and time is an argument. [`cgroupfs`] and [`kernel`] are edges. [`render`] is core again, [`outlet`] an edge.
//! [`pipeline`] joins them. Around it are [`preflight`], `cluster`, `telemetry` and [`command`].

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
pub mod open;
pub mod outlet;
pub mod peers;
pub mod pipeline;
pub mod plan;
pub mod preflight;
pub mod render;
pub mod roster;
pub mod summary;
#[cfg(feature = "cluster")]
pub mod telemetry;
pub mod top;
pub mod workloads;
