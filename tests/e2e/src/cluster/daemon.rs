//! The long-running programs of the cluster: started in its cgroup, each with a log of its own.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{cgroup, place};

/// Enters the cgroup before the program starts, so that its children are there too. What follows is executed in
/// the place of this shell: its process id is the program's.
const ENTER: &str = r#"echo $$ >"$0" && exec "$@""#;

/// A program that runs until it is stopped, or the cluster goes down.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    process: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`; what it prints goes to a log of that name.
    pub fn start(name: &str, command: &Command) -> Result<Self> {
        Self::start_with(name, command, Stdio::null())
    }

    /// The same, with its stdout to be read by the caller.
    pub fn start_talking(name: &str, command: &Command) -> Result<Self> {
        Self::start_with(name, command, Stdio::piped())
    }

    fn start_with(name: &str, command: &Command, stdout: Stdio) -> Result<Self> {
        let log = place::logs().join(format!("{name}.log"));
        let errors = File::options().create(true).append(true).open(&log);
        let errors = errors.with_context(|| format!("open {}", log.display()))?;
        let mut shell = Command::new("sh");
        shell.args(["-c", ENTER]).arg(cgroup::system()).arg(command.get_program()).args(command.get_args());
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.stdin(Stdio::null()).stdout(stdout).stderr(errors).process_group(0);
        let process = shell.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), process, log })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it prints, where it was started to be read.
    pub fn stdout(&mut self) -> Result<impl std::io::Read + use<>> {
        self.process.stdout.take().with_context(|| format!("{} does not talk to us", self.name))
    }

    /// An error with the end of its log if it is not running any more.
    pub fn check(&mut self) -> Result<()> {
        match self.process.try_wait().with_context(|| format!("look after {}", self.name))? {
            None => Ok(()),
            Some(status) => {
                bail!("{} ended ({status}); the end of its log:\n{}", self.name, self.last_words())
            }
        }
    }

    /// Waits for its own end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.process.wait().with_context(|| format!("wait for {}", self.name))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, signal).with_context(|| format!("send {signal:?} to {}", self.name))
    }

    /// Kills it with SIGKILL and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().with_context(|| format!("kill {}", self.name))?;
        self.wait().map(drop)
    }

    fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}
