//! Looks every five seconds at what the agent takes, and now and then at what the kernel holds for it.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::agent::{Agent, Taken};
use super::maps;
use super::stage::{Stage, lock};
use super::trend::Point;
use super::verdict::Entries;

const EVERY: Duration = Duration::from_secs(5);
/// At what the kernel holds it looks once in so many times.
const MAPS_EVERY: usize = 6;
/// A young process reads the kernel's types and lists what there is: that it takes more for a moment is no growth.
const YOUNG: Duration = Duration::from_secs(10);

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Watch {
    samples: Mutex<Vec<(Duration, Taken)>>,
    most: Mutex<Entries>,
    is_over: AtomicBool,
}

impl Watch {
    /// Looks until it is told to end.
    pub(super) fn run(&self, stage: &Stage<'_>, agent: &Agent<'_>, pins: &Path) -> Result<()> {
        let mut next = Instant::now();
        let mut turns: usize = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            if Instant::now() >= next {
                next = Instant::now() + EVERY;
                agent.look_after()?;
                turns += 1;
                if turns.is_multiple_of(MAPS_EVERY) {
                    self.look_at(maps::entries(pins)?);
                }
                if let Some(taken) = agent.taken() {
                    lock(&self.samples).push((stage.reading.clock.0.elapsed(), taken));
                }
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn look_at(&self, entries: Entries) {
        let mut most = lock(&self.most);
        for (name, count) in entries {
            let before = most.entry(name).or_default();
            *before = count.max(*before);
        }
    }

    /// The most entries that each map had.
    pub(super) fn most_entries(&self) -> Entries {
        lock(&self.most).clone()
    }

    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// One figure of all processes but the last, each beyond its first seconds: they live about as long as each other.
    pub(super) fn of_killed(&self, figure: impl Fn(&Taken) -> u64) -> Vec<Point> {
        self.of(false, figure)
    }

    /// The same of the last process, which lives longest.
    pub(super) fn of_last(&self, figure: impl Fn(&Taken) -> u64) -> Vec<Point> {
        self.of(true, figure)
    }

    fn of(&self, is_last: bool, figure: impl Fn(&Taken) -> u64) -> Vec<Point> {
        let samples = lock(&self.samples);
        let last = samples.iter().map(|(_, taken)| taken.process).max();
        points(samples.iter().filter(|(_, taken)| (Some(taken.process) == last) == is_last), figure)
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
