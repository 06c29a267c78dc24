//! The whole of it: the stage, the load, the verdict.

use std::env;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kube_tcpstates_kernel_tests::requirements;

use super::agent::{Agent, Ended};
use super::install::install;
use super::maps::{self, Programs};
use super::pods::{self, NAMESPACE, Pods};
use super::schedule::{Ending, Schedule};
use super::stage::{Reading, Stage, lock};
use super::summary::{Cpu, Did, Lines, Summary};
use super::verdict::{self, Growth};
use super::watch::Watch;
use super::{traces, troubles};
use crate::agent::DAEMON_SET;
use crate::cluster::Cluster;
use crate::scene::Scene;
use crate::wait;

/// What is in doubt is so for 25 s (docs/output.md), and a summary's interval here is 10 s.
const SETTLES: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_mins(2);
/// The rules know a cgroup for five minutes after its end, and a turn of the agent later they have forgotten it.
const CGROUPS_KEPT: Duration = Duration::from_mins(6);
/// A tenth of what the agent has at rest: twice as much as it has would take it ten hours.
const MIB_AN_HOUR: f64 = 5.0;
/// One for each of some ten outages in an hour would be more.
const DESCRIPTORS_AN_HOUR: f64 = 5.0;
const THREADS_AN_HOUR: f64 = 1.0;

/// What is asked for.
#[derive(Clone, Debug)]
struct Asked {
    whole: Duration,
    seed: u64,
    directory: PathBuf,
}

impl Asked {
    fn of_environment() -> Result<Self> {
        let number = |name: &str| -> Result<u64> {
            let text = env::var(name).with_context(|| format!("{name} is not set: run it by `./x soak`"))?;
            text.parse().with_context(|| format!("{name}={text}: not a number"))
        };
        let directory = env::var_os("KUBE_TCPSTATES_SOAK").context("KUBE_TCPSTATES_SOAK is not set")?;
        let whole = Duration::from_mins(number("SOAK_MINUTES")?);
        Ok(Self { whole, seed: number("SOAK_SEED")?, directory: directory.into() })
    }
}

/// Runs it. True when nothing is wrong.
pub fn run(guard: &Path) -> Result<bool> {
    let asked = Asked::of_environment()?;
    requirements::require(&[]);
    let programs = Programs::before();
    let cluster = Cluster::up(guard)?;
    let scene = Scene::new(&cluster, NAMESPACE)?;
    install(&cluster)?;
    let trace = format!("{NAMESPACE}/{}", traces::ALL);
    let stage = Stage::new(&cluster, Reading::new(&trace, Instant::now()));
    let summary = soak(&stage, &asked, programs)?;
    drop(scene);
    summary.tell(&asked.directory)?;
    Ok(summary.faults.is_empty())
}

fn soak(stage: &Stage<'_>, asked: &Asked, mut programs: Programs) -> Result<Summary> {
    let pods = Pods::new(stage);
    pods.make_stage()?;
    traces::make(stage)?;
    let agent = Agent::start(stage)?;
    agent.await_in_force()?;
    // It has attached what it attaches when the pod that does nothing is known.
    let pins = agent.pins();
    wait::until("something is pinned", PATIENCE, || {
        Ok(maps::entries(&pins).map(drop).map_err(|error| format!("{error:#}")))
    })?;
    thread::sleep(Duration::from_secs(2));
    let entries_before = maps::entries(&pins)?;
    let counts_before = agent.counts()?;
    programs.learn(agent.pid().context("an agent runs")?);

    let schedule = Schedule::new(asked.seed, asked.whole);
    let watch = Watch::default();
    let begin = stage.reading.clock.0.elapsed();
    stage.say(&format!("the load begins: {} minutes, seed {}", asked.whole.as_secs() / 60, asked.seed));
    let after = thread::scope(|scope| {
        scope.spawn(|| stage.track("the watch", || watch.run(stage, &agent, &pins)));
        load(stage, &agent, &pods, &schedule, asked, begin);
        let after = settle(stage, &agent, &pods, &pins, &entries_before);
        watch.end();
        after
    });
    let (entries_after, counts_after) = match after {
        Ok(after) => after,
        Err(error) => {
            stage.fault(format!("{error:#}"));
            Default::default()
        }
    };
    if let Err(error) = end_for_good(stage, &agent) {
        stage.fault(format!("{error:#}"));
    }

    let mut summary = Summary {
        minutes: asked.whole.as_secs() / 60,
        seed: asked.seed,
        kernel: release(),
        entries_before,
        entries_most: watch.most_entries(),
        entries_after,
        counts_before,
        counts_after,
        programs: programs.count(),
        left: left(&programs, &pins)?,
        ..Summary::default()
    };
    judge(&mut summary, stage, &agent, &pods, &schedule, &watch);
    Ok(summary)
}

/// Everything at once, until the time is over.
fn load(
    stage: &Stage<'_>,
    agent: &Agent<'_>,
    pods: &Pods<'_>,
    schedule: &Schedule,
    asked: &Asked,
    begin: Duration,
) {
    // The schedule counts from the load's beginning, which is a little behind that of the clock.
    let schedule = &schedule.later(begin);
    let end = begin + asked.whole;
    thread::scope(|scope| {
        scope.spawn(|| stage.track("restarts", || troubles::restarts(stage, agent, schedule)));
        scope.spawn(|| {
            stage.track("stalls", || {
                troubles::stalls(stage, schedule);
                Ok(())
            });
        });
        scope.spawn(|| stage.track("outages", || troubles::outages(stage, schedule)));
        scope.spawn(|| stage.track("traces", || traces::changes(stage, asked.seed, schedule)));
        scope.spawn(|| stage.track("pods", || pods.come_and_go(asked.seed, end)));
        stage.sleep_until(end);
        stage.say("the load ends");
        stage.end();
    });
}

