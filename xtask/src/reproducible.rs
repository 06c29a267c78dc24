//! The same sources give the same programs, wherever and by whomever they are built with the same toolchain.
//!
//! What is shipped names no directory of the machine that built it. A flag of the compiler sees to that, and another flag
//! makes another build of every dependency: so it is given with the profile that nobody develops in, and with no other.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::arch::Arch;
use crate::image::{self, Profile};
use crate::step;
use crate::workspace::Workspace;

/// Separates flags.
const SEPARATOR: &str = "\u{1f}";

/// Directories of this machine, and what stands for them. Where one is in another the inner one comes last.
fn directories(workspace: &Workspace) -> Vec<(PathBuf, &'static str)> {
    let mut all = vec![(workspace.root.clone(), "/kube-tcpstates"), (workspace.target.clone(), "/target")];
    let home = env::var_os("CARGO_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")));
    all.extend(home.map(|home| (home, "/cargo")));
    all.sort_by_key(|(directory, _)| directory.components().count());
    all
}

/// Flags for a compiler, as `CARGO_ENCODED_RUSTFLAGS` has them, behind those that a user has set.
pub(crate) fn flags(workspace: &Workspace) -> OsString {
    let encoded = env::var_os("CARGO_ENCODED_RUSTFLAGS").unwrap_or_else(|| {
        let plain = env::var("RUSTFLAGS").unwrap_or_default();
        plain.split_whitespace().collect::<Vec<_>>().join(SEPARATOR).into()
    });
    let mut flags = vec![encoded];
    flags.retain(|flag| !flag.is_empty());
    flags.extend(remapped(workspace));
    flags.join(&OsString::from(SEPARATOR))
}

/// The flags that leave this machine's directories out.
pub(crate) fn remapped(workspace: &Workspace) -> Vec<OsString> {
    let all = directories(workspace).into_iter().map(|(directory, name)| {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(directory);
        flag.push("=");
        flag.push(name);
        flag
    });
    all.collect()
}

/// That a program tells nothing of where it was built.
pub(crate) fn check(workspace: &Workspace, program: &[u8]) -> Result<()> {
    for (directory, _) in directories(workspace) {
        let name = directory.as_os_str().as_encoded_bytes();
        // `/` alone, or a short name in the root, stands in every program.
        let is_telling = name.len() > 6;
        let is_named = program.windows(name.len().max(1)).any(|part| part == name);
        ensure!(
            !is_telling || !is_named,
            "it names {}: another directory gives another image",
            directory.display()
        );
    }
    Ok(())
}

/// Builds the image twice, the second time from a copy of the sources in another directory, and compares.
pub(crate) fn twice(workspace: &Workspace, profile: Profile, arch: Arch) -> Result<()> {
    let first = sum(&image::build(workspace, profile, arch)?)?;
    let place = workspace.target.join("twice");
    drop(fs::remove_dir_all(&place));
    let other = Workspace {
        root: place.join("sources/of/the/same"),
        target: place.join("target"),
        cache: workspace.cache.clone(),
    };
    copy_sources(workspace, &other.root)?;
    step::say(&format!("once more, from {}", other.root.display()));
    let second = sum(&image::build(&other, profile, arch)?)?;
    ensure!(first == second, "not the same: {first}, and {second} from {}", other.root.display());
    drop(fs::remove_dir_all(&place));
    step::say(&format!("twice the same: {first}"));
    Ok(())
}

fn copy_sources(workspace: &Workspace, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    let mut copy = Command::new("cp");
    copy.args(["--recursive", "--no-dereference", "--target-directory"]).arg(to);
    for entry in fs::read_dir(&workspace.root).context("list the sources")? {
        let path = entry.context("list the sources")?.path();
        if !workspace.target.starts_with(&path) && !path.ends_with("target") && !path.ends_with(".git") {
            copy.arg(path);
        }
    }
    step::run(&mut copy)
}

fn sum(archive: &Path) -> Result<String> {
    let bytes = fs::read(archive).with_context(|| format!("read {}", archive.display()))?;
    Ok(Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |hex, byte| hex + &format!("{byte:02x}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> Workspace {
        let root = PathBuf::from("/home/somebody/sources");
        Workspace { target: root.join("target"), cache: root.clone(), root }
    }

    #[test]
    fn the_directory_inside_another_is_the_last_as_the_last_counts() {
        let flags = remapped(&workspace());
        let place = |end: &str| flags.iter().position(|flag| flag.to_string_lossy().ends_with(end));
        assert!(place("/sources=/kube-tcpstates") < place("/sources/target=/target"), "{flags:?}");
        assert!(place("=/cargo").is_some(), "{flags:?}");
    }

    #[test]
    fn a_program_that_names_a_directory_is_not_shipped() {
        let error = check(&workspace(), b"\0src/main.rs\0/home/somebody/sources/a.rs\0").unwrap_err();
        assert!(error.to_string().contains("it names /home/somebody/sources"), "{error}");
        check(&workspace(), b"\0node-agent/src/main.rs\0/cargo/registry/src\0").unwrap();
    }
}
