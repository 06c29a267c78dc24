//! The path of a cgroup from its id, whatever the size of the tree: cgroupfs decodes file handles that hold just the
//! id (`kernfs_fh_to_dentry`, `fs/kernfs/mount.c`, Linux 5.5).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::{ffi::OsStrExt, fs::MetadataExt};
use std::path::{Path, PathBuf};

/// `FILEID_KERNFS` (`include/linux/exportfs.h`): the handle is the 64-bit id of a kernfs node.
const FILEID_KERNFS: i32 = 0xfe;

/// `CGROUP2_SUPER_MAGIC` and `CGROUP_SUPER_MAGIC` (`include/uapi/linux/magic.h`).
const CGROUP_MAGICS: [rustix::fs::FsWord; 2] = [0x6367_7270, 0x27_e0eb];

/// A `struct file_handle` with room for one id.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    id: [u8; 8],
}

/// A look-up by id failed, for a reason other than that there is no such cgroup.
#[derive(Debug, thiserror::Error)]
pub enum ByIdError {
    /// The mount could not be opened.
    #[error("cannot open {path} to look cgroups up by id: {source}")]
    Mount {
        /// The mount.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is another file system; asked for an id it would say that there is none.
    #[error("{0} is not on a cgroup file system; mount the host's /sys/fs/cgroup there")]
    NotCgroups(PathBuf),
    /// The capability is missing.
    #[error(
        "cannot look cgroup {id} up by its id: open_by_handle_at on {path} is not permitted; give CAP_DAC_READ_SEARCH \
         (in the initial user namespace), or cgroups made while events were lost stay unknown"
    )]
    NotPermitted {
        /// The id.
        id: u64,
        /// The mount.
        path: PathBuf,
    },
    /// The kernel refused otherwise.
    #[error("cannot look cgroup {id} up by its id on {path}: {step}: {source}")]
    Refused {
        /// The id.
        id: u64,
        /// The mount.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Looks cgroups up by id on one mount.
#[derive(Debug)]
pub struct ById {
    mount: File,
    path: PathBuf,
    /// How the kernel writes the mount's own path.
    prefix: PathBuf,
}

impl ById {
    /// Opens the mount of a hierarchy.
    pub fn new(mount: &Path) -> Result<Self, ByIdError> {
        let failed = |source| ByIdError::Mount { path: mount.to_owned(), source };
        let file = File::open(mount).map_err(failed)?;
        let kind = rustix::fs::fstatfs(&file).map_err(|error| failed(error.into()))?.f_type;
        if !CGROUP_MAGICS.contains(&kind) {
            return Err(ByIdError::NotCgroups(mount.to_owned()));
        }
        let prefix = path_of(file.as_raw_fd()).map_err(failed)?;
        Ok(Self { mount: file, path: mount.to_owned(), prefix })
    }

    /// Looks the mount itself up, to learn whether this process may.
    pub fn probe(&self) -> Result<(), ByIdError> {
        let failed = |source| ByIdError::Mount { path: self.path.clone(), source };
        let id = self.mount.metadata().map_err(failed)?.ino();
        self.path(id).map(drop)
    }

    /// The path of a cgroup from the root of the hierarchy; `None` when there is none with that id (any more).
    pub fn path(&self, id: u64) -> Result<Option<String>, ByIdError> {
        let refused = |step| move |source| ByIdError::Refused { id, path: self.path.clone(), step, source };
        let directory = match self.open(id) {
            Ok(directory) => directory,
            Err(error) => {
                return match error.raw_os_error() {
                    Some(libc::ESTALE | libc::ENOENT) => Ok(None),
                    Some(libc::EPERM) => Err(ByIdError::NotPermitted { id, path: self.path.clone() }),
                    _ => Err(refused("open_by_handle_at")(error)),
                };
            }
        };
        let full = path_of(directory.as_raw_fd()).map_err(refused("reading /proc/self/fd"))?;
        Ok(below(&full, &self.prefix))
    }

    #[expect(unsafe_code, reason = "neither std nor rustix binds open_by_handle_at")]
    fn open(&self, id: u64) -> io::Result<OwnedFd> {
        let mut handle = Handle { bytes: 8, kind: FILEID_KERNFS, id: id.to_ne_bytes() };
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: `handle` has the layout of `struct file_handle` with `bytes` bytes after the header, and outlives the
        // call; the mount's descriptor is open.
        let fd = unsafe { libc::open_by_handle_at(self.mount.as_raw_fd(), (&raw mut handle).cast(), flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just returned it, and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

fn path_of(fd: RawFd) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{fd}"))
}

/// The part of `full` below the mount. `None` for a directory that was removed between the two calls and for one
/// outside of what the mount shows.
fn below(full: &Path, prefix: &Path) -> Option<String> {
    // `d_path` marks what is unlinked; a cgroup's name may end so too, and then its path is better unknown than wrong.
    if full.as_os_str().as_bytes().ends_with(b" (deleted)") {
        return None;
    }
    let rest = full.strip_prefix(prefix).ok()?;
    Some(format!("/{}", rest.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::{ById, ByIdError, below};
    use std::path::Path;

    #[test]
    fn paths_start_at_the_root_of_the_hierarchy() {
        let below = |full: &str, prefix: &str| below(Path::new(full), Path::new(prefix));
        assert_eq!(below("/sys/fs/cgroup/a/b", "/sys/fs/cgroup").as_deref(), Some("/a/b"));
        assert_eq!(below("/sys/fs/cgroup", "/sys/fs/cgroup").as_deref(), Some("/"));
        assert_eq!(below("/elsewhere", "/sys/fs/cgroup"), None);
        assert_eq!(below("/sys/fs/cgroup/a (deleted)", "/sys/fs/cgroup"), None);
    }

    #[test]
    fn a_file_system_that_is_not_cgroupfs_is_an_error_and_not_an_unknown_cgroup() {
        let root = tempfile::tempdir().expect("temporary directory");
        let error = ById::new(root.path()).expect_err("not cgroupfs");
        assert!(matches!(error, ByIdError::NotCgroups(_)), "{error}");
    }

    #[test]
    fn a_mount_that_is_not_there_is_named() {
        let error = ById::new(Path::new("/nowhere/cgroup")).expect_err("nothing there").to_string();
        assert!(error.contains("/nowhere/cgroup"), "{error}");
    }
}
