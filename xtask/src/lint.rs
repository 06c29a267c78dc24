//! House rules that no tool of Rust's checks: how long a file may be, and shell without traps.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::step;

/// Nobody should need to read more at once.
const LINES_AT_MOST: usize = 500;
const SCRIPTS: [&str; 3] = ["x", ".ci/run", "tests/e2e/src/cluster/node.sh"];

/// No Rust file is longer than it may be.
pub(crate) fn file_lengths(root: &Path) -> Result<()> {
    let mut files = Vec::new();
    rust_files(root, &mut files)?;
    let mut long = Vec::new();
    for file in &files {
        let text = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        let lines = text.split(|byte| *byte == b'\n').count() - 1;
        if lines > LINES_AT_MOST {
            let name = file.strip_prefix(root).unwrap_or(file);
            long.push(format!("{} has {lines}", name.display()));
        }
    }
    ensure!(long.is_empty(), "more than {LINES_AT_MOST} lines: {}", long.join(", "));
    Ok(())
}

/// The few scripts there are: those that run before there is any Rust, and one that is all mounts.
pub(crate) fn shell_scripts(root: &Path) -> Result<()> {
    step::run(Command::new("shellcheck").current_dir(root).args(SCRIPTS))
        .context("shellcheck, from the package of that name")
}

/// Every `.rs` file below a directory, but for cargo's target directories and what starts with a dot.
pub(crate) fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", directory.display()))?;
        let (path, name) = (entry.path(), entry.file_name());
        let is_hidden = name.to_string_lossy().starts_with('.');
        // Cargo marks what it made, whatever its name.
        if entry.file_type()?.is_dir() {
            if !is_hidden && !path.join("CACHEDIR.TAG").exists() {
                rust_files(&path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_named_and_what_cargo_made_is_not_looked_at() {
        let root = std::env::temp_dir().join(format!("xtask-lint-{}", std::process::id()));
        for directory in ["source", "target", ".git"] {
            fs::create_dir_all(root.join(directory)).unwrap();
            fs::write(root.join(directory).join("long.rs"), "\n".repeat(LINES_AT_MOST + 1)).unwrap();
        }
        fs::write(root.join("source/short.rs"), "\n".repeat(LINES_AT_MOST)).unwrap();
        fs::write(root.join("target/CACHEDIR.TAG"), "").unwrap();
        let error = file_lengths(&root).unwrap_err().to_string();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(error, "more than 500 lines: source/long.rs has 501");
    }
}
