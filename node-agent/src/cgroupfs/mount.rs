//! Where the unified hierarchy is mounted. It may be `/sys/fs/cgroup`, beside cgroup v1 at `/sys/fs/cgroup/unified`,
//! or, in a container, wherever the host's tree was put: so the mounts are asked, never assumed.

use std::io::{self, Cursor};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use procfs::process::MountInfo;
use procfs::{FromBufRead, ProcessCGroup, ProcessCGroups};

use crate::identity::ROOT_CGROUP_ID;

/// Which hierarchies have the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// cgroup v2 alone: a socket's cgroup names its owner.
    Unified,
    /// cgroup v1 has the controllers and cgroup v2 is mounted beside it: a socket's cgroup may say nothing.
    Hybrid,
    /// cgroup v1 alone: a socket's cgroup is the root.
    Legacy,
}

/// A hierarchy of cgroup v1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// The controller by which it was chosen.
    pub controller: &'static str,
    /// As /proc/PID/cgroup numbers it.
    pub number: u32,
    /// Where all of it is mounted, if that is anywhere.
    pub mount: Option<PathBuf>,
}

/// The unified hierarchy's mount, as far as there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Which hierarchies have the processes.
    pub layout: Layout,
    /// Where the unified hierarchy is mounted. Absent in [`Layout::Legacy`].
    pub cgroup2: Option<PathBuf>,
    /// The mount shows the whole hierarchy, not only the part below a private cgroup namespace's root.
    pub is_whole: bool,
    /// The hierarchy of cgroup v1 by which containers are told apart. Absent in [`Layout::Unified`].
    pub tasks: Option<Hierarchy>,
}

/// The mounts could not be read, or are not what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A file of /proc could not be read.
    #[error("cannot read {path} to find the cgroup mounts: {source}; is /proc mounted?")]
    Read {
        /// The file.
        path: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// No cgroup file system at all.
    #[error("no cgroup file system is mounted; mount the host's /sys/fs/cgroup read-only")]
    None,
    /// The configured directory is not on a cgroup2 mount.
    #[error(
        "no cgroup2 file system is mounted at or below {0}; mount the host's /sys/fs/cgroup there, read-only"
    )]
    NotBelow(PathBuf),
}

impl Mount {
    /// Looks at this process's mounts. `below` is where the host's /sys/fs/cgroup was put, when it is told.
    pub fn find(below: Option<&Path>) -> Result<Self, MountError> {
        let mounts = read("/proc/self/mountinfo")?;
        let hierarchies = read("/proc/self/cgroup")?;
        let mount = Self::choose(&mounts, &hierarchies, below, |path| {
            std::fs::metadata(path).is_ok_and(|directory| directory.ino() == ROOT_CGROUP_ID)
        });
        match (mount, below) {
            (Some(mount), _) => Ok(mount),
            (None, Some(below)) => Err(MountError::NotBelow(below.to_owned())),
            (None, None) => Err(MountError::None),
        }
    }

