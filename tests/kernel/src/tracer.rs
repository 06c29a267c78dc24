//! Running the tracer under test and taking in what it writes.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use crate::age::assert_durations_add_up;
use crate::counts::Counts;
use crate::kernel_log::KernelLog;
use crate::line::{Event, Line};

/// Longest time a tracer may take to start, or to end after a signal: in an emulated machine, three at once.
const PATIENCE: Duration = Duration::from_mins(2);

/// The program under test: `KUBE_TCPSTATES_BIN`, else the release build of this target folder.
pub fn program() -> PathBuf {
    let program = std::env::var_os("KUBE_TCPSTATES_BIN").map_or_else(release_build, PathBuf::from);
    assert!(program.exists(), "{} is missing: build it, or set KUBE_TCPSTATES_BIN", program.display());
    program
}

/// `target/release/kube-tcpstates`, seen from `target/PROFILE/deps/TEST`.
fn release_build() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the running test");
    let target = test.ancestors().nth(3).expect("a test is in target/PROFILE/deps");
    target.join("release/kube-tcpstates")
}

/// How to run it.
#[derive(Debug)]
pub struct Setup {
    program: Option<PathBuf>,
    arguments: Vec<String>,
    stdout: Stdout,
    stderr: Option<File>,
    wrapper: Vec<String>,
}

#[derive(Debug)]
enum Stdout {
    Read,
    Nowhere,
    File(File),
}

impl Setup {
    /// `kube-tcpstates` with these arguments.
    pub fn run<I: IntoIterator<Item: Into<String>>>(arguments: I) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self { program: None, arguments, stdout: Stdout::Read, stderr: None, wrapper: Vec::new() }
    }

    /// `kube-tcpstates trace` with these options.
    pub fn trace<I: IntoIterator<Item: Into<String>>>(options: I) -> Self {
        let mut setup = Self::run(["trace"]);
        setup.arguments.extend(options.into_iter().map(Into::into));
        setup
    }

    /// The same with `-o json`.
    pub fn json<I: IntoIterator<Item: Into<String>>>(options: I) -> Self {
        let mut setup = Self::trace(["-o", "json"]);
        setup.arguments.extend(options.into_iter().map(Into::into));
        setup
    }

    /// Runs this copy of the program.
    #[must_use]
    pub fn program(mut self, copy: &Path) -> Self {
        self.program = Some(copy.to_owned());
        self
    }

    /// Stdout is `/dev/null`.
    #[must_use]
    pub fn to_nowhere(mut self) -> Self {
        self.stdout = Stdout::Nowhere;
        self
    }

    /// Stdout is that file.
    #[must_use]
    pub fn to_file(mut self, file: File) -> Self {
        self.stdout = Stdout::File(file);
        self
    }

    /// Stderr is that file: what is said there is not read.
    #[must_use]
    pub fn stderr_to(mut self, file: File) -> Self {
        self.stderr = Some(file);
        self
    }

    /// Runs it by way of a program that ends in `exec`, such as setpriv.
    #[must_use]
    pub fn through<I: IntoIterator<Item: Into<String>>>(mut self, wrapper: I) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    /// Runs it where tracefs is mounted, in a mount namespace of its own: the classic tracepoint needs it.
    #[must_use]
    pub fn with_tracefs(self) -> Self {
        self.through(TRACEFS_WRAPPER)
    }

    /// Starts it. What it wrote before it was ready is part of what it wrote.
    pub fn start(self) -> Tracer {
        let mut words = self.wrapper;
        let program = self.program.unwrap_or_else(program);
        words.push(program.to_str().expect("the program's path is text").to_owned());
        words.extend(self.arguments);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).process_group(0);
        command.stderr(self.stderr.map_or_else(Stdio::piped, Stdio::from));
        command.stdout(match self.stdout {
            Stdout::Read => Stdio::piped(),
            Stdout::Nowhere => Stdio::null(),
            Stdout::File(file) => file.into(),
        });
        let kernel_log = KernelLog::from_now();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let taken = Arc::new(Taken::default());
        let stdout = child.stdout.take().map(|pipe| spawn_reader(pipe, &taken));
        let stderr = child.stderr.take().map(|pipe| spawn_stderr_reader(pipe, &taken));
        Tracer { child, taken, stdout, stderr, words, kernel_log }
    }

    /// Starts it and waits until it traces.
    #[track_caller]
    pub fn start_ready(self) -> Tracer {
        let mut tracer = self.start();
        tracer.wait_ready();
        tracer
    }
}

