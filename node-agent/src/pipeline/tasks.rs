//! What /proc says of the processes that own sockets. It comes late: a number is a process's own only until that ends, so
//! what is read counts for no socket but those whose owner was noted while the process was there.

use std::{path::PathBuf, sync::Arc};

use crate::{cgroupfs, decode::Process, identity::Identity, kernel::boot_ns, names::QuickMap};

/// A process that was just looked at is taken for the same one so long: numbers do not come round sooner.
const SAME_NS: u64 = 100_000_000;
/// Processes remembered. Above this all are forgotten, and looked at again.
const SEEN: usize = 16_384;

/// Processes that were looked at, by their number.
pub(super) struct Tasks {
    /// Absent where it is a container's: what is process 7 there is not the kernel's process 7.
    proc_root: Option<PathBuf>,
    seen: QuickMap<u32, Seen>,
}

/// One look.
struct Seen {
    identity: Arc<Identity>,
    started_ns: u64,
    checked_ns: u64,
}

impl Seen {
    /// Whether this is the process that had the number then.
    const fn had_number_at(&self, at_ns: u64) -> bool {
        self.started_ns <= at_ns && at_ns <= self.checked_ns + SAME_NS
    }
}

impl Tasks {
    pub(super) fn new(proc_root: Option<PathBuf>) -> Self {
        Self { proc_root, seen: QuickMap::default() }
    }

    /// Whose a socket's process is, if it is the same that was noted as the owner.
    pub(super) fn identity(&mut self, process: Process) -> Option<Arc<Identity>> {
        let Process { pid, noted_ns, .. } = process;
        if !self.seen.get(&pid).is_some_and(|seen| seen.had_number_at(noted_ns)) {
            self.look(pid)?;
        }
        let seen = self.seen.get(&pid).filter(|seen| seen.had_number_at(noted_ns))?;
        Some(Arc::clone(&seen.identity))
    }

    fn look(&mut self, pid: u32) -> Option<()> {
        let checked_ns = boot_ns();
        let task = cgroupfs::task(self.proc_root.as_deref()?, pid).ok()??;
        if self.seen.len() >= SEEN {
            self.seen.clear();
        }
        let identity = Arc::new(Identity::from_path(&task.cgroup));
        self.seen.insert(pid, Seen { identity, started_ns: task.started_ns, checked_ns });
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, process::id, sync::Arc};

    use super::{SAME_NS, Seen, Tasks};
    use crate::{
        decode::{OwnerSource, Process},
        identity::Identity,
        kernel::boot_ns,
    };

    const SECOND_NS: u64 = 1_000_000_000;

    fn noted(pid: u32, noted_ns: u64) -> Process {
        Process { pid, comm: [0; 16], source: OwnerSource::Listen, noted_ns }
    }

    #[test]
    fn a_number_speaks_for_its_process_from_its_start_to_the_last_look() {
        let identity = Arc::new(Identity::from_path("/"));
        let seen = Seen { identity, started_ns: 5 * SECOND_NS, checked_ns: 9 * SECOND_NS };
        let at = [5, 9, 4, 10].map(|second| seen.had_number_at(second * SECOND_NS));
        assert_eq!(at, [true, true, false, false]);
        assert!(seen.had_number_at(9 * SECOND_NS + SAME_NS));
    }

    #[test]
    fn a_process_that_started_after_the_owner_was_noted_is_another() {
        let mut tasks = Tasks::new(Some(PathBuf::from("/proc")));
        assert!(tasks.identity(noted(id(), boot_ns())).is_some());
        assert!(tasks.identity(noted(id(), 1)).is_none());
        assert!(Tasks::new(None).identity(noted(id(), boot_ns())).is_none());
    }
}
