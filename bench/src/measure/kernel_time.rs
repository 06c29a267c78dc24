//! How long programs run for each transition, as the kernel itself takes it.
//!
//! Taking the time costs each run of a program some 40 ns, which are in every figure; the empty program's time is
//! taken off for every run of a program, so a tracer with two programs on the hook has it taken off twice.

use anyhow::Result;

use super::stage::Stage;
use crate::kernel::RunTimes;
use crate::report::{Promise, Report};
use crate::subject::Subject;
use crate::traffic::Traffic;

/// Connections that one process holds: two descriptors each, and many systems allow no more than 20,000.
const CONNECTIONS_HELD: u32 = 9_000;

const GROUP: &str = "kernel time per transition, net of an empty program";
const GROSS: &str = "kernel time of one run of an empty program";
const OPEN: &str = "kernel time per transition by open sockets, net of an empty program";

const NOTHING: &str = "empty program";
const EMITTED: &str = "kube-tcpstates, emitted";
const FILTERED: &str = "kube-tcpstates, wanted by nobody";
const RESERVE: &str = "bare reserve and submit";
const TCPSTATES: &str = "libbpf-tools tcpstates";
const FREE: &str = "one trace that constrains nothing";
const ONE: &str = "one trace that constrains everything";
const MANY: &str = "64 traces that constrain everything";

pub(super) fn measure(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let cgroup = stage.container.cgroup_id();
    let traces = |count, constrained| Subject::Traces { count, constrained, cgroup };
    let subjects = [
        (EMITTED, Subject::agent()),
        (FILTERED, Subject::agent_filtered()),
        (RESERVE, Subject::Reserve),
        (TCPSTATES, Subject::Tcpstates),
        ("bpftrace, counting", Subject::BpftraceCount),
        ("bpftrace, printing", Subject::BpftracePrint),
        (FREE, traces(1, false)),
        (ONE, traces(1, true)),
        (MANY, traces(64, true)),
    ];
    let empty = empty(stage, report)?;
    let subjects = subjects.map(|(name, subject)| (name, subject, 0));
    rounds(stage, report, GROUP, &subjects, empty)?;
    let found = |name| report.median(GROUP, name).unwrap_or(f64::NAN);
    let emitted = found(EMITTED);
    let promises = [
        Promise::at_most(
            "kernel time per emitted transition, of tcpstates",
            emitted / found(TCPSTATES),
            0.08,
            Some(0.04),
        ),
        Promise::at_most("the same, in bare reserves", emitted / found(RESERVE), 7.0, Some(4.0)),
        Promise::at_most(
            "kernel time per transition that nobody wants, of an emitted one",
            found(FILTERED) / emitted,
            0.25,
            Some(0.15),
        ),
        Promise::at_most(
            "64 traces against one that constrains the same",
            found(MANY) / found(ONE),
            1.25,
            None,
        ),
        Promise::at_most("64 traces against an unconstrained one", found(MANY) / found(FREE), 1.6, None),
    ];
    report.promises.extend(promises);
    Ok(())
}

/// Socket records live in the sockets: how many there are should not matter.
pub(super) fn open_sockets(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let few = ("100 open sockets", Subject::agent(), 100);
    let many = ("100,000 open sockets", Subject::agent(), 100_000);
    let empty = match report.median(GROSS, NOTHING) {
        Some(empty) => empty,
        None => empty(stage, report)?,
    };
    rounds(stage, report, OPEN, &[few.clone(), many.clone()], empty)?;
    let found = |name| report.median(OPEN, name).unwrap_or(f64::NAN);
    let ratio = found(many.0) / found(few.0);
    report.promises.push(Promise::at_most(
        "100,000 open sockets against 100, kernel time",
        ratio,
        1.15,
        None,
    ));
    Ok(())
}

/// One run of a program that does nothing, ns.
fn empty(stage: &Stage<'_>, report: &mut Report) -> Result<f64> {
    rounds(stage, report, GROSS, &[(NOTHING, Subject::Empty, 0)], 0.0)?;
    Ok(report.median(GROSS, NOTHING).unwrap_or(f64::NAN))
}

/// Every subject once a round.
fn rounds(
    stage: &Stage<'_>,
    report: &mut Report,
    group: &'static str,
    subjects: &[(&'static str, Subject, u32)],
    empty_ns: f64,
) -> Result<()> {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); subjects.len()];
    for _ in 0..stage.settings.rounds {
        for ((_, subject, open), times) in subjects.iter().zip(&mut times) {
            times.push(one(stage, subject, *open, empty_ns)?);
        }
    }
    for ((name, ..), times) in subjects.iter().zip(times) {
        report.add(group, *name, "ns", times);
    }
    Ok(())
}

/// Processes that hold so many sockets open between them.
fn holders(stage: &Stage<'_>, sockets: u32) -> Result<Vec<Traffic>> {
    let mut left = sockets / 2;
    let mut holders = Vec::new();
    while left > 0 {
        let held = left.min(CONNECTIONS_HELD);
        holders.push(stage.traffic(&["--held", &held.to_string()])?);
        left -= held;
    }
    Ok(holders)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are small")]
fn one(stage: &Stage<'_>, subject: &Subject, open: u32, empty_ns: f64) -> Result<f64> {
    let running = stage.start(subject)?;
    let _holders = holders(stage, open)?;
    let mut traffic = stage.traffic(&[])?;
    let _times = RunTimes::taken()?;
    let before = running.ran();
    let load = stage.run(&mut traffic)?;
    let ran = running.ran().since(before);
    running.stop()?;
    Ok((ran.ns as f64 - ran.runs as f64 * empty_ns) / load.transitions as f64)
}
