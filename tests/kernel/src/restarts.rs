//! Tracers that pin, one after the other, and what all of them told together.

use std::collections::HashSet;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::line::Event;
use crate::pinned::BpfFs;
use crate::scene::Scene;
use crate::tracer::{Finished, Setup, Tracer};
use crate::workload::Ending;

/// A tracer runs so long before it is ended.
pub const A_WHILE: Duration = Duration::from_millis(200);
/// Between two bursts of connections: some thousand transitions a second, which whoever reads here keeps up with.
const BREATH: Duration = Duration::from_millis(60);
/// One write of whole lines to a pipe, the shortest of which has more than 200 bytes: what a killed tracer may have
/// written and not counted.
pub const ONE_WRITE: u64 = 4096 / 200;

/// A scene whose clients go on and on, and the tracers that see it one after the other.
#[derive(Debug)]
pub struct Restarts {
    /// Where all this is.
    pub scene: Scene,
    /// Where they pin.
    pub bpf: BpfFs,
    /// Of each tracer.
    pub options: Vec<String>,
}

impl Restarts {
    /// With more options for each.
    pub fn new(more: &[&str]) -> Self {
        let scene = Scene::new(Ending::ClientFirst);
        let bpf = BpfFs::mount();
        let mut options = vec!["--pin".to_owned(), bpf.place().display().to_string()];
        options.extend(scene.only_this());
        options.extend(more.iter().map(|option| (*option).to_owned()));
        Self { scene, bpf, options }
    }

    /// The next of them.
    pub fn start(&self) -> Tracer {
        Setup::json(self.options.clone()).start_ready()
    }

    /// The first of all, before anybody connects; tracing goes on from here.
    pub fn first(&self) -> Finished {
        let tracer = self.start();
        tracer.signal(Signal::TERM);
        tracer.wait_end(Duration::from_mins(1))
    }

    /// The last of all, once nobody connects any more; it ends for good.
    pub fn last(&self) -> Finished {
        let tracer = self.start();
        tracer.settle(Duration::from_secs(1));
        tracer.stop()
    }

    /// Has clients connect while `during` goes on, until it is over.
    pub fn meanwhile<T: Send>(&mut self, connections: u64, during: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let during = scope.spawn(during);
            while !during.is_finished() {
                let churn = self.scene.churn(connections);
                self.scene.run(&churn);
                sleep(BREATH);
            }
            during.join().expect("what went on meanwhile")
        })
    }
}

/// Ends a tracer so and starts the next, so many times. Returns what each wrote.
pub fn again_and_again(options: &[String], signal: Signal, times: usize) -> Vec<Finished> {
    let mut runs = Vec::new();
    let mut gaps = Vec::new();
    for _ in 0..times {
        let tracer = Setup::json(options.to_vec()).start_ready();
        sleep(A_WHILE);
        let ended = Instant::now();
        tracer.signal(signal);
        runs.push(tracer.wait_end(Duration::from_mins(1)));
        gaps.push(ended.elapsed());
    }
    gaps.sort();
    println!(
        "from the signal to the end: {:?} in the middle, {:?} at most",
        gaps[times / 2],
        gaps[times - 1]
    );
    runs
}

/// What happened is in the lines of all runs, each once, or in the last count of losses. Returns how many are in both.
#[track_caller]
pub fn assert_told_once(runs: &[Finished], happened: u64) -> u64 {
    let mut told = HashSet::new();
    let mut before: Option<(String, u64)> = None;
    let mut after_seq = 0;
    for run in runs {
        let events = run.events();
        let start = &events[0];
        let numbered: Vec<&Event> = events.iter().filter(|event| event.kind() != "log").collect();
        for (number, event) in (1..).zip(&numbered) {
            assert_eq!(event.number("tcpstates.seq"), Some(number), "{:?}", event.0);
        }
        if let Some((name, lines)) = &before {
            assert_eq!(start.text("tcpstates.continues.run"), Some(name.as_str()));
            let seq = start.number("tcpstates.continues.seq").expect("a number");
            assert!(seq <= *lines && lines - seq <= ONE_WRITE, "{lines} lines were read of {seq}");
            after_seq += lines - seq;
        }
        before = Some((start.must("tcpstates.run").to_owned(), numbered.len() as u64));
        for event in events.iter().filter(|event| event.kind() == "transition") {
            let key = ["time", "connection.id", "new_state"].map(|name| {
                let name = if name == "time" { name.to_owned() } else { format!("tcpstates.{name}") };
                event.must(&name).to_owned()
            });
            assert!(told.insert(key), "told twice: {:?}", event.0);
        }
    }
    let counts = runs.last().expect("there are runs").assert_clean();
    let (lines, lost) = (told.len() as u64, counts.lost());
    println!(
        "{happened} transitions: {lines} lines, {lost} lost (restart {}, ring {}, recursion {}), {after_seq} lines read \
         and not counted as written",
        counts.get("lost_restart"),
        counts.get("ring_full"),
        counts.get("recursion")
    );
    assert!(lines + lost >= happened, "{} are neither told nor counted", happened - lines - lost);
    // What the kernel skipped may be other programs'.
    (lines + lost - happened).saturating_sub(counts.get("recursion"))
}

/// Whoever followed one connection through the restarts sees one. Only where the kernel skipped what a connection began with
/// is there no record of it, and the next line has no duration.
#[track_caller]
pub fn assert_ids_and_durations_hold(runs: &[Finished]) {
    let unknown: Vec<Event> = runs
        .iter()
        .flat_map(Finished::transitions)
        .filter(|event| event.number("tcpstates.state_duration_us").is_none())
        // They have none, or follow from others: the kernel did not run the program for them.
        .filter(|event| !["CLOSE", "LISTEN"].contains(&event.must("tcpstates.old_state")))
        .filter(|event| {
            ["inferred", "gap"].iter().all(|flag| event.get(&format!("tcpstates.{flag}")).is_none())
        })
        .collect();
    let skipped = runs.last().expect("there are runs").assert_clean().get("recursion");
    assert!(
        unknown.len() as u64 <= skipped,
        "{} lines have no duration, the kernel skipped {skipped}, such as {:?}",
        unknown.len(),
        unknown[0].0
    );
    let is_partial = |event: &&Event| event.get("tcpstates.connection.partial").is_some();
    assert!(unknown.iter().all(|event| is_partial(&event)), "a connection that was known: {unknown:?}");
}
