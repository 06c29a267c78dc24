//! Who runs on this node: the pods that the API server told of, pruned to what attribution and filtering need. Pure;
//! `cluster` feeds it, one writer. Knows nothing of cgroups: those are `identity`'s.
//!
//! ```text
//!  cluster/watch ─► PodInfo ─► Roster ─► plan (which traces select it)
//!                               └──────► pipeline/describe (what lines show of it)
//! ```

mod api;
mod model;
mod pods;
mod workload;

pub use model::{ContainerInfo, PodInfo, PodNetwork};
pub use pods::Roster;