    /// The one to read by. `mountinfo` and `hierarchies` are the texts of /proc/self/mountinfo and /proc/self/cgroup.
    pub fn choose(
        mountinfo: &[u8],
        hierarchies: &[u8],
        below: Option<&Path>,
        is_root: impl Fn(&Path) -> bool,
    ) -> Option<Self> {
        // Line by line: one mount with an odd name must not hide all the others.
        let text = String::from_utf8_lossy(mountinfo);
        let mounts: Vec<MountInfo> =
            text.lines().filter_map(|line| MountInfo::from_line(line).ok()).collect();
        let of_type = |kind: &'static str| mounts.iter().filter(move |mount| mount.fs_type == kind);
        let mut points: Vec<PathBuf> = of_type("cgroup2").map(|mount| unescape(&mount.mount_point)).collect();
        if let Some(below) = below {
            points.retain(|point| point.starts_with(below));
        }
        // In a container its own part of the tree is mounted too; prefer the mount that shows everything. Of two that
        // hide each other the later is the visible one.
        points.reverse();
        let whole = points.iter().find(|point| is_root(point));
        let is_whole = whole.is_some();
        let cgroup2 = whole.or(points.first()).cloned();
        let candidates = grouping(hierarchies).into_iter().map(|(controller, number)| {
            let has = |mount: &&MountInfo| mount.super_options.contains_key(controller);
            let points = of_type("cgroup").filter(has).map(|mount| unescape(&mount.mount_point));
            let points = points.filter(|point| below.is_none_or(|below| point.starts_with(below)));
            Hierarchy { controller, number, mount: points.filter(|point| is_root(point)).last() }
        });
        // One of which nothing is to be seen names its cgroups only as they are made.
        let tasks = candidates.min_by_key(|tasks| tasks.mount.is_none());
        let is_there = |tasks: &Hierarchy| below.is_none() || tasks.mount.is_some();
        let layout = match cgroup2 {
            Some(_) if tasks.is_some() => Layout::Hybrid,
            Some(_) => Layout::Unified,
            None if tasks.as_ref().is_some_and(is_there) => Layout::Legacy,
            None if below.is_none() && of_type("cgroup").next().is_some() => Layout::Legacy,
            None => return None,
        };
        Some(Self { layout, cgroup2, is_whole, tasks })
    }
}

/// The controllers by which processes are grouped, the surest first: runtimes put their containers into the hierarchies
/// of all of them, but a kernel may have been started without memory's.
const GROUPING: [&str; 3] = ["memory", "pids", "cpu"];

/// Which of these are in a hierarchy of cgroup v1, and its number. All hierarchies of the kernel are in the list,
/// mounted here or not; a `net_cls` that a VPN client mounted for itself does not count.
fn grouping(hierarchies: &[u8]) -> Vec<(&'static str, u32)> {
    let text = String::from_utf8_lossy(hierarchies);
    let groups = ProcessCGroups::from_buf_read(Cursor::new(text.as_bytes()));
    let groups: Vec<_> = groups.into_iter().flatten().collect();
    let number = |controller: &str| {
        let has = |group: &&ProcessCGroup| group.controllers.iter().any(|name| name == controller);
        groups.iter().find(has).map(|group| group.hierarchy)
    };
    GROUPING.into_iter().filter_map(|controller| Some((controller, number(controller)?))).collect()
}

/// mountinfo writes space, tab, newline and backslash as three octal digits (`seq_path`, `fs/seq_file.c`).
fn unescape(path: &Path) -> PathBuf {
    let text = path.to_string_lossy();
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    PathBuf::from(
        codes.iter().fold(text.into_owned(), |text, (code, character)| text.replace(code, character)),
    )
}

fn read(path: &'static str) -> Result<Vec<u8>, MountError> {
    std::fs::read(path).map_err(|source| MountError::Read { path, source })
}

#[cfg(test)]
mod tests {
    use super::{Hierarchy, Layout, Mount};
    use std::path::{Path, PathBuf};

    const V2: &str = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const V1: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    const V1_GROUPS: &str = "4:memory:/a\n1:name=systemd:/\n0::/\n";
    const V2_GROUPS: &str = "0::/system.slice/a.service\n";

    fn choose(mounts: &str, groups: &str, below: Option<&str>) -> Option<(Layout, Option<PathBuf>)> {
        let mount = Mount::choose(mounts.as_bytes(), groups.as_bytes(), below.map(Path::new), |_| true)?;
        Some((mount.layout, mount.cgroup2))
    }

    #[test]
    fn the_three_layouts_are_told_apart() {
        let at = |path: &str| Some(PathBuf::from(path));
        assert_eq!(choose(V2, V2_GROUPS, None), Some((Layout::Unified, at("/sys/fs/cgroup"))));
        assert_eq!(choose(HYBRID, V1_GROUPS, None), Some((Layout::Hybrid, at("/sys/fs/cgroup/unified"))));
        assert_eq!(choose(V1, V1_GROUPS, None), Some((Layout::Legacy, None)));
        assert_eq!(choose("", V2_GROUPS, None), None);
    }

