//! What is made for Kubernetes, on an API server of today: definitions, examples and the policy, by two kubectls.
//!
//! `./x test apis` makes the programs and names their directory by an environment variable. The server is one of custom resources
//! alone (`server/`, in Go): no namespaces, no rights, no pods.

pub mod kubectl;
pub mod server;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

pub use kubectl::{Kubectl, Said};
pub use server::{Answer, Server};

/// The workspace's root.
pub fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest)
}

/// One of the programs, with nothing of the user's own settings.
pub fn program(name: &str) -> Result<Command> {
    let home = env::var_os("KUBE_TCPSTATES_APIS").map(PathBuf::from);
    let home = home.context("KUBE_TCPSTATES_APIS is not set: run these tests by `./x test apis`")?;
    let program = home.join("bin").join(name);
    ensure!(program.exists(), "{} is missing", program.display());
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("KUBECONFIG", "/dev/null");
    Ok(command)
}

/// The documents of a YAML stream, but for empty ones.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    let mut documents: Vec<Value> = serde_saphyr::from_multiple(text).context("read YAML")?;
    documents.retain(|document| !document.is_null());
    Ok(documents)
}

/// Whether everything that was said is there; defaults are beside it.
pub fn holds(stored: &Value, said: &Value) -> bool {
    match (stored, said) {
        (Value::Object(stored), Value::Object(said)) => {
            said.iter().all(|(name, value)| stored.get(name).is_some_and(|stored| holds(stored, value)))
        }
        (Value::Array(stored), Value::Array(said)) => {
            stored.len() == said.len() && stored.iter().zip(said).all(|(stored, said)| holds(stored, said))
        }
        _ => stored == said,
    }
}
