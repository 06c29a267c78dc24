//! The agent with the kernel side inside, as `./x run` and the tests against the kernel use it.

use std::path::PathBuf;

use anyhow::Result;

use crate::bpf;
use crate::step;
use crate::workspace::{AGENT_PACKAGE, Workspace};

/// Builds the kernel side and then the agent, and returns the agent's path.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    bpf::build(workspace)?;
    step::say("building the agent");
    let mut cargo = workspace.cargo("build");
    cargo.args(["--release", "--package", AGENT_PACKAGE, "--bin", AGENT_PACKAGE]);
    step::run(step::quiet_unless_terminal(&mut cargo))?;
    Ok(workspace.agent())
}
