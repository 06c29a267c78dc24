//! The agent: one process at a time, whose lines are read while it writes, and what it takes of the machine.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::account::News;
use super::schedule::Ending;
use super::stage::{Reading, Stage, lock};
use crate::agent;
use crate::cluster::daemon::Daemon;
use crate::cluster::place;
use crate::wait;

/// Of the Node, which is an object without a kubelet.
pub(super) const NODE: &str = "soak";
/// In the node's BPF file system.
const PINS: &str = "/sys/fs/bpf/kube-tcpstates";
/// As the agents' container has them.
const CAPABILITIES: &str = "-all,+bpf,+perfmon,+dac_read_search";
const PATIENCE: Duration = Duration::from_mins(2);
/// The kernel's clock in `/proc/PID/stat`, which is fixed for programs.
const TICKS: f64 = 100.0;

/// A process and who reads it.
#[derive(Debug)]
struct Process {
    daemon: Daemon,
    number: usize,
    begun: Instant,
    reader: JoinHandle<()>,
}

/// One that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) how: Option<Ending>,
    pub(super) lived: Duration,
    /// Of a processor.
    pub(super) cpu_s: f64,
}

/// What a process takes at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) process: usize,
    pub(super) age: Duration,
    pub(super) private_kib: u64,
    pub(super) threads: u64,
    pub(super) descriptors: u64,
}

/// The agent of the node, whichever process that is.
#[derive(Debug)]
pub(super) struct Agent<'a> {
    stage: &'a Stage<'a>,
    command: Command,
    current: Mutex<Option<Process>>,
    ended: Mutex<Vec<Ended>>,
}

impl<'a> Agent<'a> {
    /// Starts the first.
    pub(super) fn start(stage: &'a Stage<'a>) -> Result<Self> {
        let command = command(stage)?;
        let agent = Self { stage, command, current: Mutex::default(), ended: Mutex::default() };
        agent.begin(&mut lock(&agent.current))?;
        Ok(agent)
    }

    /// What it pins, as seen from here.
    pub(super) fn pins(&self) -> PathBuf {
        let pid = self.stage.cluster.nodes()[1].pid();
        Path::new("/proc").join(pid.to_string()).join("root").join(PINS.trim_start_matches('/'))
    }

    fn begin(&self, current: &mut Option<Process>) -> Result<()> {
        let number = self.stage.reading.begin();
        let mut daemon = Daemon::start_talking("soak-agent", &self.command)?;
        let output = daemon.stdout()?;
        let reading = Arc::clone(&self.stage.reading);
        let reader = thread::spawn(move || read(output, number, &reading));
        *current = Some(Process { daemon, number, begun: Instant::now(), reader });
        Ok(())
    }

    /// Ends the process so, and starts another at once.
    pub(super) fn restart(&self, how: Ending) -> Result<()> {
        let mut current = lock(&self.current);
        self.finish(current.take().context("an agent runs")?, Some(how))?;
        self.begin(&mut current)
    }

    /// Ends the last one, and waits until all that was written has been read.
    pub(super) fn end(&self) -> Result<()> {
        let process = lock(&self.current).take().context("an agent runs")?;
        let status = self.finish(process, Some(Ending::Ended))?;
        ensure!(status.success(), "the last agent ended with {status}");
        Ok(())
    }

    fn finish(&self, mut process: Process, how: Option<Ending>) -> Result<ExitStatus> {
        let pid = process.daemon.pid();
        if stat(pid).is_none_or(|stat| stat.is_over) {
            self.stage.fault(format!("the agent (process {}) ended by itself", process.number));
        } else if let Some(how) = how {
            let signal = if how == Ending::Killed { Signal::KILL } else { Signal::TERM };
            process.daemon.signal(signal)?;
        }
        let begun = Instant::now();
        // It can be asked until it is waited for. Other threads may still be about to end.
        let cpu_s = wait::until("the agent has ended", PATIENCE, || {
            let stat = stat(pid).context("a child is there until it is waited for")?;
            Ok(if stat.is_over { Ok(stat.cpu_s) } else { Err("it runs".to_owned()) })
        })?;
        let status = process.daemon.wait()?;
        let lived = process.begun.elapsed();
        lock(&self.ended).push(Ended { how, lived, cpu_s });
        self.stage.say(&format!(
            "agent {} {}: {status}, {:.1} s after the signal, {:.0} s old, {cpu_s:.2} s of CPU",
            process.number,
            match how {
                Some(Ending::Killed) => "killed",
                Some(Ending::Ended) => "ended",
                None => "gone",
            },
            begun.elapsed().as_secs_f64(),
            lived.as_secs_f64(),
        ));
        if !self.stage.is_over() {
            return Ok(status);
        }
        process.reader.join().map_err(|_| anyhow::anyhow!("the reader of an agent's lines panicked"))?;
        Ok(status)
    }

