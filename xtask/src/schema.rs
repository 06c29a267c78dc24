//! Writes what is generated from the code and committed beside it. A test holds it against the code.

use anyhow::Result;

use crate::step;
use crate::workspace::Workspace;

/// The JSON Schema of every line, in docs/schema/.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    step::say("writing docs/schema/");
    let mut cargo = workspace.cargo("test");
    cargo.args(["--quiet", "--package", "kube-tcpstates-events", "schema"]);
    // The test that compares writes instead.
    cargo.env("UPDATE_SNAPSHOTS", "1");
    step::run(&mut cargo)
}
