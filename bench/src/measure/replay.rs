//! Recorded records through the whole user space: from the ring's bytes to the bytes of lines written to /dev/null.

use std::fs::File;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates::cgroupfs::Mount;
use kube_tcpstates::connection::ConnectionIds;
use kube_tcpstates::filter::{Mode, TraceFilter, compile};
use kube_tcpstates::kernel::{self, Options};
use kube_tcpstates::outlet::{Outlets, Queue, Stdout};
use kube_tcpstates::pipeline::{Counting, Replay, Setup, Whereabouts};
use kube_tcpstates::plan::{IdScope, Outcomes, Plan, View};
use kube_tcpstates::render::{FormatOptions, format};
use kube_tcpstates_common::record::{ConnectionRecord, TransitionRecord};
use kube_tcpstates_events::Line;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{records, stage::Stage};
use crate::report::{Promise, Report};
use crate::traces::RING_BYTES;

const GROUP: &str = "replay: record to line in /dev/null";
const RUNS: usize = 11;
const LINES: u64 = 1_000_000;
/// Records of one turn.
const BATCH: usize = 256;
/// Bytes that may wait for stdout before the next batch has to: a few batches, as when stdout keeps up.
const AHEAD: u64 = 512 << 10;

/// What is replayed.
trait Recorded: Sized {
    /// As what it is told.
    const MODE: Mode;

    fn set_generation(&mut self, generation: u32);

    fn feed(replay: &mut Replay, batch: &[Self]);
}

impl Recorded for TransitionRecord {
    const MODE: Mode = Mode::Transitions;

    fn set_generation(&mut self, generation: u32) {
        self.generation = generation;
    }

    fn feed(replay: &mut Replay, batch: &[Self]) {
        replay.feed(batch);
    }
}

impl Recorded for ConnectionRecord {
    const MODE: Mode = Mode::Connections;

    fn set_generation(&mut self, generation: u32) {
        self.transition.generation = generation;
    }

    fn feed(replay: &mut Replay, batch: &[Self]) {
        replay.feed_connections(batch);
    }
}

pub(super) fn measure(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let mut records = records::transitions(stage)?;
    let mut connections = records::connections(stage)?;
    let apart = rates(&mut records)?;
    let everywhere = sched_getaffinity(None).context("ask for the CPUs")?;
    let mut one = CpuSet::new();
    one.set(stage.settings.tracer_cpu);
    sched_setaffinity(None, &one).context("go to one CPU")?;
    let together = rates(&mut records);
    let connections = rates(&mut connections);
    let allocations = allocations(&mut records);
    sched_setaffinity(None, &everywhere).context("go back to all CPUs")?;
    let (together, connections, allocations) = (together?, connections?, allocations?);
    report.add(GROUP, "lines a second, one core", "", together);
    report.add(GROUP, "lines of connections a second, one core", "", connections);
    report.add(GROUP, "lines a second, stdout's thread on another core", "", apart);
    report.add(GROUP, "allocations per million lines", "", allocations);
    let median = |name| report.median(GROUP, name).unwrap_or(f64::NAN);
    let found = median("lines a second, one core");
    let allocations = median("allocations per million lines");
    report.promises.push(Promise::at_least("replay on one core, lines a second", found, 1e6, Some(2e6)));
    report.promises.push(Promise::at_most(
        "allocations per million lines in steady state",
        allocations,
        0.0,
        None,
    ));
    Ok(())
}

fn pipeline<R: Recorded>(records: &mut [R]) -> Result<Replay> {
    let filter = TraceFilter { mode: R::MODE, ..TraceFilter::default() };
    let mut kernel =
        kernel::load(Options { hook: None, ring_bytes: RING_BYTES, want_on_cpu: false, tasks: None }, None)?;
    kernel.rules.swap(&compile([(0, &filter)])?)?;
    let null = File::options().write(true).open("/dev/null").context("open /dev/null")?;
    let json = format("json").context("there is no format json")?;
    let stdout = Stdout::new(
        Queue::start(null.into(), 8 << 20, |_| {})?,
        (json.make)(&FormatOptions::default()),
        json.columns,
    );
    let setup = Setup {
        kernel,
        mount: Some(Mount::find(None)?),
        proc_root: "/proc".into(),
        whereabouts: Whereabouts::default(),
        outlets: Outlets::new(Box::new(stdout)),
        start_line: Box::new(|_| Line::Start(Box::default())),
        diagnostics: None,
        summary: |_| {},
        ids: ConnectionIds::new("00000000-0000-4000-8000-000000000000", [7; 16]),
        run: "00000001".to_owned(),
        identity_wait: Duration::ZERO,
        lines_per_second: 0,
        count: None,
        counting: Counting::Nothing,
        inherited: None,
        left: None,
    };
    let plan = Plan::of_command_line(filter, (Outcomes::ANY, 0), IdScope::default(), None);
    let replay = Replay::new(setup, View { plan: Arc::new(plan), roster: None, refused: 0 })?;
    for record in records {
        record.set_generation(replay.generation());
    }
    Ok(replay)
}

/// Feeds at least so many lines; waits where stdout's thread falls behind. Returns how many.
fn feed<R: Recorded>(replay: &mut Replay, records: &[R], lines: u64) -> u64 {
    let mut fed = 0;
    for batch in records.chunks(BATCH).cycle() {
        R::feed(replay, batch);
        fed += batch.len() as u64;
        while replay.totals().bytes_queued > AHEAD {
            thread::yield_now();
        }
        if fed >= lines {
            break;
        }
    }
    fed
}

/// Lines a second, run by run.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn rates(records: &mut [impl Recorded]) -> Result<Vec<f64>> {
    let mut replay = pipeline(records)?;
    let mut all = feed(&mut replay, records, LINES / 10);
    let mut rates = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        let lines = feed(&mut replay, records, LINES);
        while replay.totals().bytes_queued > 0 {
            thread::yield_now();
        }
        all += lines;
        rates.push(lines as f64 / start.elapsed().as_secs_f64());
    }
    let written = replay.finish().tally.output.event_lines_written;
    ensure!(written == all, "{written} lines of {all} records");
    Ok(rates)
}

/// Allocations of the pipeline's thread for a million lines, when everything is warm. The queue to stdout takes another
/// chunk whenever it is fuller than ever before, so one run may have two of those; what is allocated for lines shows in
/// every run.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn allocations(records: &mut [impl Recorded]) -> Result<Vec<f64>> {
    let mut replay = pipeline(records)?;
    feed(&mut replay, records, LINES / 10);
    let mut million =
        || allocation_counter::measure(|| _ = feed(&mut replay, records, LINES)).count_total as f64;
    Ok((0..RUNS).map(|_| million()).collect())
}
