//! One set of maps, programs and links in the directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::programs::links::{FdLink, LinkError, PinnedLink};

use crate::kernel::error::BoxError;

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

    /// Moves it to where no process takes it over.
    pub(in crate::kernel) fn set_aside(&self) -> io::Result<()> {
        let mut aside = self.path.clone().into_os_string();
        aside.push("-over");
        Self::at(aside.clone().into()).remove()?;
        fs::rename(&self.path, aside)
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
