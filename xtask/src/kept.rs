//! What is built from Debian's sources for the tests, once, and kept in the cache.
//!
//! A directory holds one complete set of programs and carries in its name what it was made by; it is made beside its place
//! and renamed into it, so that an interrupted build is never used.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::step;
use crate::workspace::Workspace;

/// A directory of the cache.
pub(crate) struct Kept {
    kind: &'static str,
    name: String,
    /// How long a build takes, for whoever waits.
    expect: &'static str,
}

impl Kept {
    /// `recipe` is whatever decides what a build gives: a change to it makes another directory.
    pub(crate) fn new(kind: &'static str, expect: &'static str, recipe: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        recipe.hash(&mut hasher);
        Self { kind, name: format!("{kind}-{:016x}", hasher.finish()), expect }
    }

    /// Where it is, once it has been made.
    pub(crate) fn place(&self, workspace: &Workspace) -> PathBuf {
        workspace.cache.join(&self.name)
    }

    /// The directory, made first if it is not there: `make` gets one to work in and the one that is kept.
    pub(crate) fn home(
        &self,
        workspace: &Workspace,
        make: impl FnOnce(&Path, &Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let (home, kind) = (self.place(workspace), self.kind);
        remove_others(&workspace.cache, kind, &home);
        if home.is_dir() {
            return Ok(home);
        }
        step::say(&format!(
            "{kind} for the tests is not there yet: building it from Debian's source ({})",
            self.expect
        ));
        let start = Instant::now();
        let building = workspace.cache.join(format!("{}.building.{}", self.name, std::process::id()));
        let outcome = make_in(&building, &home, make);
        // Go leaves its module and build caches read-only in places; nothing of a build is worth an error.
        drop(fs::remove_dir_all(&building));
        outcome.with_context(|| format!("build {kind} for the tests"))?;
        step::say(&format!("{kind} is in {} after {} s", home.display(), start.elapsed().as_secs()));
        Ok(home)
    }
}

fn make_in(building: &Path, home: &Path, make: impl FnOnce(&Path, &Path) -> Result<()>) -> Result<()> {
    let (work, kept) = (building.join("work"), building.join("kept"));
    for directory in [&work, &kept] {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    }
    make(&work, &kept)?;
    match fs::rename(&kept, home) {
        // Another run was quicker: its directory is as good.
        Err(_) if home.is_dir() => Ok(()),
        outcome => outcome.with_context(|| format!("rename {} to {}", kept.display(), home.display())),
    }
}

/// Takes away what earlier recipes made and builds that were killed have left; each is large.
fn remove_others(cache: &Path, kind: &str, home: &Path) {
    let prefix = format!("{kind}-");
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let path = entry.path();
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str().filter(|name| name.starts_with(&prefix)) else { continue };
        if path != *home && !is_at_work(name) {
            drop(fs::remove_dir_all(path));
        }
    }
}

/// Whether a directory's name ends in the id of a process that still runs.
fn is_at_work(name: &str) -> bool {
    let process = name.rsplit_once(".building.").map(|(_, process)| process);
    process.is_some_and(|process| Path::new("/proc").join(process).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_goes_and_what_is_being_built_stays() {
        let cache = std::env::temp_dir().join(format!("xtask-kept-{}", std::process::id()));
        let running = format!("kubernetes-3.building.{}", std::process::id());
        for name in
            ["kubernetes-1", "kubernetes-2", "kubernetes-2.building.0", running.as_str(), "bpf-linker"]
        {
            fs::create_dir_all(cache.join(name)).unwrap();
        }
        remove_others(&cache, "kubernetes", &cache.join("kubernetes-1"));
        let mut left: Vec<_> = fs::read_dir(&cache)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        fs::remove_dir_all(&cache).unwrap();
        assert_eq!(left, ["bpf-linker", "kubernetes-1", &running]);
    }
}
