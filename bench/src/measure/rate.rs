//! How many connections a second are left of those without a tracer: each run with it is compared with the runs without
//! on either side of it, so that a machine that gets slower or faster meanwhile favours neither.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::stage::Stage;
use super::wire::Wire;
use crate::report::{Promise, Report};
use crate::subject::{Running, Subject};

const APART: &str = "connection rate against no tracer, tracer on its own CPU";
const TOGETHER: &str = "connection rate against no tracer, both on one CPU";
const NOBODY: &str = "no tracer (A/A)";
const ALL: &str = "kube-tcpstates, all emitted";
const CONNECTIONS: &str = "kube-tcpstates, a line for each connection";
const FILTERED: &str = "kube-tcpstates, all filtered out by pod";
const BY_PEER_PORT: &str = "kube-tcpstates, all filtered out by peer port (-D)";
const BY_LOCAL_PORT: &str = "kube-tcpstates, all filtered out by local port (-L)";
const EMPTY: &str = "empty program";

pub(super) fn measure(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let (load_cpu, tracer_cpu) = (stage.settings.load_cpu, stage.settings.tracer_cpu);
    usual(stage, report, APART, NOBODY, None, tracer_cpu)?;
    let subjects = [
        (ALL, Subject::agent()),
        (CONNECTIONS, Subject::Agent(["--mode", "connections"].map(str::to_owned).into())),
        (FILTERED, Subject::agent_filtered()),
        (BY_PEER_PORT, Subject::agent_filtered_by("--remoteport")),
        (BY_LOCAL_PORT, Subject::agent_filtered_by("--localport")),
        (EMPTY, Subject::Empty),
        ("bare reserve and submit", Subject::Reserve),
        ("bpftrace, counting", Subject::BpftraceCount),
        ("bpftrace, printing", Subject::BpftracePrint),
        ("libbpf-tools tcpstates", Subject::Tcpstates),
        ("libbpf-tools tcplife", Subject::Tcplife),
        ("ss --events", Subject::Ss),
        ("perf trace", Subject::PerfTrace),
    ];
    for (name, subject) in &subjects {
        usual(stage, report, APART, name, Some(subject), tracer_cpu)?;
    }
    usual(stage, report, TOGETHER, ALL, Some(&Subject::agent()), load_cpu)?;
    loads(stage, report)?;
    let found = |group, name| report.median(group, name).unwrap_or(f64::NAN);
    let promises = [
        Promise::at_least(
            "connection rate, all emitted, tracer on its own CPU, of no tracer",
            found(APART, ALL),
            0.82,
            Some(0.88),
        ),
        Promise::at_least(
            "the same, all filtered out in the kernel",
            found(APART, FILTERED),
            0.96,
            Some(0.98),
        ),
        Promise::at_most(
            "what filtering out by pod takes, in what an empty program takes",
            (1.0 - found(APART, FILTERED)) / (1.0 - found(APART, EMPTY)),
            1.3,
            None,
        ),
        Promise::at_least("the same, all filtered out by -L", found(APART, BY_LOCAL_PORT), 0.93, None),
        Promise::at_least("the same, all emitted, both on one CPU", found(TOGETHER, ALL), 0.55, Some(0.65)),
        Promise::at_most("user-space CPU per transition, ns", found(USER, ALL), 600.0, Some(350.0)),
    ];
    report.promises.extend(promises);
    Ok(())
}

/// The agent under other loads than the one above.
fn loads(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let wire = Wire::new();
    let over_veth = wire.options();
    let loads: [(&str, &[&str]); 5] = [
        ("the server closes", &["--ending", "server"]),
        ("the client resets", &["--ending", "reset"]),
        ("two threads", &["--threads", "2"]),
        ("9,000 connections held open", &["--held", "9000"]),
        ("between namespaces over veth", &over_veth),
    ];
    let (agent, cpu) = (Subject::agent(), stage.settings.tracer_cpu);
    for (name, options) in loads {
        let (ratios, _) = pairs(stage, options, Some(&agent), cpu)?;
        report.add(LOADS, name, "", ratios);
    }
    Ok(())
}

const LOADS: &str = "connection rate against no tracer, all emitted, other loads";
const USER: &str = "user-space CPU per transition, ring to line";

/// The usual load, beside a subject or beside nobody.
fn usual(
    stage: &Stage<'_>,
    report: &mut Report,
    group: &'static str,
    name: &str,
    subject: Option<&Subject>,
    cpu: usize,
) -> Result<()> {
    let (ratios, user) = pairs(stage, &[], subject, cpu)?;
    report.add(group, name, "", ratios);
    if group == APART && subject.is_some_and(|subject| matches!(subject, Subject::Agent(_))) {
        report.add(USER, name, "ns", user);
    }
    Ok(())
}

/// Of each run the ratio to its neighbours, and the subject's CPU time for a transition, ns.
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are small")]
pub(super) fn pairs(
    stage: &Stage<'_>,
    options: &[&str],
    subject: Option<&Subject>,
    cpu: usize,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let mut user = Vec::new();
    let mut traffic = stage.traffic(options)?;
    let [ratios] = in_turn(stage.settings.pairs, |with| {
        let running = subject.filter(|_| with).map(|subject| subject.start(stage.built, cpu)).transpose()?;
        let at_start = running.as_ref().map_or(0, Running::cpu_ns);
        let load = stage.run(&mut traffic)?;
        if let Some(running) = running {
            // What is still on its way counts as well.
            thread::sleep(Duration::from_millis(50));
            user.push((running.cpu_ns() - at_start) as f64 / load.transitions as f64);
            running.stop()?;
        }
        Ok([load.rate()])
    })?;
    Ok((ratios, user))
}

/// Runs with something and without, in turn. Of each run with it the ratio of each rate to the mean of its neighbours.
pub(super) fn in_turn<const N: usize>(
    pairs: usize,
    mut rates: impl FnMut(bool) -> Result<[f64; N]>,
) -> Result<[Vec<f64>; N]> {
    // The first run finds every table cold.
    rates(false)?;
    let mut before = rates(false)?;
    let mut ratios = [(); N].map(|()| Vec::new());
    for _ in 0..pairs {
        let with = rates(true)?;
        let after = rates(false)?;
        for (which, ratios) in ratios.iter_mut().enumerate() {
            ratios.push(with[which] * 2.0 / (before[which] + after[which]));
        }
        before = after;
    }
    Ok(ratios)
}
