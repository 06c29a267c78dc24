//! Tools that no package brings, built by `cargo install` once and kept for every checkout of this user.
//!
//! A tool's directory carries what it was built from in its name. It is built beside its place and renamed
//! into it, so that a directory that is there is complete. One that no longer runs (the library it was linked
//! with has gone) is built again.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::step;
use crate::workspace::Workspace;

/// A tool runs for a second now and then: what matters is how soon it is there. Its own release profile may ask for
/// link-time optimisation and full debug information, which double or treble the build.
const QUICK_TO_BUILD: [(&str, &str); 4] = [
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
];

/// One tool in one version, with all that decides what the build gives.
pub(crate) struct Tool {
    /// The crate, and the program it installs.
    pub name: &'static str,
    /// The version, exactly.
    pub version: &'static str,
    /// What else tells two builds apart; part of the directory's name.
    pub variant: String,
    /// Arguments after `cargo install NAME --version VERSION --locked`.
    pub arguments: Vec<String>,
    /// Environment of the build alone.
    pub environment: Vec<(&'static str, String)>,
    /// Said before the build: what to expect.
    pub expect: &'static str,
}

impl Tool {
    /// The name of the tool's directory in the cache.
    fn key(&self) -> String {
        [self.name, self.version, &self.variant]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("-")
    }

    /// The path of the program, built first if it is not there or does not run.
    pub(crate) fn path(&self, workspace: &Workspace) -> Result<PathBuf> {
        let home = workspace.cache.join(self.key());
        let program = home.join("bin").join(self.name);
        if self.runs(&program) {
            return Ok(program);
        }
        let what = if program.exists() { "does not run any more" } else { "is not there yet" };
        step::say(&format!("{} {} {what}: building it ({})", self.name, self.version, self.expect));
        self.install(workspace, &home)?;
        ensure!(self.runs(&program), "{} was built but does not run: {}", self.name, program.display());
        Ok(program)
    }

    /// Whether the program answers with the version it should have.
    fn runs(&self, program: &Path) -> bool {
        Command::new(program)
            .arg("--version")
            .stderr(Stdio::null())
            .output()
            .is_ok_and(|output| output.status.success() && mentions(&output.stdout, self.version))
    }

    fn install(&self, workspace: &Workspace, home: &Path) -> Result<()> {
        let building = workspace.cache.join(format!("{}.building.{}", self.key(), std::process::id()));
        let outcome = self.build_in(workspace, &building).and_then(|()| replace(&building, home));
        // Nothing is left of a build that failed, nor of cargo's own directories after one that did not.
        drop(fs::remove_dir_all(&building));
        outcome.with_context(|| format!("install {} {}", self.name, self.version))
    }

    fn build_in(&self, workspace: &Workspace, building: &Path) -> Result<()> {
        fs::create_dir_all(building).with_context(|| format!("create {}", building.display()))?;
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["install", self.name, "--version", self.version, "--locked", "--root"]).arg(building);
        cargo.args(&self.arguments);
        step::quiet_unless_terminal(&mut cargo);
        // Its own target directory: a workspace's would be filled with what is never used again.
        cargo.current_dir(&workspace.cache).env("CARGO_TARGET_DIR", building.join("target"));
        cargo.envs(QUICK_TO_BUILD);
        cargo.envs(self.environment.iter().map(|(name, value)| (*name, value.as_str())));
        step::run(&mut cargo)?;
        fs::remove_dir_all(building.join("target")).context("remove what the build left")
    }
}

/// Puts a complete directory in its place. Another run may have done the same a moment ago: either will do.
fn replace(complete: &Path, place: &Path) -> Result<()> {
    if place.exists() {
        fs::remove_dir_all(place).with_context(|| format!("remove {}", place.display()))?;
    }
    match fs::rename(complete, place) {
        Err(_) if place.exists() => Ok(()),
        outcome => outcome.with_context(|| format!("rename {} to {}", complete.display(), place.display())),
    }
}

fn mentions(output: &[u8], version: &str) -> bool {
    String::from_utf8_lossy(output).split_whitespace().any(|word| word == version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(variant: &str) -> Tool {
        Tool {
            name: "bpf-linker",
            version: "0.13.0",
            variant: variant.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            expect: "",
        }
    }

    #[test]
    fn a_key_tells_builds_apart() {
        assert_eq!(tool("llvm22").key(), "bpf-linker-0.13.0-llvm22");
        assert_eq!(tool("").key(), "bpf-linker-0.13.0");
    }

    #[test]
    fn a_version_is_matched_as_a_whole_word() {
        assert!(mentions(b"bpf-linker 0.13.0\n", "0.13.0"));
        assert!(!mentions(b"bpf-linker 0.13.01\n", "0.13.0"));
    }

    #[test]
    fn a_program_that_is_missing_or_fails_does_not_run() {
        assert!(!tool("").runs(Path::new("/nonexistent/bpf-linker")));
        assert!(!tool("").runs(Path::new("/bin/false")));
    }

    #[test]
    fn a_complete_directory_takes_the_place_of_a_broken_one() {
        let base = env::temp_dir().join(format!("xtask-replace-{}", std::process::id()));
        let (complete, place) = (base.join("complete"), base.join("place"));
        fs::create_dir_all(&complete).unwrap();
        fs::create_dir_all(&place).unwrap();
        fs::write(complete.join("new"), "").unwrap();
        fs::write(place.join("old"), "").unwrap();
        replace(&complete, &place).unwrap();
        assert!(place.join("new").exists() && !place.join("old").exists() && !complete.exists());
        fs::remove_dir_all(base).unwrap();
    }
}
