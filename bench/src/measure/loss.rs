//! The highest rate that the load makes, for as long as it takes a ring to fill many times over.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::stage::Stage;
use crate::load::Length;
use crate::report::{Promise, Report};
use crate::subject::Subject;

const GROUP: &str = "losses at the highest rate, default ring";

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are small")]
pub(super) fn measure(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let running = stage.start(&Subject::agent())?;
    let mut traffic = stage.traffic(&[])?;
    let load = traffic.run(Length::Time(Duration::from_secs(stage.settings.loss_seconds)))?;
    let said = running.stop()?;
    let counts =
        said.lines().rfind(|line| line.starts_with("counts:")).context("the tracer told no counts")?;
    let count = |name: &str| -> Result<u64> {
        let value = counts.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|value| value.parse().ok()).with_context(|| format!("no {name} in {counts}"))
    };
    let mut lost = 0;
    for name in ["recursion", "ring_full", "lost_queue", "lost_rate", "lost_write", "lost_identity"] {
        lost += count(name)?;
    }
    let seconds = load.wall_ns as f64 / 1e9;
    report.add(GROUP, "transitions made", "", vec![load.transitions as f64]);
    report.add(GROUP, "transitions a second", "", vec![load.transitions as f64 / seconds]);
    report.add(GROUP, "lines written", "", vec![count("written")? as f64]);
    report.add(GROUP, "most bytes waiting for stdout", "", vec![count("queue_high_water")? as f64]);
    report.add(GROUP, "lost", "", vec![lost as f64]);
    report.promises.push(Promise::at_most("transitions lost at the highest rate", lost as f64, 0.0, None));
    Ok(())
}