/// Words before a program that give it a tracefs.
pub const TRACEFS_WRAPPER: [&str; 6] = [
    "unshare",
    "--mount",
    "sh",
    "-ec",
    "mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing; exec \"$@\"",
    "sh",
];

/// What the reading threads have so far.
#[derive(Debug, Default)]
struct Taken {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    stderr: String,
    /// The reader of stdout leaves the pipe alone.
    paused: bool,
    stdout_ended: bool,
}

impl Taken {
    /// A test that failed while it held the lock poisons it; what is to be cleaned up needs it all the same.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done`; false when that took too long.
    fn wait_until(&self, limit: Duration, mut done: impl FnMut(&State) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), limit, |state| !done(state));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn change(&self, act: impl FnOnce(&mut State)) {
        act(&mut self.lock());
        self.changed.notify_all();
    }
}

fn spawn_reader(pipe: ChildStdout, taken: &Arc<Taken>) -> JoinHandle<()> {
    let taken = Arc::clone(taken);
    thread::spawn(move || {
        let mut reader = BufReader::with_capacity(1 << 16, pipe);
        let mut text = Vec::new();
        loop {
            taken.wait_until(Duration::MAX, |state| !state.paused);
            if reader.read_until(b'\n', &mut text).expect("read the tracer's stdout") == 0 {
                break;
            }
            let arrived = SystemTime::now();
            // A last line without its line feed is kept as it is: a torn line must be seen.
            if text.ends_with(b"\n") {
                text.pop();
            }
            let line = Line { text: std::mem::take(&mut text), arrived };
            taken.change(|state| state.lines.push(line));
        }
        taken.change(|state| state.stdout_ended = true);
    })
}

fn spawn_stderr_reader(mut pipe: ChildStderr, taken: &Arc<Taken>) -> JoinHandle<()> {
    let taken = Arc::clone(taken);
    thread::spawn(move || {
        let mut piece = [0; 4096];
        loop {
            let read = pipe.read(&mut piece).expect("read the tracer's stderr");
            if read == 0 {
                break;
            }
            taken.change(|state| state.stderr.push_str(&String::from_utf8_lossy(&piece[..read])));
        }
    })
}

/// A tracer at work; killed on drop.
#[derive(Debug)]
pub struct Tracer {
    child: Child,
    taken: Arc<Taken>,
    stdout: Option<JoinHandle<()>>,
    stderr: Option<JoinHandle<()>>,
    words: Vec<String>,
    kernel_log: KernelLog,
}

