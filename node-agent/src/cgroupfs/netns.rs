//! Who is in which network namespace: one pass over /proc, for `identity::netns`.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use procfs::ProcError;
use procfs::process::{Process, all_processes_with_root};

use super::task::{self, Task};
use crate::identity::Identity;
use crate::identity::netns::{Use, Witness};

/// Number of the initial pid namespace (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`, Linux 3.8).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// The result of one pass.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// One for each process.
    pub uses: Vec<Use>,
    /// Processes that are there and may not be looked at; without `CAP_SYS_PTRACE` most are. A namespace may have users
    /// that are not in `uses`.
    pub unreadable: usize,
}

/// /proc did not tell.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// /proc could not be listed.
    #[error("cannot list the processes in {root}: {source}")]
    List {
        /// Where /proc is.
        root: PathBuf,
        /// Why not.
        source: Box<ProcError>,
    },
    /// It is a container's /proc.
    #[error("{0} does not show the host's processes; run with hostPID, or mount the host's /proc")]
    NotTheHost(PathBuf),
    /// The host's namespace could not be read.
    #[error("cannot read the host's network namespace in {root}: {source}; give CAP_SYS_PTRACE")]
    Host {
        /// Where /proc is.
        root: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Looks at every process below `root`, the host's /proc.
pub fn scan(root: &Path) -> Result<Scan, NetnsError> {
    let failed = |source| NetnsError::List { root: root.to_owned(), source: Box::new(source) };
    let mut scan = Scan::default();
    // Many processes share a cgroup; each path is read once.
    let mut identities: HashMap<String, Arc<Identity>> = HashMap::new();
    for process in all_processes_with_root(root).map_err(failed)? {
        match process.and_then(|process| look(&process, &mut identities)) {
            Ok(found) => scan.uses.push(found),
            Err(error) if task::is_gone(&error) => {}
            Err(_) => scan.unreadable += 1,
        }
    }
    Ok(scan)
}

fn look(process: &Process, identities: &mut HashMap<String, Arc<Identity>>) -> Result<Use, ProcError> {
    let Task { cgroup, started_ns } = task::read(process)?;
    let inode = inode(process)?;
    let identity = identities.entry(cgroup).or_insert_with_key(|path| Arc::new(Identity::from_path(path)));
    let pid = u32::try_from(process.pid()).unwrap_or(0);
    Ok(Use { inode, witness: Witness { pid, started_ns }, identity: Arc::clone(identity) })
}

fn inode(process: &Process) -> Result<u32, ProcError> {
    let number = process.open_relative("ns/net")?.metadata()?.ino();
    u32::try_from(number)
        .map_err(|_| ProcError::Other(format!("namespace number {number} has more than 32 bits")))
}

/// Whether the processes in `root` have the numbers there that the kernel gives them: it is not a container's /proc.
pub fn shows_the_host(root: &Path) -> bool {
    // This process says it where it is in the host's namespace itself. Where it only has the host's /proc mounted,
    // process 2 does, the parent of the kernel's threads.
    ["self", "2"].into_iter().any(|process| {
        std::fs::metadata(root.join(process).join("ns/pid"))
            .is_ok_and(|namespace| namespace.ino() == INITIAL_PID_NAMESPACE)
    })
}

/// The host's own network namespace.
pub fn host_namespace(root: &Path) -> Result<u32, NetnsError> {
    let number = |pid: u32, kind: &str| {
        std::fs::metadata(root.join(format!("{pid}/ns/{kind}"))).map(|file| file.ino())
    };
    // Process 1 may have more capabilities than this one and then be closed to it; process 2 is the parent of the
    // kernel's threads. In a container's pid namespace both mean something else.
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for pid in [1, 2] {
        match (number(pid, "pid"), number(pid, "net")) {
            (Ok(INITIAL_PID_NAMESPACE), Ok(number)) => {
                return u32::try_from(number).map_err(|error| host_error(root, io::Error::other(error)));
            }
            (Ok(_), Ok(_)) => return Err(NetnsError::NotTheHost(root.to_owned())),
            (Err(error), _) | (_, Err(error)) => failure = error,
        }
    }
    Err(host_error(root, failure))
}

fn host_error(root: &Path, source: io::Error) -> NetnsError {
    NetnsError::Host { root: root.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::{host_namespace, scan};
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    fn own_namespace() -> u32 {
        u32::try_from(std::fs::metadata("/proc/self/ns/net").expect("/proc").ino()).expect("32 bits")
    }

    #[test]
    fn this_process_is_found_in_its_namespace() {
        let root = Path::new("/proc");
        let scan = scan(root).expect("/proc");
        let own =
            scan.uses.iter().find(|found| found.witness.pid == std::process::id()).expect("this process");
        assert_eq!(own.inode, own_namespace());
    }

    #[test]
    fn processes_of_one_cgroup_share_one_identity() {
        let scan = scan(Path::new("/proc")).expect("/proc");
        for one in &scan.uses {
            for other in scan.uses.iter().filter(|other| other.identity.path == one.identity.path) {
                assert!(std::sync::Arc::ptr_eq(&one.identity, &other.identity));
            }
        }
    }

    #[test]
    fn a_proc_that_is_not_there_is_named() {
        let root = Path::new("/nowhere/proc");
        assert!(scan(root).expect_err("nothing there").to_string().contains("/nowhere/proc"));
        assert!(host_namespace(root).expect_err("nothing there").to_string().contains("/nowhere/proc"));
    }
}
