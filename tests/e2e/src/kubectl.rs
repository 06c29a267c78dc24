//! kubectl, run where the API server can be reached.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::api::Api;
use crate::cluster::place;

/// kubectl with one user's kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: OsString,
    before: Vec<OsString>,
    path: Option<OsString>,
    kubeconfig: PathBuf,
    api: Api,
}

impl Kubectl {
    /// `command` starts kubectl, in whatever namespaces it must be.
    pub fn new(command: &Command, kubeconfig: &Path) -> Self {
        let path = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value);
        Self {
            program: command.get_program().to_owned(),
            before: command.get_args().map(OsString::from).collect(),
            path: path.map(OsString::from),
            kubeconfig: kubeconfig.to_owned(),
            api: Api::new(),
        }
    }

    /// Runs it and returns what it prints; the error is what it says on stderr.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(arguments);
        said(arguments, command.stdin(Stdio::null()).output().context("start kubectl")?)
    }

    /// The API without a kubectl for each request.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// An object, or a list of them, by its path in the API.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.api.get(path)
    }

    /// `kubectl apply` of one or more documents, YAML or JSON. The server is who judges them: this kubectl does not
    /// know the fields of newer definitions.
    pub fn apply(&self, documents: &str) -> Result<String> {
        self.run_with(&["apply", "--validate=false", "--filename=-"], documents)
    }

    /// What the server would store if this document were applied.
    pub fn try_out(&self, document: &str) -> Result<Value> {
        let flags = ["--validate=false", "--dry-run=server", "--output=json", "--filename=-"];
        let text = self.run_with(&[&["apply"], &flags[..]].concat(), document)?;
        serde_json::from_str(&text).context("kubectl apply --dry-run: not JSON")
    }

    /// Runs it with documents on its stdin.
    pub fn run_with(&self, arguments: &[&str], documents: &str) -> Result<String> {
        let mut kubectl = self.command(arguments).stdin(Stdio::piped()).spawn().context("start kubectl")?;
        let mut input = kubectl.stdin.take().context("kubectl's stdin")?;
        input.write_all(documents.as_bytes()).context("write to kubectl")?;
        drop(input);
        said(arguments, kubectl.wait_with_output().context("wait for kubectl")?)
            .with_context(|| format!("{} {documents}", arguments[0]))
    }

    /// What a pod's container has logged so far.
    pub fn logs(&self, namespace: &str, pod: &str, container: &str) -> Result<String> {
        self.api.text(&format!("/api/v1/namespaces/{namespace}/pods/{pod}/log?container={container}"))
    }

    /// The plugin, to be started by the caller. It finds the kubeconfig as kubectl does.
    pub fn plugin(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.beside(&place::given("KUBE_TCPSTATES_PLUGIN")?);
        command.args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    /// Another program, in the same namespaces; it finds the kubeconfig by the environment.
    pub fn beside(&self, program: &Path) -> Command {
        let mut command = Command::new(&self.program);
        // The last of them is kubectl itself.
        command.args(self.before.split_last().map_or(&[][..], |(_, before)| before));
        command.arg(program).env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// The command itself, to be started by the caller: for what does not end, as `logs --follow`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.before).args(arguments);
        command.arg(format!("--kubeconfig={}", self.kubeconfig.display()));
        command.arg(format!("--cache-dir={}/kubectl", place::STATE));
        command.envs(self.path.as_ref().map(|path| ("PATH", path)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

fn said(arguments: &[&str], output: Output) -> Result<String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kubectl {}: {}", arguments.join(" "), errors.trim_end());
    String::from_utf8(output.stdout).with_context(|| format!("kubectl {}: not UTF-8", arguments.join(" ")))
}
