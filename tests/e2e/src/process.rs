//! The first process of a pod, by the machine's ids, and what is done in its network.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::cluster::place;

/// The cgroup of the only container of a pod as the API server has it, below that of the cluster, in any hierarchy.
pub fn cgroup(pod: &Value) -> Result<PathBuf> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let id = text(&pod["status"]["containerStatuses"][0]["containerID"]).context("the container has run")?;
    let id = id.strip_prefix("containerd://").context("containerd runs it")?;
    let uid = text(&pod["metadata"]["uid"]).context("a pod has a uid")?;
    let node = text(&pod["spec"]["nodeName"]).context("the pod has a node")?;
    let class = match pod["status"]["qosClass"].as_str() {
        Some("Guaranteed") => String::new(),
        Some(class) => class.to_lowercase(),
        None => bail!("the pod has no class of service"),
    };
    Ok(Path::new(&node).join("kubepods").join(class).join(format!("pod{uid}")).join(id))
}

/// The first process of that container.
pub fn of(pod: &Value) -> Result<u32> {
    let file = place::cgroup().join(cgroup(pod)?).join("cgroup.procs");
    let ids = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    ids.lines().next().context("the container's cgroup is empty")?.parse().context("a process id")
}

/// Runs a program of the machine in a pod's network namespace, and gives it a script.
pub fn in_network_of(pod: &Value, program: &[&str], script: &str) -> Result<()> {
    let mut nsenter = Command::new("nsenter");
    nsenter.arg(format!("--target={}", of(pod)?)).args(["--net", "--"]).args(program);
    let mut child = nsenter.stdin(Stdio::piped()).spawn().context("start nsenter")?;
    child.stdin.take().context("its stdin")?.write_all(script.as_bytes()).context("write to it")?;
    let status = child.wait().context("wait for it")?;
    ensure!(status.success(), "{program:?}: {status}, of this script:\n{script}");
    Ok(())
}
