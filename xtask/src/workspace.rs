//! Where things are: the workspace, cargo's target directory, the cache of tools, and the cargo for user space.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// The crate that is built for the kernel and for nothing else.
pub(crate) const EBPF_PACKAGE: &str = "kube-tcpstates-ebpf";
/// What the benchmarks compare with in the kernel, built for it as well.
pub(crate) const BENCH_EBPF_PACKAGE: &str = "kube-tcpstates-bench-ebpf";
/// The crate of the benchmarks.
pub(crate) const BENCH_PACKAGE: &str = "kube-tcpstates-bench";
/// The crate whose tests need root and a real kernel.
pub(crate) const KERNEL_TESTS_PACKAGE: &str = "kube-tcpstates-kernel-tests";
/// The crate whose tests need a Kubernetes.
pub(crate) const E2E_TESTS_PACKAGE: &str = "kube-tcpstates-e2e-tests";
/// The crate whose tests need a browser.
pub(crate) const PAGES_TESTS_PACKAGE: &str = "kube-tcpstates-pages-tests";
/// The crate whose tests need helm, kubectl and Prometheus' tools.
pub(crate) const DEPLOY_TESTS_PACKAGE: &str = "kube-tcpstates-deploy-tests";
/// The crate whose tests need an API server of today.
pub(crate) const APIS_TESTS_PACKAGE: &str = "kube-tcpstates-apis-tests";
/// The crate whose tests need a log store.
pub(crate) const STORES_TESTS_PACKAGE: &str = "kube-tcpstates-stores-tests";
/// What runs in the pods of the e2e tests.
pub(crate) const E2E_WORKLOAD: (&str, &str) = ("kube-tcpstates-e2e-workload", "e2e-workload");
/// Hundreds of agents without a kernel, for one of those tests.
pub(crate) const E2E_FLEET: (&str, &str) = ("kube-tcpstates-e2e-fleet", "e2e-fleet");
/// The program that is shipped.
pub(crate) const AGENT_PACKAGE: &str = "kube-tcpstates";
/// The program that writes the status of traces, in the same image.
pub(crate) const OPERATOR_PACKAGE: &str = "kube-tcpstates-operator";

/// The plugin of kubectl, which people install for themselves.
pub(crate) const PLUGIN_PACKAGE: &str = "kubectl-tcpstates";

/// The directories this run works in.
pub(crate) struct Workspace {
    /// Holds Cargo.toml and Cargo.lock.
    pub root: PathBuf,
    /// Cargo's target directory: `CARGO_TARGET_DIR`, else `target/`.
    pub target: PathBuf,
    /// Tools built here once and used by every checkout: `~/.cache/kube-tcpstates`.
    pub cache: PathBuf,
}

impl Workspace {
    /// Finds the directories from the environment.
    pub(crate) fn find() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        // A target directory may be shared between checkouts, so the current directory counts first.
        let here = env::current_dir().context("find the current directory")?;
        let root = here
            .ancestors()
            .find(|directory| directory.join("xtask/Cargo.toml").is_file())
            .or_else(|| manifest.parent())
            .context("find the workspace: no parent directory has xtask/Cargo.toml")?
            .to_path_buf();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(directory) if !directory.is_empty() => here.join(directory),
            _ => root.join("target"),
        };
        Ok(Self { cache: cache_directory()?, root, target })
    }

    /// The agent as `./x build` leaves it.
    pub(crate) fn agent(&self) -> PathBuf {
        self.target.join("release").join(AGENT_PACKAGE)
    }

    /// The plugin as `./x build` leaves it.
    pub(crate) fn plugin(&self) -> PathBuf {
        self.target.join("release").join(PLUGIN_PACKAGE)
    }

    /// The cargo that builds user space: the one `./x` chose, or the one that runs this.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target).arg(subcommand);
        if subcommand != "fmt" && env::var_os("CI").is_some() {
            cargo.arg("--locked");
        }
        cargo
    }
}

/// Every crate of the workspace but those for the kernel, and but those given.
pub(crate) fn user_space_but(excluded: &[&str]) -> Vec<String> {
    let mut arguments = vec!["--workspace".to_owned()];
    for package in [EBPF_PACKAGE, BENCH_EBPF_PACKAGE].iter().chain(excluded) {
        arguments.push(format!("--exclude={package}"));
    }
    arguments
}

fn cache_directory() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME") {
        Some(directory) if Path::new(&directory).is_absolute() => PathBuf::from(directory),
        _ => {
            Path::new(&env::var_os("HOME").context("HOME is not set: nowhere to keep tools")?).join(".cache")
        }
    };
    Ok(base.join("kube-tcpstates"))
}
