//! Writes what is generated from the code and committed beside it. A test holds each against the code.

use anyhow::Result;

use crate::step;
use crate::workspace::Workspace;
use crate::{dashboards, manifests, rules};

/// Package, the tests that compare, and what they write instead when asked to.
const GENERATED: [(&str, &str, &str); 2] =
    [("kube-tcpstates-events", "schema", "docs/schema/"), ("kube-tcpstates-crds", "published", "crds/yaml/")];

/// The JSON Schema of every line, and the definitions of the Kubernetes resources, alone and in the installer.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    for (package, tests, place) in GENERATED {
        step::say(&format!("writing {place}"));
        let mut cargo = workspace.cargo("test");
        cargo.args(["--quiet", "--package", package, tests]);
        cargo.env("UPDATE_SNAPSHOTS", "1");
        step::run(&mut cargo)?;
    }
    manifests::write(workspace)?;
    rules::write(workspace)?;
    dashboards::write(workspace)
}