    #[test]
    fn containers_are_told_apart_by_the_first_grouping_controller_of_cgroup_v1() {
        let tasks = |mounts: &str, groups: &str| {
            Mount::choose(mounts.as_bytes(), groups.as_bytes(), None, |_| true).and_then(|mount| mount.tasks)
        };
        let memory = PathBuf::from("/sys/fs/cgroup/memory");
        let found = tasks(HYBRID, V1_GROUPS);
        assert_eq!(found, Some(Hierarchy { controller: "memory", number: 4, mount: Some(memory) }));
        let found = tasks(HYBRID, "8:cpu,cpuacct:/\n3:pids:/\n0::/\n");
        assert_eq!(found, Some(Hierarchy { controller: "pids", number: 3, mount: None }));
        let pids = "36 31 0:33 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let found = tasks(pids, "4:memory:/\n3:pids:/\n0::/\n").map(|tasks| tasks.controller);
        assert_eq!(found, Some("pids"), "of memory's nothing is to be seen");
        assert_eq!(tasks(V2, V2_GROUPS), None);
    }

    #[test]
    fn where_the_configured_directory_has_cgroup_v1_alone_it_is_believed_too() {
        let mounts = "35 31 0:32 / /host/memory ro - cgroup cgroup rw,memory\n";
        assert_eq!(choose(mounts, V1_GROUPS, Some("/host")), Some((Layout::Legacy, None)));
    }

    #[test]
    fn a_controller_that_groups_no_processes_does_not_make_it_hybrid() {
        let groups = format!("2:net_cls:/\n1:name=systemd:/\n{V2_GROUPS}");
        assert_eq!(choose(V2, &groups, None).map(|found| found.0), Some(Layout::Unified));
    }

    #[test]
    fn the_configured_directory_is_taken_at_its_word() {
        let mounts = format!("{V2}90 80 0:30 / /host/sys/fs/cgroup ro - cgroup2 cgroup2 rw\n");
        let found = choose(&mounts, V2_GROUPS, Some("/host/sys/fs/cgroup")).and_then(|found| found.1);
        assert_eq!(found, Some(PathBuf::from("/host/sys/fs/cgroup")));
        assert_eq!(choose(&mounts, V2_GROUPS, Some("/elsewhere")), None);
        assert_eq!(choose(V1, V1_GROUPS, Some("/host/sys/fs/cgroup")), None, "not cgroup v1 by accident");
        assert_eq!(choose(&mounts, V2_GROUPS, Some("/host/sys/fs/cg")), None, "names, not letters");
    }

    #[test]
    fn the_whole_tree_is_preferred_to_a_private_part_of_it() {
        let mounts = format!("90 80 0:30 / /host/cgroup ro - cgroup2 cgroup2 rw\n{V2}");
        let choose = |whole: &str| {
            Mount::choose(mounts.as_bytes(), V2_GROUPS.as_bytes(), None, |path| path == Path::new(whole))
        };
        let found = choose("/host/cgroup").expect("two mounts");
        assert_eq!((found.cgroup2, found.is_whole), (Some(PathBuf::from("/host/cgroup")), true));
        let found = choose("/nowhere").expect("two mounts");
        assert_eq!((found.cgroup2, found.is_whole), (Some(PathBuf::from("/sys/fs/cgroup")), false));
    }

    #[test]
    fn odd_lines_hide_nothing_and_odd_names_are_read() {
        let mut mounts = b"rubbish\n\n1 2 0:3 / /mnt/\xff\xfe rw - ext4 /dev/sda rw\n".to_vec();
        mounts.extend_from_slice(b"90 80 0:30 / /host/a\\040b\\134 ro - cgroup2 cgroup2 rw\n");
        let mount = Mount::choose(&mounts, V2_GROUPS.as_bytes(), None, |_| true).expect("a mount");
        assert_eq!(mount.cgroup2, Some(PathBuf::from("/host/a b\\")));
    }
}
