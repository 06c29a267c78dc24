//! Station 4: whose socket it is. No I/O; time is passed in.
//!
//! ```text
//!  cgroup path ─► path ─► Identity          what a path says: containers, pods, or a host's slice and unit
//!                            │
//!  mkdir, rmdir, walk ─► index (one writer)   cgroup id   ─► Arc<Identity>, kept for minutes after rmdir
//!  /proc scans ────────► netns                namespace   ─► Arc<Identity>, only while it is private to one pod
//!  the owner's task ───┐     │
//!                      └► attribute           which of the three names the socket, and how sure that is
//! ```
//!
//! Reading cgroupfs and /proc is `cgroupfs`' business; pod names and labels are the cluster's.

mod attribute;
mod index;
mod model;
mod named;
pub mod netns;
mod path;
mod segment;

pub use attribute::{Attribution, Evidence, SocketCgroup, attribute};
pub use index::{Counters, Index, Limits, ROOT_CGROUP_ID};
pub use model::{Container, Host, Identity, Pod, Qos, Runtime};
