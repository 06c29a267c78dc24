//! Taking the cluster down, by a process that outlives the test program.
//!
//! The test program may panic, be interrupted or be killed. The guard only waits for the end of its stdin, which
//! comes in each of these cases, so that there is one way down and every run takes it.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::{cgroup, place};
use crate::wait;

/// The test program's hold on its guard. The cluster goes down when this is dropped.
#[derive(Debug)]
pub struct Guard {
    process: Child,
}

impl Guard {
    /// Starts the guard, which first takes down what an earlier run has left.
    pub fn post(program: &Path) -> Result<Self> {
        let mut process = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C at the terminal goes to the test program's group; the guard has work to do then.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let answer = process.stdout.take().context("the guard's stdout")?;
        let mut line = String::new();
        BufReader::new(answer).read_line(&mut line).context("wait for the guard")?;
        ensure!(line == "ready\n", "the guard could not start: see its message above");
        Ok(Self { process })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        if let Err(error) = self.process.wait() {
            eprintln!("cannot wait until the cluster is down: {error}");
        }
    }
}

/// The guard's whole life.
pub fn stand() -> Result<()> {
    let lock = File::create(place::LOCK).with_context(|| format!("create {}", place::LOCK))?;
    // A run that has just ended may still be going down.
    let patience = Duration::from_secs(20);
    wait::until("no other run of the e2e tests has a cluster up", patience, || match lock.try_lock() {
        Ok(()) => Ok(Ok(())),
        Err(fs::TryLockError::WouldBlock) => Ok(Err(format!("{} is held", place::LOCK))),
        Err(fs::TryLockError::Error(error)) => bail!("lock {}: {error}", place::LOCK),
    })?;
    take_down()?;
    remove(Path::new(place::STATE))?;
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new()).context("wait for the end of the tests")?;
    take_down()
}

/// Ends every process of the cluster and removes what it kept, but for the logs.
fn take_down() -> Result<()> {
    cgroup::kill_all()?;
    cgroup::remove()?;
    for entry in fs::read_dir(place::STATE).into_iter().flatten().flatten() {
        if entry.path() != place::logs() {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a directory, or the file or socket that a test put beside them. Mounts below it went with the namespaces, a
/// moment after their last process.
fn remove(path: &Path) -> Result<()> {
    let try_once = || if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    for _ in 0..20 {
        match try_once() {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
    try_once().with_context(|| format!("remove {}", path.display()))
}