    /// Another is started for one that has ended by itself.
    pub(super) fn look_after(&self) -> Result<()> {
        let mut current = lock(&self.current);
        let pid = current.as_ref().context("an agent runs")?.daemon.pid();
        if stat(pid).is_none_or(|stat| stat.is_over) {
            self.finish(current.take().context("an agent runs")?, None)?;
            self.begin(&mut current)?;
        }
        Ok(())
    }

    /// Those that have ended, in order.
    pub(super) fn ended(&self) -> Vec<Ended> {
        lock(&self.ended).clone()
    }

    /// Of the process that runs.
    pub(super) fn pid(&self) -> Option<u32> {
        lock(&self.current).as_ref().map(|process| process.daemon.pid())
    }

    /// What the process takes that runs. Nothing while it is only about to become the agent.
    pub(super) fn taken(&self) -> Option<Taken> {
        let current = lock(&self.current);
        let process = current.as_ref()?;
        let place = Path::new("/proc").join(process.daemon.pid().to_string());
        let status = fs::read_to_string(place.join("status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        status.contains("Name:\tkube-tcpstates").then_some(())?;
        Some(Taken {
            process: process.number,
            age: process.begun.elapsed(),
            private_kib: field("RssAnon:")?,
            threads: field("Threads:")?,
            descriptors: u64::try_from(fs::read_dir(place.join("fd")).ok()?.count()).ok()?,
        })
    }

    /// Waits until a plan is in force.
    pub(super) fn await_in_force(&self) -> Result<()> {
        wait::until("the agent traces", PATIENCE, || {
            Ok(self.stage.reading.in_force_for().map(drop).ok_or_else(|| "no `start` line".to_owned()))
        })
    }

    /// Asks for the counts.
    pub(super) fn counts(&self) -> Result<String> {
        let current = lock(&self.current);
        let process = current.as_ref().context("an agent runs")?;
        lock(&self.stage.reading.account).forget_counts(process.number);
        process.daemon.signal(Signal::USR1)?;
        wait::until("the agent says its counts", PATIENCE, || {
            let account = lock(&self.stage.reading.account);
            let counts = account.runs().get(process.number).and_then(|run| run.counts.clone());
            Ok(counts.ok_or_else(|| "it does not".to_owned()))
        })
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        // The cluster goes down after this, and kills whatever is left.
        self.stage.reading.stall(false);
        if let Some(mut process) = lock(&self.current).take()
            && let Err(error) = process.daemon.kill()
        {
            eprintln!("{error:#}");
        }
    }
}

/// In the node's network and mounts, with the capabilities and the token of an installed one.
fn command(stage: &Stage<'_>) -> Result<Command> {
    let program = place::given("KUBE_TCPSTATES_BIN")?;
    let kubeconfig = agent::kubeconfig(stage.cluster, "soak")?;
    let mut command = stage.cluster.nodes()[1].command("setpriv");
    command.arg(format!("--bounding-set={CAPABILITIES}")).arg(format!("--inh-caps={CAPABILITIES}"));
    command.args(["--no-new-privs", "--"]).arg(program).arg("agent");
    command.arg(format!("--node-name={NODE}")).arg(format!("--kubeconfig={}", kubeconfig.display()));
    command.arg(format!("--pin={PINS}"));
    command.arg(format!("--daemon-set={}/kube-tcpstates-agent", agent::NAMESPACE));
    // What a limit leaves out is no loss, and would have to be told apart.
    command.args(["--max-lines-per-second=0", "--heartbeat=10s", "--metrics-addr=127.0.0.1:9464"]);
    Ok(command)
}

fn read(output: impl Read, process: usize, reading: &Reading) {
    let mut reader = BufReader::with_capacity(1 << 16, output);
    let mut text = Vec::new();
    loop {
        reading.wait_unless_stalled();
        text.clear();
        match reader.read_until(b'\n', &mut text) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        // A last line without its line feed is kept as it is: a torn line must be seen.
        let line = text.strip_suffix(b"\n").unwrap_or(&text);
        let news = lock(&reading.account).take(process, line);
        match news {
            Some(News::Started(continues)) => {
                reading.starts(process);
                let before = continues.unwrap_or_else(|| "nothing".to_owned());
                reading.clock.say(&format!("agent {process} traces, going on from {before}"));
            }
            Some(News::Said(said)) => reading.clock.say(&format!("agent {process} says: {said}")),
            None => {}
        }
    }
}

/// What `/proc/PID/stat` says.
struct Stat {
    is_over: bool,
    cpu_s: f64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some(Stat { is_over: matches!(*fields.first()?, "Z" | "X"), cpu_s: (ticks(11)? + ticks(12)?) / TICKS })
}
