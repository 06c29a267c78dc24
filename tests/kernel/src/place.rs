//! Where a workload runs, and starting it there.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::de::DeserializeOwned;

use crate::cgroup::Container;
use crate::netns::Netns;

/// A cgroup and a network namespace; each is the test's own where not given.
#[derive(Clone, Debug, Default)]
pub struct Place {
    cgroup: Option<PathBuf>,
    netns: Option<String>,
}

impl Place {
    /// In a container's cgroup, in the host's network namespace.
    pub fn container(container: &Container) -> Self {
        Self { cgroup: Some(container.folder.clone()), netns: None }
    }

    /// In this cgroup, in the host's network namespace.
    pub fn cgroup(folder: PathBuf) -> Self {
        Self { cgroup: Some(folder), netns: None }
    }

    /// The same cgroup, in that network namespace.
    #[must_use]
    pub fn netns(mut self, namespace: &Netns) -> Self {
        self.netns = Some(namespace.name().to_owned());
        self
    }

    /// A command that runs `program` here.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(workload_program());
        command.arg("in");
        if let Some(folder) = &self.cgroup {
            command.arg("--cgroup").arg(folder);
        }
        if let Some(name) = &self.netns {
            command.arg("--netns").arg(name);
        }
        command.arg("--").arg(program);
        command
    }

    /// A command that runs `tcp-workload` here.
    pub fn workload(&self, arguments: &[String]) -> Command {
        let program = workload_program();
        let mut command = self.command(program.to_str().expect("the target folder's path is text"));
        command.args(arguments);
        command
    }
}

/// `tcp-workload`, built along with the tests: it stands in the folder above theirs.
fn workload_program() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the running test");
    let deps = test.parent().expect("a program is in a folder");
    let program = deps.parent().expect("deps is in a folder").join("tcp-workload");
    assert!(program.exists(), "{} is missing: cargo builds it with the tests", program.display());
    program
}

/// A child process that is talked to line by line; killed on drop.
#[derive(Debug)]
pub struct Talker {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Talker {
    /// Starts it.
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        Self { child, input, output }
    }

    /// Writes one line.
    pub fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("nobody closed its stdin");
        writeln!(input, "{line}").expect("write to the workload");
    }

    /// Reads one line of JSON.
    pub fn hear<T: DeserializeOwned>(&mut self) -> T {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("read from the workload");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("the workload said {line:?}: {error}"))
    }

    /// Waits until the process has ended whose successor is talked to from now on.
    pub fn wait(&mut self) {
        let status = self.child.wait().expect("wait for the workload");
        assert!(status.success(), "the workload ended with {status}");
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends its stdin and waits for its own end.
    pub fn finish(mut self) {
        self.input = None;
        let status = self.child.wait().expect("wait for the workload");
        assert!(status.success(), "the workload ended with {status}");
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        // Both fail only when it has ended and been waited for already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
