//! `deploy/grafana/*.json`: made from tables of what each panel asks, so that they look alike and can be read.
//!
//! ```text
//! fleet, namespace, incident (what is asked) ──► model (JSON as Grafana keeps it) ──► deploy/grafana/
//! ```

mod fleet;
mod incident;
mod model;
mod namespace;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::step;
use crate::workspace::Workspace;
use model::Dashboard;

const DASHBOARDS: [&Dashboard; 3] = [&fleet::DASHBOARD, &namespace::DASHBOARD, &incident::DASHBOARD];

/// Writes them anew.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    step::say("writing deploy/grafana/");
    for dashboard in DASHBOARDS {
        let path = place(workspace, dashboard);
        fs::write(&path, dashboard.text()).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// They are what would be written now.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    for dashboard in DASHBOARDS {
        let path = place(workspace, dashboard);
        let present = fs::read_to_string(&path).unwrap_or_default();
        ensure!(present == dashboard.text(), "{} is stale: run ./x schema", path.display());
    }
    Ok(())
}

fn place(workspace: &Workspace, dashboard: &Dashboard) -> PathBuf {
    workspace.root.join("deploy/grafana").join(dashboard.uid).with_extension("json")
}
