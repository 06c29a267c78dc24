//! Which version of a package a release has today.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::debian::Archive;
use crate::step;

/// By the name of the package.
pub(super) type Versions = BTreeMap<String, String>;

/// Reads a release's lists anew. apt is content with old ones, or with none, where it reaches no mirror.
pub(super) fn lists(into: &Path, release: &str) -> Result<Archive> {
    // None are there at the first time.
    drop(fs::remove_dir_all(into));
    let archive = Archive::open(into, release)?;
    let files = fs::read_dir(into.join("apt/lists")).context("list what apt has read")?;
    let is_there = files.flatten().any(|file| file.file_name().to_string_lossy().contains("_Packages"));
    ensure!(is_there, "Debian {release} could not be asked what it has today: apt reached no mirror");
    Ok(archive)
}

/// The version of each of the packages, by the lists that were read into `lists`. Names those that there are not.
pub(super) fn of(lists: &Path, release: &str, packages: &[&str]) -> Result<Versions> {
    let mut apt = Command::new("apt-cache");
    apt.env("APT_CONFIG", lists.join("apt/apt.conf")).env("LC_ALL", "C");
    let versions = parse(&step::output(apt.arg("madison").args(packages))?);
    let missing: Vec<_> =
        packages.iter().filter(|package| !versions.contains_key(**package)).copied().collect();
    ensure!(missing.is_empty(), "Debian {release} lacks today: {}", missing.join(", "));
    Ok(versions)
}

/// Lines such as `kubectl | 1.36.4+ds-1 | http://deb.debian.org/debian sid/main amd64 Packages`, the newest first; those of
/// sources are left out.
fn parse(lines: &str) -> Versions {
    let mut versions = Versions::new();
    for line in lines.lines().filter(|line| line.ends_with(" Packages")) {
        let mut columns = line.split('|').map(str::trim);
        if let (Some(package), Some(version)) = (columns.next(), columns.next()) {
            versions.entry(package.to_owned()).or_insert_with(|| version.to_owned());
        }
    }
    versions
}

/// Whether a package is one of the libraries that Kubernetes is made of.
pub(super) fn is_kubernetes(package: &str) -> bool {
    package.starts_with("golang-k8s-")
}

/// The release of Kubernetes that a library belongs to: `0.36.4-1` to 1.36.4. The libraries count from 0.
pub(super) fn kubernetes(library: &str) -> Result<String> {
    let upstream = library.split(['-', '+', '~']).next().unwrap_or_default();
    let rest = upstream.strip_prefix("0.").filter(|rest| rest.split('.').all(is_number));
    rest.map(|rest| format!("1.{rest}"))
        .with_context(|| format!("{library} is of no Kubernetes that is known"))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_binary_package_of_a_name_counts() {
        let lines = "   kubectl | 1.36.4+ds-1 | http://mirror/debian sid/main amd64 Packages\n\
                     kubectl | 1.33.4-1 | http://mirror/debian sid/main amd64 Packages\n\
                     etcd |  3.5.16-10 | http://mirror/debian sid/main Sources\n\
                     golang-go |   2:1.27~1 | http://mirror/debian sid/main amd64 Packages\n";
        let expected = [("golang-go", "2:1.27~1"), ("kubectl", "1.36.4+ds-1")];
        let expected = expected.map(|(package, version)| (package.to_owned(), version.to_owned()));
        assert_eq!(parse(lines), Versions::from(expected));
    }

    #[test]
    fn a_library_tells_its_kubernetes() {
        assert_eq!(kubernetes("0.36.4-1").unwrap(), "1.36.4");
        assert_eq!(kubernetes("0.37.0~rc.1-1").unwrap(), "1.37.0");
        assert!(kubernetes("2.1-1").is_err() && kubernetes("0.x-1").is_err());
    }
}
