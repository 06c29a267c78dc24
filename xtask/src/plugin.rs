//! The plugin of kubectl, as `./x build` leaves it and the tests on a Kubernetes run it.

use anyhow::Result;

use crate::step;
use crate::workspace::{PLUGIN_PACKAGE, Workspace};

/// Builds it.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    step::say("building the plugin of kubectl");
    let mut cargo = workspace.cargo("build");
    cargo.args(["--release", "--package", PLUGIN_PACKAGE, "--bin", PLUGIN_PACKAGE]);
    step::run(step::quiet_unless_terminal(&mut cargo))
}
