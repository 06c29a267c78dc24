//! Edge: what the cgroup file systems and /proc say. Feeds `identity`, which does the thinking.
//!
//! | module | asks | needs |
//! |---|---|---|
//! | `mount` | where the unified hierarchy is mounted and whether cgroup v1 is in use beside it | |
//! | `walk` | id and path of every cgroup | to read the directories |
//! | `by_id` | the path of one id | `CAP_DAC_READ_SEARCH` |
//! | `task` | the cgroup of one process | the host's /proc |
//! | `netns` | who is in which network namespace | the host's /proc, `CAP_SYS_PTRACE` |

mod by_id;
mod mount;
mod netns;
mod task;
mod walk;

pub use by_id::{ById, ByIdError};
pub use mount::{Hierarchy, Layout, Mount, MountError};
pub use netns::{NetnsError, Scan, host_namespace, scan, shows_the_host};
pub use task::{Task, TaskError, cgroup_of, task};
pub use walk::{Walk, WalkError, walk};
