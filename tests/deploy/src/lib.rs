//! The chart, the overlays, the rules and the dashboards as the tools read them that people have: helm, kubectl, promtool.
//!
//! `./x test deploy` brings the tools and names their directory by an environment variable.

pub mod grafana;
pub mod promql;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The workspace's root.
pub fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest)
}

/// One of the tools, with nothing of the user's own settings.
pub fn tool(name: &str) -> Result<Command> {
    let home = env::var_os("KUBE_TCPSTATES_TOOLS").map(PathBuf::from);
    let home = home.context("KUBE_TCPSTATES_TOOLS is not set: run these tests by `./x test deploy`")?;
    let program = home.join("bin").join(name);
    ensure!(program.exists(), "{} is missing", program.display());
    let mut command = Command::new(program);
    command.env("HOME", "/nonexistent").env_remove("KUBECONFIG").stdin(Stdio::null());
    Ok(command)
}

/// What a tool prints; the error is what it says against it.
pub fn said(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } =
        command.output().with_context(|| format!("start {}", command.get_program().display()))?;
    let text = String::from_utf8(stdout).context("not UTF-8")?;
    ensure!(status.success(), "{status}: {}{text}", String::from_utf8_lossy(&stderr));
    Ok(text)
}

/// The documents of a YAML stream, but for empty ones.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    let mut documents: Vec<Value> = serde_saphyr::from_multiple(text).context("read YAML")?;
    documents.retain(|document| !document.is_null());
    Ok(documents)
}

/// What `helm template` makes of the chart with these settings (`NAME=VALUE`).
pub fn templated(settings: &[&str]) -> Result<Vec<Value>> {
    let mut helm = tool("helm")?;
    helm.args(["template", "any-name"]).arg(root().join("charts/kube-tcpstates"));
    documents(&said(helm.args(settings.iter().map(|setting| format!("--set={setting}"))))?)
}

/// What `kubectl kustomize` makes of a directory of `manifests/`.
pub fn kustomized(directory: &str) -> Result<Vec<Value>> {
    let path = root().join("manifests").join(directory);
    documents(&said(tool("kubectl")?.arg("kustomize").arg(path))?)
}

/// Kind, namespace and name.
pub fn identity(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    [text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"])].join(" ")
}

/// By kind, namespace and name: tools have orders of their own.
pub fn sorted(mut objects: Vec<Value>) -> Vec<Value> {
    objects.sort_by_key(identity);
    objects
}