/// Waits until all is told that will be; returns what the kernel holds then, and the agent's counts.
fn settle(
    stage: &Stage<'_>,
    agent: &Agent<'_>,
    pods: &Pods<'_>,
    pins: &Path,
    before: &verdict::Entries,
) -> Result<(verdict::Entries, String)> {
    pods.forget_all()?;
    traces::delete_changing(stage)?;
    thread::sleep(SETTLES);
    let mut told = 0;
    wait::until("no line comes any more", PATIENCE, || {
        thread::sleep(Duration::from_secs(2));
        let now = lock(&stage.reading.account).told();
        Ok(if std::mem::replace(&mut told, now) == now { Ok(()) } else { Err(format!("{now} lines")) })
    })?;
    let there = pods::there(stage)?;
    if there != 1 {
        stage.fault(format!("{there} pods are there, of which one should be"));
    }
    let begun = Instant::now();
    while begun.elapsed() < CGROUPS_KEPT && !verdict::entries(before, &maps::entries(pins)?).is_empty() {
        thread::sleep(Duration::from_secs(5));
    }
    Ok((maps::entries(pins)?, agent.counts()?))
}

/// Its `DaemonSet` is gone: the agent that ends now leaves nothing attached.
fn end_for_good(stage: &Stage<'_>, agent: &Agent<'_>) -> Result<()> {
    let api = stage.cluster.kubectl().api();
    api.delete_path(DAEMON_SET)?;
    wait::until("the DaemonSet is gone", PATIENCE, || {
        Ok(if api.find(DAEMON_SET)?.is_none() { Ok(()) } else { Err("it is there".to_owned()) })
    })?;
    agent.end()
}

/// What should not be there any more.
fn left(programs: &Programs, pins: &Path) -> Result<Vec<String>> {
    let mut left = programs.left();
    left.extend(maps::sets(pins)?.into_iter().map(|set| set.display().to_string()));
    Ok(left)
}

fn judge(
    summary: &mut Summary,
    stage: &Stage<'_>,
    agent: &Agent<'_>,
    pods: &Pods<'_>,
    schedule: &Schedule,
    watch: &Watch,
) {
    let account = lock(&stage.reading.account);
    let ended = agent.ended();
    let times = |how| ended.iter().filter(|ended| ended.how == Some(how)).count();
    let sums = pods.sums();
    summary.did = Did {
        pods: sums.pods,
        connections: sums.connections,
        killed: times(Ending::Killed),
        // The last is no restart.
        ended: times(Ending::Ended).saturating_sub(1),
        stalls: schedule.stalls.len(),
        outages: schedule.outages.len(),
        changes: schedule.changes.len(),
    };
    summary.accounts = verdict::accounts(&account);
    summary.lines = Lines {
        all: account.lines,
        of_the_trace: account.told(),
        inferred: account.inferred,
        gaps: account.gaps,
    };
    summary.cpu = cpu(&ended, account.lines);
    summary.growth = growths(watch);
    let faults = &mut summary.faults;
    faults.extend(stage.faults());
    faults.extend(summary.accounts.faults.iter().cloned());
    faults.extend(summary.growth.iter().filter_map(|(_, growth)| growth.fault.clone()));
    faults.extend(verdict::entries(&summary.entries_before, &summary.entries_after));
    faults.extend(summary.left.iter().map(|left| format!("left at the end: {left}")));
}

#[expect(clippy::cast_precision_loss, reason = "a number of lines, far below 2^53")]
fn cpu(ended: &[Ended], lines: u64) -> Cpu {
    let seconds: f64 = ended.iter().map(|ended| ended.cpu_s).sum();
    let longest = ended.iter().max_by_key(|ended| ended.lived);
    Cpu {
        seconds,
        per_1000_lines_ms: seconds * 1e6 / lines.max(1) as f64,
        share_of_longest: longest.map_or(0.0, |ended| ended.cpu_s / ended.lived.as_secs_f64().max(1.0)),
    }
}

fn growths(watch: &Watch) -> Vec<(String, Growth)> {
    let mib = |points: Vec<(Duration, f64)>| -> Vec<(Duration, f64)> {
        points.into_iter().map(|(at, kib)| (at, kib / 1024.0)).collect()
    };
    [
        (
            "memory of those that were ended, MiB",
            mib(watch.of_killed(|taken| taken.private_kib)),
            MIB_AN_HOUR,
        ),
        ("memory of the last process, MiB", mib(watch.of_last(|taken| taken.private_kib)), MIB_AN_HOUR),
        (
            "descriptors of those that were ended",
            watch.of_killed(|taken| taken.descriptors),
            DESCRIPTORS_AN_HOUR,
        ),
        ("descriptors of the last", watch.of_last(|taken| taken.descriptors), DESCRIPTORS_AN_HOUR),
        ("threads of those that were ended", watch.of_killed(|taken| taken.threads), THREADS_AN_HOUR),
        ("threads of the last", watch.of_last(|taken| taken.threads), THREADS_AN_HOUR),
    ]
    .map(|(what, points, at_most)| (what.to_owned(), verdict::growth(what, &points, at_most)))
    .into()
}

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}
