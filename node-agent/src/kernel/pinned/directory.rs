//! The directory, and who may work with it.

use std::{
    fs::{self, DirBuilder, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock, statfs};

use super::Set;

/// `BPF_FS_MAGIC`, `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
const SET: &str = "set-";
/// Whoever opens a map can read what is in it, and write.
const OWNER_ALONE: u32 = 0o700;

/// Why nothing can be pinned.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The directory is somewhere else.
    #[error("{0} is not in a BPF file system: mount one there (mount -t bpf bpf DIRECTORY), or its parent's")]
    NoBpffs(PathBuf),
    /// It cannot be made, opened or read.
    #[error("{path}: {source}")]
    System {
        /// The directory.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
}

/// A directory in a BPF file system, locked for as long as this lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

impl Directory {
    /// Locks the directory, which is made if need be. `None`: another process has it.
    pub fn try_lock(path: &Path) -> Result<Option<Self>, DirectoryError> {
        let system = |source| DirectoryError::System { path: path.to_owned(), source };
        if let Err(error) = DirBuilder::new().mode(OWNER_ALONE).create(path)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            let is_near = path.parent().is_some_and(is_bpffs);
            return Err(if is_near { system(error) } else { DirectoryError::NoBpffs(path.to_owned()) });
        }
        if !is_bpffs(path) {
            return Err(DirectoryError::NoBpffs(path.to_owned()));
        }
        let lock = File::open(path).map_err(system)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { path: path.to_owned(), _lock: lock })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(system(errno.into())),
        }
    }

    /// The place of the set that is told apart by these: what does not fit together must not be taken for one.
    pub(in crate::kernel) fn set(&self, told_apart_by: &[&[u8]]) -> Set {
        let mut hasher = DefaultHasher::new();
        told_apart_by.hash(&mut hasher);
        Set::at(self.path.join(format!("{SET}{:016x}", hasher.finish())))
    }

    /// All sets that are there.
    pub(in crate::kernel) fn sets(&self) -> Vec<Set> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let sets = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(SET));
        sets.map(|entry| Set::at(entry.path())).collect()
    }

    /// Removes it, if nothing is left in it.
    pub(in crate::kernel) fn remove(&self) {
        let _ = fs::remove_dir(&self.path);
    }
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|file_system| file_system.f_type == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::{Directory, DirectoryError};

    #[test]
    fn a_directory_elsewhere_is_refused() {
        let path = std::env::temp_dir().join(format!("pinned-{}", std::process::id()));
        let refused = Directory::try_lock(&path).unwrap_err();
        let _ = std::fs::remove_dir(&path);
        assert!(matches!(refused, DirectoryError::NoBpffs(_)), "{refused}");
        assert!(!path.exists());
    }
}
