//! The measurements, one file each.

mod kernel_time;
mod loss;
mod micro;
mod modes;
mod process;
mod rate;
mod records;
mod replay;
mod stage;
mod walk;
mod wire;

use std::path::PathBuf;

use anyhow::Result;

use crate::report::Report;
use crate::subject::Built;

pub use stage::Stage;

/// How a run goes.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// CPU of the load.
    #[arg(long, default_value_t = 0)]
    pub load_cpu: usize,
    /// CPU of whoever traces.
    #[arg(long, default_value_t = 1)]
    pub tracer_cpu: usize,
    /// Pairs of every comparison of rates.
    #[arg(long, default_value_t = 10)]
    pub pairs: usize,
    /// Rounds of every figure from the kernel.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Connections of one run of the load.
    #[arg(long, default_value_t = 30_000)]
    pub connections: u64,
    /// Seconds of the search for losses.
    #[arg(long, default_value_t = 60)]
    pub loss_seconds: u64,
    /// Only the measurements of these names.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Directory for report.md and report.json.
    #[arg(long, default_value = "target/bench")]
    pub out: PathBuf,
}

/// A measurement: takes figures and makes promises of them.
type Measure = fn(&Stage<'_>, &mut Report) -> Result<()>;

/// In the order in which they run: what needs the machine most quiet comes first.
const ALL: &[(&str, Measure)] = &[
    ("rate", rate::measure),
    ("modes", modes::measure),
    ("kernel-time", kernel_time::measure),
    ("open-sockets", kernel_time::open_sockets),
    ("walk", walk::measure),
    ("process", process::measure),
    ("micro", micro::measure),
    ("replay", replay::measure),
    ("loss", loss::measure),
];

/// Runs all measurements, or those asked for.
pub fn run(built: &Built, settings: &Settings, report: &mut Report) -> Result<()> {
    for name in &settings.only {
        anyhow::ensure!(
            ALL.iter().any(|(known, _)| known == name),
            "there is no measurement `{name}`; there are {}",
            ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
        );
    }
    let stage = Stage::set(built, settings)?;
    for (name, measure) in ALL {
        if settings.only.is_empty() || settings.only.iter().any(|wanted| wanted == name) {
            measure(&stage, report)?;
        }
    }
    Ok(())
}
