//! One set of maps, programs and links in the directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::programs::links::{FdLink, LinkError, PinnedLink};

use crate::kernel::error::BoxError;

/// Ends the name of a set whose programs had traced nobody for a while, for want of a reader.
const RUN_OUT: &str = "-over";
/// Ends the name of one that another process has ended.
const ENDED: &str = "-ended";

/// A set's place. Nothing need be there yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kernel) struct Set {
    path: PathBuf,
}

impl Set {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where something of the set is pinned.
    pub(in crate::kernel) fn place(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where the hook's program is.
    pub(in crate::kernel) fn program(&self) -> PathBuf {
        self.place("program")
    }

    fn link(&self, number: usize) -> PathBuf {
        self.place(&format!("link_{number}"))
    }

    /// Makes room for a new set.
    pub(in crate::kernel) fn make(&self) -> io::Result<()> {
        self.remove()?;
        fs::create_dir(&self.path)
    }

    /// Moves it to where no process takes it over. `has_run_out`: nobody was traced for a while.
    pub(in crate::kernel) fn set_aside(&self, has_run_out: bool) -> io::Result<()> {
        let mut aside = self.path.clone().into_os_string();
        aside.push(if has_run_out { RUN_OUT } else { ENDED });
        Self::at(aside.clone().into()).remove()?;
        fs::rename(&self.path, aside)
    }

    /// Whether it was set aside as one whose programs had traced nobody for a while.
    pub(in crate::kernel) fn has_run_out(&self) -> bool {
        self.path.to_string_lossy().ends_with(RUN_OUT)
    }

    /// Pins links, the first last: with it the set is whole.
    pub(in crate::kernel) fn pin_links(&self, links: Vec<FdLink>) -> Result<Vec<PinnedLink>, BoxError> {
        let mut pinned = Vec::new();
        for (number, link) in links.into_iter().enumerate().rev() {
            pinned.push(link.pin(self.link(number))?);
        }
        Ok(pinned)
    }

    /// The links that are pinned, so many.
    pub(in crate::kernel) fn links(&self, count: usize) -> Result<Vec<PinnedLink>, LinkError> {
        (0..count).map(|number| PinnedLink::from_pin(self.link(number))).collect()
    }

    /// Whether all of them are there.
    pub(in crate::kernel) fn has_links(&self, count: usize) -> bool {
        count != 0 && (0..count).all(|number| self.link(number).exists())
    }

    /// Removes the links alone: the programs are detached when nobody holds them open any more.
    pub(in crate::kernel) fn remove_links(&self) -> io::Result<()> {
        self.remove_those(|name| name.starts_with("link_"))?;
        self.remove_those(|name| name == "program")
    }

    /// Removes all of it. The first link goes first, so that what is left of a removal cut short is no set.
    pub(in crate::kernel) fn remove(&self) -> io::Result<()> {
        if !self.path.exists() {
            return Ok(());
        }
        remove_file(&self.link(0))?;
        self.remove_those(|_| true)?;
        fs::remove_dir(&self.path)
    }

    fn remove_those(&self, which: impl Fn(&str) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if which(&entry.file_name().to_string_lossy()) {
                remove_file(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::Set;

    #[test]
    fn a_set_that_has_run_out_is_known_by_its_name() {
        let folder = std::env::temp_dir().join(format!("sets-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let set = Set::at(folder.join("set-1"));
        let mut names = Vec::new();
        for has_run_out in [true, false] {
            set.make().unwrap();
            set.set_aside(has_run_out).unwrap();
        }
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            names.push((Set::at(entry.path()).has_run_out(), entry.file_name().into_string().unwrap()));
        }
        std::fs::remove_dir_all(&folder).unwrap();
        names.sort();
        assert_eq!(names, [(false, "set-1-ended".to_owned()), (true, "set-1-over".to_owned())]);
        assert!(!set.has_run_out());
    }
}
