//! Files of /proc in which names stand that others chose.

use kube_tcpstates::cgroupfs::{Mount, cgroup_of};

pub use crate::seed::none as seeds;

/// The text of /proc/self/mountinfo, an empty line, that of /proc/PID/cgroup. True: one of them says something.
pub fn read(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (mounts, cgroups) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut found = false;
    for is_root in [true, false] {
        let mount = Mount::choose(mounts.as_bytes(), cgroups.as_bytes(), None, |_| is_root);
        found |= mount.is_some_and(|mount| mount.cgroup2.is_some() || mount.tasks.is_some());
    }
    if let Ok(path) = cgroup_of(cgroups) {
        assert!(path == "/" || cgroups.contains(&path), "{path:?}");
        found |= path != "/";
    }
    found
}
