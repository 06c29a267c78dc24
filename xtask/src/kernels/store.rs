//! Debian's kernels, unpacked and kept in the cache: the image, and the modules that the tests' networks need.
//!
//! A directory is made beside its place and renamed into it. What is there stays as it is: remove it to get a release's
//! newer kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Kernel;
use crate::debian::Archive;
use crate::step;
use crate::workspace::Workspace;

/// A release's newest kernel for virtual machines: small, and with all that a kernel in a cloud has.
const PACKAGE: &str = "linux-image-cloud-amd64";
/// Where a kernel's parts are, since 7.x in packages of their own.
const PARTS: [&str; 3] = ["linux-image-", "linux-binary-", "linux-modules-"];
/// In the order in which they must be loaded. What a kernel has built in is no file.
const MODULES: [&str; 4] = ["llc", "stp", "bridge", "veth"];

/// An unpacked kernel.
pub(super) struct Stored {
    directory: PathBuf,
}

impl Stored {
    /// The bootable image.
    pub(super) fn image(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    /// The modules that there are, in the order in which they must be loaded.
    pub(super) fn modules(&self) -> Vec<PathBuf> {
        let files = MODULES.map(|name| self.directory.join(format!("{name}.ko")));
        files.into_iter().filter(|file| file.exists()).collect()
    }
}

/// Fetches a kernel unless it is there.
pub(super) fn fetch(workspace: &Workspace, kernel: &Kernel) -> Result<Stored> {
    let directory = workspace.cache.join("kernels").join(kernel.name);
    if !directory.is_dir() {
        step::say(&format!("fetching kernel {} from Debian {}", kernel.name, kernel.release));
        let building = workspace.cache.join(format!("kernels.building.{}", std::process::id()));
        let outcome = make(kernel, &building, &directory);
        drop(fs::remove_dir_all(&building));
        outcome.with_context(|| format!("fetch kernel {}", kernel.name))?;
    }
    Ok(Stored { directory })
}

fn make(kernel: &Kernel, building: &Path, place: &Path) -> Result<()> {
    let (work, kept) = (building.join("work"), building.join("kept"));
    for directory in [&work, &kept] {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    }
    let archive = Archive::open(&work, kernel.release)?;
    let packages = archive.dependencies(PACKAGE, is_part)?;
    let packages: Vec<_> = packages.iter().map(String::as_str).collect();
    let unpacked = archive.unpack(&packages)?;
    let image = find(&unpacked, &|name| name == "vmlinuz" || name.starts_with("vmlinuz-"));
    let image = image.with_context(|| format!("no vmlinuz in {}", packages.join(", ")))?;
    fs::copy(&image, kept.join("vmlinuz")).with_context(|| format!("copy {}", image.display()))?;
    for module in MODULES {
        keep_module(&unpacked, module, &kept)?;
    }
    fs::create_dir_all(place.parent().context("the cache has a directory for kernels")?)?;
    match fs::rename(&kept, place) {
        // Another run was quicker: its directory is as good.
        Err(_) if place.is_dir() => Ok(()),
        outcome => outcome.with_context(|| format!("rename {} to {}", kept.display(), place.display())),
    }
}

/// Whether a line of apt's names a part of one certain kernel.
fn is_part(line: &str) -> bool {
    let version = PARTS.iter().find_map(|part| line.strip_prefix(part));
    version.is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()))
}

/// The first file below a directory whose name is as wanted.
fn find(directory: &Path, wanted: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let mut directories = vec![directory.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(entry.path());
            } else if entry.file_name().to_str().is_some_and(wanted) {
                return Some(entry.path());
            }
        }
    }
    None
}

/// A module is compressed since Debian 13; the system call that loads it wants it as it is.
fn keep_module(unpacked: &Path, module: &str, kept: &Path) -> Result<()> {
    let (plain, compressed) = (format!("{module}.ko"), format!("{module}.ko.xz"));
    let Some(file) = find(unpacked, &|name| name == plain || name == compressed) else { return Ok(()) };
    let place = kept.join(&plain);
    if file.extension().is_some_and(|extension| extension == "xz") {
        let to = fs::File::create(&place).with_context(|| format!("create {}", place.display()))?;
        step::run(Command::new("xz").args(["--decompress", "--stdout"]).arg(&file).stdout(to))
    } else {
        fs::copy(&file, &place).map(drop).with_context(|| format!("copy {}", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::is_part;

    #[test]
    fn parts_of_a_kernel_are_told_from_what_points_to_them() {
        assert!(is_part("linux-image-5.10.0-32-cloud-amd64"));
        assert!(is_part("linux-modules-7.2.13+deb14-cloud-amd64"));
        for other in [
            "linux-image-cloud-amd64",
            "linux-base-7.2.13+deb14-cloud-amd64",
            "  Depends: linux-image-5.10.0",
        ] {
            assert!(!is_part(other), "{other}");
        }
    }
}
