//! helm, run where the API server can be reached.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::cluster::place;
use crate::kubectl::Kubectl;

/// What a server needs that does not know the rules in the definitions.
const OLD_SERVER: [&str; 2] = ["--server-side=false", "--disable-openapi-validation"];
/// The one release of these tests. Its own records stand in the namespace `default`.
const RELEASE: &str = "tcpstates";

/// helm as the cluster's administrator. Dropping it removes the release, if it is there still.
#[derive(Debug)]
pub struct Helm<'a> {
    kubectl: &'a Kubectl,
    program: PathBuf,
    chart: PathBuf,
}

impl<'a> Helm<'a> {
    /// Finds helm and the chart.
    pub fn new(kubectl: &'a Kubectl) -> Result<Self> {
        let program = place::given("KUBE_TCPSTATES_TOOLS")?.join("bin/helm");
        let chart = place::given("KUBE_TCPSTATES_CHART")?;
        Ok(Self { kubectl, program, chart })
    }

    /// The chart, as it is in the repository.
    pub fn chart(&self) -> &Path {
        &self.chart
    }

    /// Installs a chart with these flags.
    pub fn install(&self, chart: &Path, flags: &[&str]) -> Result<()> {
        self.run(&[&["install", RELEASE, path(chart)?], &OLD_SERVER[..], flags].concat()).map(drop)
    }

    /// Installs another one in its place.
    pub fn upgrade(&self, chart: &Path, flags: &[&str]) -> Result<()> {
        self.run(&[&["upgrade", RELEASE, path(chart)?], &OLD_SERVER[..], flags].concat()).map(drop)
    }

    /// Goes back to a revision.
    pub fn roll_back(&self, revision: &str) -> Result<()> {
        self.run(&["rollback", RELEASE, revision, OLD_SERVER[0]]).map(drop)
    }

    /// What the release consists of.
    pub fn manifest(&self) -> Result<String> {
        self.run(&["get", "manifest", RELEASE])
    }

    /// Removes the release and waits until that is done.
    pub fn uninstall(&self) -> Result<()> {
        self.run(&["uninstall", RELEASE, "--wait", "--timeout=3m"]).map(drop)
    }

    /// The releases there are.
    pub fn releases(&self) -> Result<String> {
        self.run(&["list", "--all-namespaces", "--short"])
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let start = Instant::now();
        let mut helm = self.kubectl.beside(&self.program);
        for (variable, directory) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            helm.env(variable, Path::new(place::STATE).join("helm").join(directory));
        }
        let output = helm.args(arguments).stdin(Stdio::null()).output().context("start helm")?;
        let (out, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        eprintln!("{:7.1} s for helm {}", start.elapsed().as_secs_f64(), arguments.join(" "));
        ensure!(output.status.success(), "helm {}: {errors}{out}", arguments.join(" "));
        Ok(out.into_owned())
    }
}

impl Drop for Helm<'_> {
    fn drop(&mut self) {
        let gone = self.run(&["uninstall", RELEASE, "--ignore-not-found", "--wait", "--timeout=3m"]);
        if let Err(error) = gone {
            eprintln!("{error:#}");
        }
    }
}

fn path(chart: &Path) -> Result<&str> {
    OsStr::to_str(chart.as_os_str()).context("the path of a chart is not UTF-8")
}
