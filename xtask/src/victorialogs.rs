//! `VictoriaLogs`, the log store of the tests: built from Debian's source package of `VictoriaMetrics`, which holds it but makes
//! no program of it, by Debian's Go.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::debian::Archive;
use crate::kept::Kept;
use crate::step;
use crate::workspace::Workspace;

/// The first release whose package has it.
const RELEASE: &str = "trixie";
/// A change to either file makes another build.
const RECIPE: [&str; 2] = [include_str!("victorialogs.rs"), include_str!("debian.rs")];
const SOURCE: &str = "victoriametrics";
const IMPORT_PATH: &str = "github.com/VictoriaMetrics/VictoriaMetrics";
const PROGRAM: &str = "victoria-logs";

/// The compiler, and the libraries that Debian took out of the source's own vendor/.
const PACKAGES: &[&str] = &[
    "golang-1.24-go",
    "golang-1.24-src",
    "golang-github-cespare-xxhash-dev",
    "golang-github-golang-snappy-dev",
    "golang-github-klauspost-compress-dev",
    "golang-github-valyala-bytebufferpool-dev",
    "golang-github-valyala-fastjson-dev",
    "golang-github-valyala-fastrand-dev",
    "golang-github-valyala-fasttemplate-dev",
    "golang-github-valyala-gozstd-dev",
    "golang-github-valyala-histogram-dev",
    "golang-github-valyala-quicktemplate-dev",
    "golang-github-victoriametrics-easyproto-dev",
    "golang-github-victoriametrics-fastcache-dev",
    "golang-github-victoriametrics-metrics-dev",
    "golang-github-victoriametrics-metricsql-dev",
    "golang-golang-x-net-dev",
    "golang-golang-x-sys-dev",
    "golang-golang-x-text-dev",
    "golang-gopkg-yaml.v2-dev",
];

/// The program, built first if it is not there: a minute and a half.
pub(crate) fn program(workspace: &Workspace) -> Result<PathBuf> {
    let kept = Kept::new("victorialogs", "a minute and a half on two cores", (RECIPE, RELEASE));
    Ok(kept.home(workspace, make)?.join(PROGRAM))
}

fn make(work: &Path, kept: &Path) -> Result<()> {
    let archive = Archive::open(work, RELEASE)?;
    let unpacked = archive.unpack(PACKAGES)?;
    let gopath = work.join("gopath");
    let source = gopath.join("src").join(IMPORT_PATH);
    archive.unpack_source(SOURCE, &source)?;
    let root = unpacked.join("usr/lib/go-1.24");
    let mut go = Command::new(root.join("bin/go"));
    go.current_dir(&source).args(["build", "-trimpath", "-ldflags", "-s -w", "-o"]);
    go.arg(kept.join(PROGRAM)).arg(format!("./app/{PROGRAM}"));
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
