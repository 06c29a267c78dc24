//! The load generator as the benchmarks use it: a process that makes a run whenever it is asked.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;

use crate::load::{Length, Report};
use crate::subject::Built;

/// A running load generator; it ends when this is dropped.
#[derive(Debug)]
pub struct Traffic {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Traffic {
    /// Starts it and waits until it holds open what it shall.
    pub fn start(built: &Built, options: &[&str]) -> Result<Self> {
        let mut child = Command::new(&built.load)
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", built.load.display()))?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("the load generator's stdout")?);
        let mut traffic = Self { child, stdin, stdout };
        traffic.hear::<serde_json::Value>()?;
        Ok(traffic)
    }

    /// Makes a run.
    pub fn run(&mut self, length: Length) -> Result<Report> {
        let stdin = self.stdin.as_mut().context("the load generator's stdin")?;
        writeln!(stdin, "{}", length.request()).context("ask the load generator")?;
        self.hear()
    }

    fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        let bytes = self.stdout.read_line(&mut line).context("hear the load generator")?;
        ensure!(bytes > 0, "the load generator has ended");
        serde_json::from_str(&line).with_context(|| format!("understand {line}"))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        // The end of its stdin ends it.
        drop(self.stdin.take());
        drop(self.child.wait());
    }
}
