//! The load: TCP connections, both ends of each in one thread of one process.
//!
//! One thread does both ends so that no scheduler stands between them: on loopback and over veth every segment is
//! handled inside the system call that sends it, and a run is as long as the kernel's TCP is slow. Nothing is sent but
//! SYN, FIN and RST.
//!
//! The process tells when it is ready, then makes a run for each line of stdin (`connections N` or `seconds N`) and
//! answers with one line, a [`Report`]. So the measured part never includes the start of a process.

mod churn;
mod options;
mod place;

use std::io::{BufRead as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

pub use options::{Ending, Options};

use churn::{Held, Lane};

/// What a run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Connections from connect to close.
    pub connections: u64,
    /// Transitions that they make in the kernel, by the way they end.
    pub transitions: u64,
    /// Wall-clock time, ns.
    pub wall_ns: u64,
    /// CPU time of the process, ns. What interrupts do on its back is part of it.
    pub cpu_ns: u64,
}

impl Report {
    /// Connections a second.
    #[expect(clippy::cast_precision_loss, reason = "a rate, not a count")]
    pub fn rate(&self) -> f64 {
        self.connections as f64 * 1e9 / self.wall_ns.max(1) as f64
    }

    /// Connections a second of its own CPU time, which others on the same CPU take nothing from.
    #[expect(clippy::cast_precision_loss, reason = "a rate, not a count")]
    pub fn rate_by_cpu(&self) -> f64 {
        self.connections as f64 * 1e9 / self.cpu_ns.max(1) as f64
    }
}

/// How long a run is.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    /// So many connections, shared by the threads.
    Connections(u64),
    /// So much time.
    Time(Duration),
}

impl Length {
    /// As a line of stdin says it.
    pub fn request(self) -> String {
        match self {
            Self::Connections(count) => format!("connections {count}"),
            Self::Time(time) => format!("seconds {}", time.as_secs()),
        }
    }

    fn parse(line: &str) -> Result<Self> {
        let (what, number) = line.split_once(' ').context("`connections N` or `seconds N`")?;
        let number: u64 = number.trim().parse().with_context(|| format!("`{number}` is no number"))?;
        match what {
            "connections" => Ok(Self::Connections(number)),
            "seconds" => Ok(Self::Time(Duration::from_secs(number))),
            other => bail!("`{other}` is neither `connections` nor `seconds`"),
        }
    }
}

/// Opens what is to be held, and answers stdin until it ends.
pub fn serve(options: &Options) -> Result<()> {
    place::enter(options)?;
    let mut lanes =
        (0..options.threads).map(|thread| Lane::new(options, thread)).collect::<Result<Vec<_>>>()?;
    let held = Held::open(options)?;
    say(&serde_json::json!({ "held": held.connections() }))?;
    for line in std::io::stdin().lock().lines() {
        let length = Length::parse(&line.context("read stdin")?)?;
        say(&run(&mut lanes, options, length)?)?;
    }
    Ok(())
}

fn say(what: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&line).and_then(|()| stdout.flush()).context("write to stdout")
}

/// What the threads of a run share.
struct Run {
    begun: AtomicU64,
    length: Length,
    start: Instant,
}

impl Run {
    /// Whether one more connection belongs to the run.
    fn goes_on(&self) -> bool {
        match self.length {
            Length::Connections(count) => self.begun.fetch_add(1, Ordering::Relaxed) < count,
            Length::Time(time) => self.start.elapsed() < time,
        }
    }
}

fn run(lanes: &mut [Lane], options: &Options, length: Length) -> Result<Report> {
    let cpu_before = process_cpu_ns();
    let run = Run { begun: AtomicU64::new(0), length, start: Instant::now() };
    let connections = thread::scope(|scope| {
        let threads: Vec<_> =
            lanes.iter_mut().map(|lane| scope.spawn(|| churn_until(lane, options, &run))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
            .sum::<Result<u64>>()
    })?;
    let wall_ns = u64::try_from(run.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok(Report {
        connections,
        transitions: connections * options.ending.transitions(),
        wall_ns,
        cpu_ns: process_cpu_ns() - cpu_before,
    })
}

fn churn_until(lane: &mut Lane, options: &Options, run: &Run) -> Result<u64> {
    let pause =
        options.rate.map(|rate| Duration::from_secs_f64(f64::from(options.threads) / f64::from(rate)));
    let mut made = 0;
    while run.goes_on() {
        lane.connection()?;
        made += 1;
        if let Some(pause) = pause {
            let due = run.start + pause * u32::try_from(made).unwrap_or(u32::MAX);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    Ok(made)
}

fn process_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_what_is_understood() {
        for length in [Length::Connections(7), Length::Time(Duration::from_secs(3))] {
            assert_eq!(format!("{:?}", Length::parse(&length.request()).unwrap()), format!("{length:?}"));
        }
        assert!(Length::parse("seconds").is_err());
        assert!(Length::parse("minutes 3").is_err());
    }

    #[test]
    fn a_run_makes_as_many_connections_as_asked_for() {
        for ending in [Ending::Client, Ending::Server, Ending::Reset] {
            let options = Options { ending, threads: 2, ..Options::loopback() };
            let mut lanes: Vec<_> = (0..2).map(|thread| Lane::new(&options, thread).unwrap()).collect();
            let report = run(&mut lanes, &options, Length::Connections(501)).unwrap();
            assert_eq!(report.connections, 501);
            assert_eq!(report.transitions, 501 * ending.transitions());
        }
    }
}
