//! Looks every five seconds at what the agent takes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::agent::{Agent, Taken};
use super::stage::{Stage, lock};
use super::trend::Point;

const EVERY: Duration = Duration::from_secs(5);
/// A young process reads the kernel's types and lists what there is: that it takes more for a moment is no growth.
const YOUNG: Duration = Duration::from_secs(10);

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Watch {
    samples: Mutex<Vec<(Duration, Taken)>>,
    is_over: AtomicBool,
}

impl Watch {
    /// Looks until it is told to end.
    pub(super) fn run(&self, stage: &Stage<'_>, agent: &Agent<'_>) -> Result<()> {
        let mut next = Instant::now();
        while !self.is_over.load(Ordering::Relaxed) {
            if Instant::now() >= next {
                next = Instant::now() + EVERY;
                agent.look_after()?;
                if let Some(taken) = agent.taken() {
                    lock(&self.samples).push((stage.reading.clock.0.elapsed(), taken));
                }
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// One figure of all processes, each beyond its first seconds.
    pub(super) fn of_all(&self, figure: impl Fn(&Taken) -> u64) -> Vec<Point> {
        points(lock(&self.samples).iter(), figure)
    }

    /// The same of the last process, which lives longest.
    pub(super) fn of_last(&self, figure: impl Fn(&Taken) -> u64) -> Vec<Point> {
        let samples = lock(&self.samples);
        let last = samples.iter().map(|(_, taken)| taken.process).max();
        points(samples.iter().filter(|(_, taken)| Some(taken.process) == last), figure)
    }
}

fn points<'a>(
    samples: impl Iterator<Item = &'a (Duration, Taken)>,
    figure: impl Fn(&Taken) -> u64,
) -> Vec<Point> {
    let grown = samples.filter(|(_, taken)| taken.age >= YOUNG);
    // Far below 2^53.
    #[expect(clippy::cast_precision_loss, reason = "memory in KiB, threads and descriptors")]
    grown.map(|(at, taken)| (*at, figure(taken) as f64)).collect()
}