impl Tracer {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the first line: `start` in JSON, the header of a table.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        if self.stdout.is_none() {
            return self.wait_answering();
        }
        let begun = Instant::now();
        let seen = self.taken.wait_until(PATIENCE, |state| !state.lines.is_empty() || state.stdout_ended);
        let state = self.taken.lock();
        assert!(
            seen && !state.lines.is_empty(),
            "{:?} wrote nothing within {:?}; it said:\n{}",
            self.words,
            begun.elapsed(),
            state.stderr
        );
    }

    /// Without a stdout to read, the answer to SIGUSR1 shows that it runs. Sent only once the signal is caught:
    /// its default is to end the process.
    #[track_caller]
    fn wait_answering(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.catches(Signal::USR1) {
            assert!(Instant::now() < deadline, "{:?} does not run: {}", self.words, self.stderr_now());
            thread::sleep(Duration::from_millis(10));
        }
        self.counts_now();
    }

    fn catches(&self, signal: Signal) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
        mask & (1 << (signal.as_raw() - 1)) != 0
    }

    /// Whether it has not ended yet. A process that has ended but was not waited for is a zombie.
    pub fn is_running(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("send {signal:?} to the tracer: {error}"));
    }

    /// Asks for the counts with SIGUSR1 and waits for the answer.
    #[track_caller]
    pub fn counts_now(&self) -> Counts {
        let before = self.stderr_now().len();
        self.signal(Signal::USR1);
        let fresh = |state: &State| {
            let text = &state.stderr[before..];
            text[..text.rfind('\n').map_or(0, |end| end + 1)].lines().find_map(Counts::parse)
        };
        assert!(
            self.taken.wait_until(PATIENCE, |state| fresh(state).is_some()),
            "no counts after SIGUSR1; stderr:\n{}",
            self.stderr_now()
        );
        fresh(&self.taken.lock()).expect("just seen")
    }

    /// What it has written to stderr so far.
    pub fn stderr_now(&self) -> String {
        self.taken.lock().stderr.clone()
    }

    /// How many lines of stdout have been read so far.
    pub fn lines_now(&self) -> usize {
        self.taken.lock().lines.len()
    }

    /// The lines of stdout that have been read so far.
    pub fn lines_so_far(&self) -> Vec<Line> {
        self.taken.lock().lines.clone()
    }

    /// Waits for so many lines in all.
    #[track_caller]
    pub fn wait_lines(&self, count: usize, limit: Duration) {
        let enough = self.taken.wait_until(limit, |state| state.lines.len() >= count || state.stdout_ended);
        let state = self.taken.lock();
        assert!(
            enough && state.lines.len() >= count,
            "{} lines instead of {count} after {limit:?}; stderr:\n{}",
            state.lines.len(),
            state.stderr
        );
    }

    /// Waits until no line has come for `quiet`: what was in flight has arrived.
    pub fn settle(&self, quiet: Duration) {
        let mut seen = self.lines_now();
        let deadline = Instant::now() + PATIENCE;
        while self.taken.wait_until(quiet, |state| state.lines.len() > seen) && Instant::now() < deadline {
            seen = self.lines_now();
        }
    }

    /// Stops reading stdout: the pipe fills up, and the tracer has nobody to write to.
    pub fn pause_reading(&self) {
        self.taken.change(|state| state.paused = true);
    }

    /// Reads stdout again.
    pub fn resume_reading(&self) {
        self.taken.change(|state| state.paused = false);
    }

    /// Ends it with SIGINT and returns everything it wrote.
    #[track_caller]
    pub fn stop(self) -> Finished {
        self.signal(Signal::INT);
        self.wait_end(PATIENCE)
    }

    /// Ends it with SIGKILL and returns everything it wrote.
    #[track_caller]
    pub fn kill(self) -> Finished {
        self.signal(Signal::KILL);
        self.wait_end(Duration::from_mins(1))
    }

    /// Waits for its own end.
    #[track_caller]
    pub fn wait_end(mut self, limit: Duration) -> Finished {
        let deadline = Instant::now() + limit;
        let status = loop {
            match self.child.try_wait().expect("wait for the tracer") {
                Some(status) => break status,
                None if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                None => {
                    panic!("{:?} did not end within {limit:?}; stderr:\n{}", self.words, self.stderr_now())
                }
            }
        };
        for reader in [self.stdout.take(), self.stderr.take()].into_iter().flatten() {
            reader.join().expect("the reading thread did not panic");
        }
        self.kernel_log.assert_quiet();
        let mut state = self.taken.lock();
        Finished {
            status,
            lines: std::mem::take(&mut state.lines),
            stderr: std::mem::take(&mut state.stderr),
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // A reader that was told to pause would wait for ever.
        self.resume_reading();
        // Both fail only when it has ended and been waited for already.
        drop(self.child.kill());
        drop(self.child.wait());
        if !thread::panicking() {
            self.kernel_log.assert_quiet();
        }
    }
}

/// Everything a tracer wrote.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Stdout, line by line.
    pub lines: Vec<Line>,
    /// Stderr.
    pub stderr: String,
}

impl Finished {
    /// It must have ended with exit code 0, counts that add up, and connections whose durations do.
    #[track_caller]
    pub fn assert_clean(&self) -> Counts {
        assert!(self.status.success(), "the tracer ended with {}; stderr:\n{}", self.status, self.stderr);
        let counts = self.counts();
        counts.assert_add_up();
        assert_durations_add_up(&self.lines);
        counts
    }

    /// The counts at the end.
    #[track_caller]
    pub fn counts(&self) -> Counts {
        Counts::last(&self.stderr).unwrap_or_else(|| panic!("no counts on stderr:\n{}", self.stderr))
    }

    /// All JSON lines.
    #[track_caller]
    pub fn events(&self) -> Vec<Event> {
        self.lines.iter().map(Line::json).collect()
    }

    /// The JSON lines of type `transition`.
    #[track_caller]
    pub fn transitions(&self) -> Vec<Event> {
        let mut events = self.events();
        events.retain(|event| event.kind() == "transition");
        events
    }
}
