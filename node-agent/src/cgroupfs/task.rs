//! The cgroup of one process, for sockets whose own cgroup says nothing.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use procfs::process::Process;
use procfs::{FromBufRead, ProcError, ProcessCGroup, ProcessCGroups};

use crate::identity::Identity;

/// Which hierarchy to believe first. Runtimes put their containers into all of these; `name=systemd` also has services.
const TELLING: [&str; 4] = ["memory", "pids", "cpu", "name=systemd"];

/// One process, as /proc shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its cgroup, from the root of the hierarchy that says most.
    pub cgroup: String,
    /// When it started, `CLOCK_BOOTTIME` ns, rounded down to a tick (10 ms). A task that started after the transition it
    /// is asked for is a later one with the same number.
    pub started_ns: u64,
}

/// /proc did not tell.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// Something other than that the process is gone.
    #[error("cannot read {file} of process {pid} in {root}: {source}; is that the host's /proc?")]
    Read {
        /// The process.
        pid: u32,
        /// The file.
        file: &'static str,
        /// Where /proc is.
        root: PathBuf,
        /// Why not.
        source: Box<ProcError>,
    },
}

/// The cgroup of process `pid` and its start; `None` when it is gone. `root` is the host's /proc.
pub fn task(root: &Path, pid: u32) -> Result<Option<Task>, TaskError> {
    let failed = |file, source| match source {
        source if is_gone(&source) => Ok(None),
        source => Err(TaskError::Read { pid, file, root: root.to_owned(), source: Box::new(source) }),
    };
    let process = match Process::new_with_root(root.join(pid.to_string())) {
        Ok(process) => process,
        Err(source) => return failed("the directory", source),
    };
    match read(&process) {
        Ok(task) => Ok(Some(task)),
        Err(source) => failed("cgroup and stat", source),
    }
}

pub(super) fn read(process: &Process) -> Result<Task, ProcError> {
    let mut text = Vec::new();
    process.open_relative("cgroup")?.read_to_end(&mut text)?;
    let cgroup = cgroup_of(&String::from_utf8_lossy(&text))?;
    Ok(Task { cgroup, started_ns: started_ns(process.stat()?.starttime) })
}

/// `starttime` counts ticks since boot, suspend included.
fn started_ns(ticks: u64) -> u64 {
    let per_second = procfs::ticks_per_second().max(1);
    (ticks / per_second) * 1_000_000_000 + (ticks % per_second) * 1_000_000_000 / per_second
}

pub(super) fn is_gone(error: &ProcError) -> bool {
    match error {
        ProcError::NotFound(_) => true,
        // A process that has ended answers so to an open descriptor.
        ProcError::Io(error, _) => error.raw_os_error() == Some(libc::ESRCH),
        _ => false,
    }
}

/// Of the text of /proc/PID/cgroup the path that says most: one that names a container or pod, else one that names
/// anything, each time the unified hierarchy first. A controller alone in v1 is often the only one that is not at `/`.
pub fn cgroup_of(text: &str) -> Result<String, ProcError> {
    // procfs splits at the first two colons only: a driver mismatch puts more into the path.
    let mut groups: Vec<ProcessCGroup> =
        ProcessCGroups::from_buf_read(Cursor::new(text.as_bytes()))?.into_iter().collect();
    groups.sort_by_key(rank);
    let paths: Vec<String> = groups.into_iter().map(|group| alive(group.pathname)).collect();
    let says =
        |test: fn(&Identity) -> bool| paths.iter().find(|path| test(&Identity::from_path(path))).cloned();
    let told = says(Identity::is_contained).or_else(|| says(|identity| !identity.is_root()));
    Ok(told.unwrap_or_else(|| "/".to_owned()))
}

fn rank(group: &ProcessCGroup) -> usize {
    if group.hierarchy == 0 {
        return 0;
    }
    let place = TELLING.iter().position(|telling| group.controllers.iter().any(|name| name == telling));
    1 + place.unwrap_or(TELLING.len())
}

/// The kernel marks a removed cgroup in this file (`proc_cgroup_show`, `kernel/cgroup/cgroup.c`).
fn alive(mut path: String) -> String {
    if let Some(shorter) = path.strip_suffix(" (deleted)").map(str::len) {
        path.truncate(shorter);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::{cgroup_of, started_ns, task};
    use std::path::Path;

    fn chosen(text: &str) -> String {
        cgroup_of(text).expect("a well-formed file")
    }

    #[test]
    fn the_unified_hierarchy_is_believed_where_it_says_something() {
        assert_eq!(chosen("0::/system.slice/a.service\n"), "/system.slice/a.service");
        assert_eq!(chosen("4:memory:/b\n0::/a\n"), "/a");
        assert_eq!(chosen("0::/\n"), "/");
        assert_eq!(chosen(""), "/");
    }

    #[test]
    fn where_the_unified_hierarchy_is_at_its_root_the_most_telling_controller_speaks() {
        assert_eq!(chosen("9:name=systemd:/s\n8:pids:/p\n4:memory:/m\n1:cpu,cpuacct:/c\n0::/\n"), "/m");
        assert_eq!(chosen("9:name=systemd:/s\n8:pids:/p\n4:memory:/\n1:cpu,cpuacct:/c\n0::/\n"), "/p");
        assert_eq!(chosen("9:name=systemd:/s\n1:cpu,cpuacct:/c\n0::/\n"), "/c");
        assert_eq!(chosen("9:name=systemd:/s\n5:devices:/d\n0::/\n"), "/s");
    }

    #[test]
    fn a_container_is_believed_before_the_unit_of_its_runtime() {
        let text = "4:memory:/kubepods/podx\n0::/system.slice/containerd.service\n";
        assert_eq!(chosen(text), "/kubepods/podx");
    }

    #[test]
    fn colons_in_the_path_and_the_mark_of_a_removed_group_are_read() {
        let text = "0::/system.slice/containerd.service/kubepods-podx.slice:cri-containerd:abc (deleted)\n";
        assert_eq!(chosen(text), "/system.slice/containerd.service/kubepods-podx.slice:cri-containerd:abc");
    }

    #[test]
    fn a_file_that_makes_no_sense_is_an_error() {
        assert!(cgroup_of("x:y\n").is_err());
    }

    #[test]
    fn this_process_is_there_and_one_that_cannot_be_is_gone() {
        let own = task(Path::new("/proc"), std::process::id()).expect("readable").expect("alive");
        assert!(own.cgroup.starts_with('/') && own.started_ns > 0);
        assert_eq!(task(Path::new("/proc"), u32::from(u16::MAX) * 1000).expect("no error"), None);
    }

    #[test]
    fn ticks_become_nanoseconds_without_overflow() {
        let second = procfs::ticks_per_second();
        assert_eq!(started_ns(second * 3), 3_000_000_000);
        assert_eq!(started_ns(second * 1_000_000_000), 1_000_000_000_000_000_000);
    }
}
