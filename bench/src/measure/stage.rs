//! Where the load runs: in a container's cgroup, so that there is something to attribute.

use anyhow::{Context as _, Result};
use kube_tcpstates_kernel_tests::cgroup::{self, CgroupTree, Container};

use super::Settings;
use crate::load::{Length, Report as Load};
use crate::subject::{Built, Running, Subject};
use crate::traffic::Traffic;

/// What all measurements share.
pub struct Stage<'a> {
    /// Programs.
    pub built: &'a Built,
    /// How the run goes.
    pub settings: &'a Settings,
    /// Of the load.
    pub container: Container,
    _tree: CgroupTree,
}

impl<'a> Stage<'a> {
    /// Makes the cgroup.
    pub fn set(built: &'a Built, settings: &'a Settings) -> Result<Self> {
        cgroup::mount().context("no cgroup2 hierarchy is mounted")?;
        cgroup::sweep();
        let tree = CgroupTree::new();
        Ok(Self { built, settings, container: tree.container(), _tree: tree })
    }

    /// A load generator on the load's CPU, with more options.
    pub fn traffic(&self, options: &[&str]) -> Result<Traffic> {
        let cpu = self.settings.load_cpu.to_string();
        let folder = self.container.folder.display().to_string();
        Traffic::start(self.built, &[&["--cpu", &cpu, "--cgroup", &folder], options].concat())
    }

    /// Somebody who traces, on the tracer's CPU.
    pub fn start(&self, subject: &Subject) -> Result<Running> {
        subject.start(self.built, self.settings.tracer_cpu)
    }

    /// One run of the usual length.
    pub fn run(&self, traffic: &mut Traffic) -> Result<Load> {
        traffic.run(Length::Connections(self.settings.connections))
    }
}
