//! Compiles the server of `tests/apis/server/` in a GOPATH of Debian's libraries, by Debian's Go.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::versions;
use crate::step;

/// The name that it gets.
pub(super) const PROGRAM: &str = "crd-server";
/// What is compiled.
pub(super) const SOURCE: &[(&str, &str)] = &[
    ("main.go", include_str!("../../../tests/apis/server/main.go")),
    ("objects.go", include_str!("../../../tests/apis/server/objects.go")),
];

/// Leaves the program; `unpacked` holds compiler and libraries, and `library` is the version that it calls itself by.
pub(super) fn build(unpacked: &Path, work: &Path, library: &str, program: &Path) -> Result<()> {
    let gopath = work.join("gopath");
    let source = gopath.join("src").join(PROGRAM);
    fs::create_dir_all(&source).with_context(|| format!("create {}", source.display()))?;
    for (name, text) in SOURCE {
        fs::write(source.join(name), text).with_context(|| format!("write {name}"))?;
    }
    let root = unpacked.join("usr/lib/go");
    let mut go = Command::new(root.join("bin/go"));
    go.current_dir(&source).args(["build", "-trimpath", "-ldflags", &flags(library)?, "-o"]).arg(program);
    // Nothing of the user's own Go settings, and nothing from the network.
    go.env("GOROOT", &root).env("GOCACHE", work.join("cache"));
    go.env("GOPATH", format!("{}:{}", gopath.display(), unpacked.join("usr/share/gocode").display()));
    go.envs([
        ("GO111MODULE", "off"),
        ("CGO_ENABLED", "0"),
        ("GOPROXY", "off"),
        ("GOTOOLCHAIN", "local"),
        ("GOFLAGS", ""),
        ("GOENV", "off"),
    ]);
    step::run(&mut go)
}

/// The linker's: no symbols, and the version.
fn flags(library: &str) -> Result<String> {
    let version = versions::kubernetes(library)?;
    let mut numbers = version.split('.');
    let mut number = || numbers.next().unwrap_or_default().to_owned();
    let values = [("gitMajor", number()), ("gitMinor", number()), ("gitVersion", format!("v{version}"))];
    let stamps = values.map(|(name, value)| format!(" -X k8s.io/component-base/version.{name}={value}"));
    Ok(format!("-s -w{}", stamps.concat()))
}
