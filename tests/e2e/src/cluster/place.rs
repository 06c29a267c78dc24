//! The places that belong to these tests, and nothing else does.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// Of the cgroup that every process of the cluster is under, in each hierarchy.
pub const NAME: &str = "kube-tcpstates-e2e";
/// What the nodes keep on disk, certificates, and logs.
pub const STATE: &str = "/var/tmp/kube-tcpstates-e2e";
/// Held while a cluster is up: there is one at a time.
pub const LOCK: &str = "/var/tmp/kube-tcpstates-e2e.lock";
/// Where the machine's cgroup hierarchies are mounted.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// Logs of the cluster's programs. They outlive it, until the next one starts.
pub fn logs() -> PathBuf {
    Path::new(STATE).join("logs")
}

/// The cgroup2 directory under which every process of the cluster runs.
pub fn cgroup() -> PathBuf {
    Path::new(CGROUPS).join("unified").join(NAME)
}

/// A file or directory that `./x test e2e` made and named by an environment variable.
pub fn given(variable: &str) -> Result<PathBuf> {
    let path = env::var_os(variable)
        .map(PathBuf::from)
        .with_context(|| format!("{variable} is not set: run these tests by `./x test e2e`"))?;
    ensure!(path.exists(), "{variable}={}: there is no such file", path.display());
    Ok(path)
}
