//! The plugin of kubectl, as `./x build` leaves it and the tests on a Kubernetes run it.

use std::path::PathBuf;

use anyhow::Result;

use crate::image::Profile;
use crate::step;
use crate::workspace::{PLUGIN_PACKAGE, Workspace};

/// Builds it.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    with_profile(workspace, Profile::Release).map(drop)
}

/// Builds it by one of the image's profiles; where it is.
pub(crate) fn with_profile(workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    step::say("building the plugin of kubectl");
    let mut cargo = workspace.cargo("build");
    cargo.args(["--profile", profile.name(), "--package", PLUGIN_PACKAGE, "--bin", PLUGIN_PACKAGE]);
    step::run(step::quiet_unless_terminal(&mut cargo))?;
    Ok(workspace.target.join(profile.name()).join(PLUGIN_PACKAGE))
}
