//! cgroups that look like containers', made under one parent per guard and removed with it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::requirements::is_gone;

const PARENT: &str = "kube-tcpstates-test-";

/// Where the cgroup2 hierarchy is mounted: `/sys/fs/cgroup`, or beside v1 at `/sys/fs/cgroup/unified`.
pub fn mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("read /proc/self/mounts");
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (folder, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(folder))
    })
}

/// The hierarchy of cgroup v1 by which the tracer tells containers apart, mounted in a folder of its own: one that is
/// there, or a new one. Unmounted on drop.
#[derive(Debug)]
pub struct V1 {
    folder: tempfile::TempDir,
    controller: &'static str,
}

impl V1 {
    /// Of `memory`, if that is in a hierarchy of cgroup v1, else of `pids`.
    pub fn mount() -> Self {
        let groups = fs::read_to_string("/proc/self/cgroup").expect("read /proc/self/cgroup");
        let has_memory = groups.lines().any(|line| line.split(':').nth(1) == Some("memory"));
        let (controller, data) = if has_memory { ("memory", c"memory") } else { ("pids", c"pids") };
        let folder = tempfile::tempdir().expect("make a temporary folder");
        rustix::mount::mount(controller, folder.path(), "cgroup", MountFlags::empty(), Some(data))
            .expect("mount a hierarchy of cgroup v1");
        assert!(fs::metadata(folder.path().join("cgroup.procs")).is_ok(), "it is a hierarchy");
        Self { folder, controller }
    }

    /// A script that takes the unified hierarchy away, wherever it is, and leaves this controller of cgroup v1.
    pub fn alone(&self) -> String {
        let name = self.controller;
        format!("umount --recursive --lazy /sys/fs/cgroup; mount -t cgroup -o {name} {name} /sys/fs/cgroup")
    }

    /// An empty tree of it.
    pub fn tree(&self) -> CgroupTree {
        CgroupTree::below(self.folder.path())
    }
}

impl Drop for V1 {
    fn drop(&mut self) {
        // The folder stays behind where this fails.
        let _ = unmount(self.folder.path(), UnmountFlags::DETACH);
    }
}

/// A parent of this test's own, in which containers come and go. Dropping it kills what runs inside and removes
/// everything.
#[derive(Debug)]
pub struct CgroupTree {
    root: PathBuf,
}

/// A container's cgroup, and the names that a line about it must carry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Container {
    /// Folder under the cgroup2 mount.
    pub folder: PathBuf,
    /// 64 hex digits.
    pub id: String,
    /// Of the pod it belongs to.
    pub pod_uid: String,
}

impl CgroupTree {
    /// An empty tree of cgroup2.
    pub fn new() -> Self {
        Self::below(&mount().expect("a cgroup2 mount"))
    }

    /// An empty tree of the hierarchy that is mounted there.
    pub fn below(mount: &Path) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{PARENT}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let root = mount.join(name);
        fs::create_dir(&root).unwrap_or_else(|error| panic!("make {}: {error}", root.display()));
        Self { root }
    }

    /// The root of its hierarchy.
    pub fn top(&self) -> &Path {
        self.root.parent().expect("it is below a mount")
    }

    /// The folder of a service of the host.
    pub fn service(&self, name: &str) -> PathBuf {
        let folder = self.root.join("system.slice").join(name);
        fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("make {}: {error}", folder.display()));
        folder
    }

    /// A container in a pod of its own.
    pub fn container(&self) -> Container {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.container_in_pod(&pod_uid(number), number)
    }

    /// Another container of the same pod.
    pub fn sibling(&self, of: &Container) -> Container {
        static NEXT: AtomicU32 = AtomicU32::new(0x5000_0000);
        self.container_in_pod(&of.pod_uid, NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// A container of a pod that the API server has given its uid.
    pub fn container_of(&self, pod_uid: &str) -> Container {
        static NEXT: AtomicU32 = AtomicU32::new(0x6000_0000);
        self.container_in_pod(pod_uid, NEXT.fetch_add(1, Ordering::Relaxed))
    }

    fn container_in_pod(&self, pod_uid: &str, number: u32) -> Container {
        let id = format!("{:08x}{number:08x}{:048x}", std::process::id(), 0xc0_ffee);
        let folder = self.root.join(format!("kubepods/burstable/pod{pod_uid}/{id}"));
        fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("make {}: {error}", folder.display()));
        Container { folder, id, pod_uid: pod_uid.to_owned() }
    }
}

impl Default for CgroupTree {
    fn default() -> Self {
        Self::new()
    }
}

/// A UID that no other test of this machine has at the same time.
fn pod_uid(number: u32) -> String {
    format!("{:08x}-7e57-4000-8000-{number:012x}", std::process::id())
}

impl Container {
    /// The cgroup2 id: the inode number of its folder.
    pub fn cgroup_id(&self) -> u64 {
        fs::metadata(&self.folder).expect("the container's cgroup is there").ino()
    }

    /// Path from the hierarchy's root, as `/proc/PID/cgroup` shows it.
    pub fn path(&self) -> String {
        let mount = mount().expect("a cgroup2 mount");
        let inner = self.folder.strip_prefix(&mount).expect("the cgroup is under the mount");
        format!("/{}", inner.display())
    }

    /// Takes the cgroup away, and its pod's when that was the last container, as a runtime does.
    pub fn remove(&self) {
        remove_when_empty(&self.folder);
        let pod = self.folder.parent().expect("a container is in a pod");
        // Another container may still be there.
        drop(fs::remove_dir(pod));
    }
}

impl Drop for CgroupTree {
    fn drop(&mut self) {
        clear(&self.root);
    }
}

/// Kills what runs in `folder` and below, then removes it, leaves first.
fn clear(folder: &Path) {
    // Since 5.14. Before, each process by itself.
    let killed = fs::write(folder.join("cgroup.kill"), "1").is_ok();
    remove_tree(folder, killed);
}

fn remove_tree(folder: &Path, killed: bool) {
    if !killed {
        kill_each(folder);
    }
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path(), killed);
        }
    }
    remove_when_empty(folder);
}

fn kill_each(folder: &Path) {
    let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// `rmdir` answers EBUSY until the last task has left.
fn remove_when_empty(folder: &Path) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Err(error) = fs::remove_dir(folder) {
        if error.kind() == io::ErrorKind::NotFound {
            return;
        }
        if Instant::now() > deadline {
            eprintln!("cannot remove {}: {error}", folder.display());
            return;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Removes what test processes that were killed have left.
pub fn sweep() {
    let Some(entries) = mount().and_then(|mount| fs::read_dir(mount).ok()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid =
            name.to_str().and_then(|name| name.strip_prefix(PARENT)).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(is_gone) {
            clear(&entry.path());
        }
    }
}
