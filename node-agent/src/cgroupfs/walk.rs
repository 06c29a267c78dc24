//! Every cgroup there is: id and path. The id is the number of its directory (`cgroup_ino` is the kernfs id).

use std::fs;
use std::io;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::identity::ROOT_CGROUP_ID;

/// The result of one walk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Id and path from the root of the hierarchy, parents before their children.
    pub found: Vec<(u64, String)>,
    /// Directories that are there and could not be read; their children are missing.
    pub unreadable: usize,
}

/// The walk could not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot list the cgroups in {path}: {source}; mount the host's /sys/fs/cgroup read-only")]
pub struct WalkError {
    /// The mount.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

/// Walks the hierarchy mounted at `mount`. Directories that vanish meanwhile are passed over. Where the mount shows
/// only a part of the hierarchy, paths are relative to that part, and its own root, which would pass for the host's,
/// is left out.
pub fn walk(mount: &Path) -> Result<Walk, WalkError> {
    let failed = |source| WalkError { path: mount.to_owned(), source };
    let mut walk = Walk::default();
    if fs::metadata(mount).map_err(failed)?.ino() == ROOT_CGROUP_ID {
        walk.found.push((ROOT_CGROUP_ID, "/".to_owned()));
    }
    let mut waiting = vec![String::new()];
    list(mount, "", &mut walk, &mut waiting).map_err(failed)?;
    let _root = waiting.remove(0);
    while let Some(path) = waiting.pop() {
        if let Err(error) = list(mount, &path, &mut walk, &mut waiting)
            && !is_gone(&error)
        {
            walk.unreadable += 1;
        }
    }
    Ok(walk)
}

fn list(mount: &Path, path: &str, walk: &mut Walk, waiting: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(mount.join(path.trim_start_matches('/')))? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let name = entry.file_name();
        let child = format!("{path}/{}", name.to_string_lossy());
        walk.found.push((entry.ino(), child.clone()));
        if name.to_str().is_some() {
            waiting.push(child);
        } else {
            // Made to be awkward: its own id is known, its children are found by id when they are needed.
            walk.unreadable += 1;
        }
    }
    Ok(())
}

/// A directory of kernfs that was removed answers `ENOENT` to a path and `ENODEV` to an open descriptor.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

#[cfg(test)]
mod tests {
    use super::walk;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn directories_are_found_with_their_numbers_and_files_are_not() {
        let root = tempfile::tempdir().expect("temporary directory");
        fs::create_dir_all(root.path().join("a.slice/b.service")).expect("directories");
        fs::write(root.path().join("a.slice/cgroup.procs"), "1\n").expect("file");
        let mut found = walk(root.path()).expect("walk").found;
        found.sort();
        let number = |path: &str| fs::metadata(root.path().join(path)).expect("metadata").ino();
        let mut wanted = vec![
            (number("a.slice"), "/a.slice".to_owned()),
            (number("a.slice/b.service"), "/a.slice/b.service".to_owned()),
        ];
        wanted.sort();
        assert_eq!(found, wanted, "and not the root, which is not the hierarchy's");
    }

    #[test]
    fn parents_come_before_their_children() {
        let root = tempfile::tempdir().expect("temporary directory");
        fs::create_dir_all(root.path().join("a/b/c")).expect("directories");
        let paths: Vec<String> =
            walk(root.path()).expect("walk").found.into_iter().map(|(_, path)| path).collect();
        assert_eq!(paths, ["/a", "/a/b", "/a/b/c"]);
    }

    #[test]
    fn a_name_that_is_not_text_is_counted_and_does_not_end_the_walk() {
        let root = tempfile::tempdir().expect("temporary directory");
        fs::create_dir_all(root.path().join(std::ffi::OsStr::from_bytes(b"x\xff")).join("inner"))
            .expect("directories");
        fs::create_dir_all(root.path().join("z/y")).expect("directories");
        let walk = walk(root.path()).expect("walk");
        let mut paths: Vec<String> = walk.found.into_iter().map(|(_, path)| path).collect();
        paths.sort();
        assert_eq!(
            (paths, walk.unreadable),
            (vec!["/x\u{fffd}".to_owned(), "/z".to_owned(), "/z/y".to_owned()], 1)
        );
    }

    #[test]
    fn a_mount_that_is_not_there_is_an_error_that_names_it() {
        let error = walk(std::path::Path::new("/nowhere/cgroup")).expect_err("nothing there").to_string();
        assert!(error.contains("/nowhere/cgroup"), "{error}");
    }
}
