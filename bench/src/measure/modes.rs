//! What the modes cost beside each other: a line for each transition, a line for each connection, a line now and then.

use anyhow::Result;

use super::rate::pairs;
use super::stage::Stage;
use crate::report::{Promise, Report};
use crate::subject::Subject;

const RATE: &str = "connection rate against no tracer, by mode";
const USER: &str = "user-space CPU per transition, by mode";
const MODES: [&str; 3] = ["transitions", "connections", "summary"];

pub(super) fn measure(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    for mode in MODES {
        let agent = Subject::Agent(["--mode", mode].map(str::to_owned).into());
        let (ratios, user) = pairs(stage, &[], Some(&agent), stage.settings.tracer_cpu)?;
        report.add(RATE, mode, "", ratios);
        report.add(USER, mode, "ns", user);
    }
    let found = |group, mode| report.median(group, mode).unwrap_or(f64::NAN);
    let of_transitions = |mode| found(USER, mode) / found(USER, MODES[0]);
    let [connections, summary] = [MODES[1], MODES[2]].map(of_transitions);
    let rate = found(RATE, MODES[1]);
    report.promises.extend([
        Promise::at_least("connection rate in mode Connections, of no tracer", rate, 0.88, None),
        Promise::at_most("user-space CPU in mode Connections, of Transitions", connections, 0.35, None),
        Promise::at_most("user-space CPU in mode Summary, of Transitions", summary, 0.2, None),
    ]);
    Ok(())
}
