//! The plugin of kubectl, as `./x build` leaves it and the tests on a Kubernetes run it.

use std::path::PathBuf;

use anyhow::Result;

use crate::arch::Arch;
use crate::image::Profile;
use crate::step;
use crate::workspace::{PLUGIN_PACKAGE, Workspace};

/// Builds it.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    for_arch(workspace, Profile::Release, Arch::native()).map(drop)
}

/// Builds it by one of the image's profiles for an architecture; where it is.
pub(crate) fn for_arch(workspace: &Workspace, profile: Profile, arch: Arch) -> Result<PathBuf> {
    step::say("building the plugin of kubectl");
    let mut cargo = profile.cargo(workspace, "build");
    cargo.args(["--package", PLUGIN_PACKAGE, "--bin", PLUGIN_PACKAGE]);
    let place = arch.set(&mut cargo)?;
    step::run(step::quiet_unless_terminal(&mut cargo))?;
    Ok(workspace.target.join(place).join(profile.name()).join(PLUGIN_PACKAGE))
}
