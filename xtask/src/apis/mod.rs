//! An API server of today for custom resources: made from the libraries of Kubernetes in Debian sid, with sid's Go, and kept in
//! the cache by their versions. With it come sid's etcd, and kubectl of sid and of the stable release.
//!
//! Nothing is installed. What a release lacks on the day is an error that names it.

mod build;
mod versions;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::debian::Archive;
use crate::kept::Kept;
use crate::step;
use crate::workspace::Workspace;
use versions::{Versions, is_kubernetes};

const TODAY: &str = "sid";
const STABLE: &str = "trixie";
/// The library that the server is made of, and the compiler, each with what it needs.
const LIBRARY: &str = "golang-k8s-apiextensions-apiserver-dev";
const COMPILER: &str = "golang-go";
/// Ready-made programs: release, package, the file in it, and the name that it gets.
const READY_MADE: &[(&str, &str, &str, &str)] = &[
    (TODAY, "etcd-server", "usr/bin/etcd", "etcd"),
    (TODAY, "kubectl", "usr/bin/kubectl", "kubectl-sid"),
    (STABLE, "kubectl", "usr/bin/kubectl", "kubectl-trixie"),
];
/// Beside the versions, a change to any of these makes another directory.
const RECIPE: [&str; 3] = [include_str!("mod.rs"), include_str!("build.rs"), include_str!("../debian.rs")];

/// The directory with `bin/`, made first if it is not there: some five minutes. The package lists are read in any case, since
/// they decide whether what is there is still of today.
pub(crate) fn home(workspace: &Workspace) -> Result<PathBuf> {
    let lists = workspace.target.join("apis");
    let today = today(&lists.join(TODAY))?;
    let stable = offered(&lists.join(STABLE), STABLE, &ready_made(STABLE))?;
    let deciding: BTreeMap<_, _> = today.iter().filter(|(package, _)| decides(package)).collect();
    tell(&deciding, &stable);
    let kept = Kept::new("apis", "five minutes on two cores", (RECIPE, build::SOURCE, &deciding, &stable));
    kept.home(workspace, |work, kept| make(work, kept, &today, &stable))
}

/// Everything that the server, the compiler and the programs need of sid, with its version.
fn today(lists: &Path) -> Result<Versions> {
    let archive = versions::lists(lists, TODAY)?;
    let mut packages: Vec<String> = ready_made(TODAY).into_iter().map(str::to_owned).collect();
    for package in [LIBRARY, COMPILER] {
        let needs = archive.dependencies(package, |line| line.starts_with("golang-"));
        packages.extend(needs.with_context(|| format!("Debian {TODAY} has no {package} today"))?);
    }
    let packages: Vec<_> = packages.iter().map(String::as_str).collect();
    versions::of(lists, TODAY, &packages)
}

fn offered(lists: &Path, release: &str, packages: &[&str]) -> Result<Versions> {
    versions::lists(lists, release)?;
    versions::of(lists, release, packages)
}

fn ready_made(release: &str) -> Vec<&'static str> {
    READY_MADE.iter().filter(|(of, ..)| *of == release).map(|(_, package, ..)| *package).collect()
}

/// Whether another version of a package is worth another build: Kubernetes, its language of rules, the compiler, and what is
/// taken as it is. The other three hundred libraries move every few days.
fn decides(package: &str) -> bool {
    is_kubernetes(package)
        || package.starts_with("golang-cel-")
        || package == COMPILER
        || ready_made(TODAY).contains(&package)
}

/// Says what the tests will run.
fn tell(today: &BTreeMap<&String, &String>, stable: &Versions) {
    let named = |package: &str| {
        format!(
            "{package} {}",
            today.iter().find(|(name, _)| **name == package).map_or("?", |(_, version)| version)
        )
    };
    let stable: Vec<_> = stable.iter().map(|(package, version)| format!("{package} {version}")).collect();
    let today = [LIBRARY, "kubectl", "etcd-server", COMPILER].map(named).join(", ");
    step::say(&format!("Debian {TODAY} has {today}; {STABLE} has {}", stable.join(", ")));
}

fn make(work: &Path, kept: &Path, today: &Versions, stable: &Versions) -> Result<()> {
    let bin = kept.join("bin");
    fs::create_dir_all(&bin).context("create bin")?;
    for (release, versions) in [(STABLE, stable), (TODAY, today)] {
        let work = work.join(release);
        let archive = Archive::open(&work, release)?;
        let packages: Vec<_> =
            versions.iter().map(|(package, version)| format!("{package}={version}")).collect();
        step::say(&format!("fetching {} packages of {release}", packages.len()));
        let unpacked = archive.unpack(&packages.iter().map(String::as_str).collect::<Vec<_>>())?;
        for (_, package, file, name) in READY_MADE.iter().filter(|(of, ..)| *of == release) {
            fs::copy(unpacked.join(file), bin.join(name))
                .with_context(|| format!("take {file} from {release}'s package {package}"))?;
        }
        if release == TODAY {
            let version = versions.get(LIBRARY).context("the library has a version")?;
            step::say("compiling the API server");
            build::build(&unpacked, &work, version, &bin.join(build::PROGRAM))?;
        }
    }
    Ok(())
}
