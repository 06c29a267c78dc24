//! What is measured: programs that trace, each a process of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use kube_tcpstates_kernel_tests::peer;
use kube_tcpstates_kernel_tests::programs::{self, LoadedProgram};
use kube_tcpstates_kernel_tests::tracer::TRACEFS_WRAPPER;
use rustix::process::{Pid, Signal, kill_process};

use crate::kernel::Ran;

/// Where the programs are that were built for this.
#[derive(Clone, Debug)]
pub struct Built {
    /// The agent.
    pub agent: PathBuf,
    /// The load generator.
    pub load: PathBuf,
    /// This program.
    pub bench: PathBuf,
    /// Object with the empty program and the bare reserve.
    pub object: PathBuf,
}

/// Somebody to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `kube-tcpstates trace -o json` with more options.
    Agent(Vec<String>),
    /// Our programs with so many traces that take everything; each of them constrains every dimension or none.
    Traces {
        /// Up to 64.
        count: usize,
        /// By cgroup, family, ports, prefix and states.
        constrained: bool,
        /// Id of the cgroup that they select.
        cgroup: u64,
    },
    /// A program on the same hook that does nothing.
    Empty,
    /// One that reserves and submits as many bytes as a transition has.
    Reserve,
    /// libbpf-tools' tcpstates.
    Tcpstates,
    /// libbpf-tools' tcplife: a line for each connection.
    Tcplife,
    /// `ss --events`: a line for each socket that is destroyed, as `sock_diag` tells it.
    Ss,
    /// `perf trace`, printing the transitions.
    PerfTrace,
    /// bpftrace, counting transitions by states.
    BpftraceCount,
    /// bpftrace, printing what tcpstates prints.
    BpftracePrint,
}

/// Counts TCP's transitions, in a map.
const COUNT: &str = "tracepoint:sock:inet_sock_set_state /args->protocol == 6/ \
                     { @[args->oldstate, args->newstate] = count(); }";
/// Prints them, with the time in the old state.
const PRINT: &str = "tracepoint:sock:inet_sock_set_state /args->protocol == 6/ { \
    printf(\"%p %d %s %s %d %s %d %d %d %d\\n\", args->skaddr, pid, comm, ntop(args->family, args->saddr), args->sport, \
    ntop(args->family, args->daddr), args->dport, args->oldstate, args->newstate, \
    @since[args->skaddr] ? (nsecs - @since[args->skaddr]) / 1000 : 0); \
    if (args->newstate == 7) { delete(@since[args->skaddr]); } else { @since[args->skaddr] = nsecs; } }";

impl Subject {
    /// The agent with no filter.
    pub const fn agent() -> Self {
        Self::Agent(Vec::new())
    }

    /// The agent with a filter that nobody passes: a container that does not exist.
    pub fn agent_filtered() -> Self {
        Self::Agent(vec!["--container".to_owned(), "f".repeat(64)])
    }

    /// The agent with a filter that only a connection's ports tell, which nobody has.
    pub fn agent_filtered_by(option: &str) -> Self {
        Self::Agent(vec![option.to_owned(), "1".to_owned()])
    }

    /// Whether it works by programs of its own in the kernel.
    const fn loads_programs(&self) -> bool {
        !matches!(self, Self::Ss | Self::PerfTrace)
    }

    fn command(&self, built: &Built) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let path = |path: &PathBuf| path.display().to_string();
        let with_tracefs = |program: &[&str]| words(&[&TRACEFS_WRAPPER[..], program].concat());
        match self {
            Self::Agent(options) => {
                let mut command = vec![path(&built.agent), "trace".into(), "-o".into(), "json".into()];
                command.extend_from_slice(options);
                command
            }
            Self::Traces { count, constrained, cgroup } => {
                let mut command = vec![
                    path(&built.bench),
                    "traces".into(),
                    count.to_string(),
                    "--cgroup".into(),
                    cgroup.to_string(),
                ];
                command.extend(constrained.then(|| "--constrained".to_owned()));
                command
            }
            Self::Empty => vec![path(&built.bench), "bare".into(), path(&built.object), "empty".into()],
            Self::Reserve => vec![path(&built.bench), "bare".into(), path(&built.object), "reserve".into()],
            Self::Tcpstates => with_tracefs(&[peer::PROGRAM]),
            Self::Tcplife => with_tracefs(&[peer::TCPLIFE]),
            Self::Ss => words(&["ss", "--events", "--tcp", "--numeric"]),
            Self::PerfTrace => with_tracefs(&[
                "perf",
                "trace",
                "--no-syscalls",
                "--all-cpus",
                "--event",
                "sock:inet_sock_set_state",
                "--output",
                "/dev/null",
            ]),
            Self::BpftraceCount => with_tracefs(&["bpftrace", "-e", COUNT]),
            Self::BpftracePrint => with_tracefs(&["bpftrace", "-e", PRINT]),
        }
    }

    /// Starts it on a CPU and waits until it traces. What it prints goes to /dev/null.
    pub fn start(&self, built: &Built, cpu: usize) -> Result<Running> {
        let before = programs::loaded();
        let command = self.command(built);
        let child = Command::new("taskset")
            .args(["--cpu-list", &cpu.to_string()])
            .args(&command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", command.join(" ")))?;
        let mut running = Running { child, programs: BTreeSet::new() };
        running
            .wait_until_it_traces(self.loads_programs().then_some(&before))
            .with_context(|| format!("start {}", command.join(" ")))?;
        Ok(running)
    }
}

/// A measured process; killed on drop.
#[derive(Debug)]
pub struct Running {
    child: Child,
    programs: BTreeSet<u32>,
}

/// Longest time for a start and for an end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Whoever has loaded programs and then does nothing for so long is ready, whatever it is.
const QUIET: Duration = Duration::from_millis(200);
/// CPU time that does not count as doing something, ns: whoever looks into its ring every few milliseconds needs some.
const IDLE_NS: u64 = 5_000_000;

impl Running {
    /// `before`: the programs that others had loaded. None of its own are waited for without it.
    fn wait_until_it_traces(&mut self, before: Option<&BTreeMap<u32, LoadedProgram>>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut used = 0;
        loop {
            thread::sleep(QUIET);
            if let Some(status) = self.child.try_wait().context("wait for it")? {
                bail!("it ended with {status}: {}", self.said());
            }
            let programs: BTreeSet<u32> = before.map_or_else(BTreeSet::new, |before| {
                programs::loaded().into_keys().filter(|id| !before.contains_key(id)).collect()
            });
            let now = self.cpu_ns();
            if before.is_some() != programs.is_empty() && now - used < IDLE_NS {
                self.programs = programs;
                return Ok(());
            }
            used = now;
            ensure!(Instant::now() < deadline, "not ready within {PATIENCE:?}");
        }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of its threads, ns.
    pub fn cpu_ns(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        let times = tasks.filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok());
        times.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// What its programs have done since they were loaded.
    pub fn ran(&self) -> Ran {
        Ran::of(&self.programs)
    }

    /// Ends it as Ctrl-C does. Returns what it said on stderr.
    pub fn stop(mut self) -> Result<String> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, Signal::INT).context("interrupt it")?;
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().context("wait for it")?.is_none() {
            ensure!(Instant::now() < deadline, "it did not end within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(self.said())
    }

    fn said(&mut self) -> String {
        let stderr = self.child.stderr.take();
        stderr.and_then(|stderr| std::io::read_to_string(stderr).ok()).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended and been waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
