//! Measures what tracing costs. `./x bench` builds everything it needs and runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use kube_tcpstates_bench::machine::Machine;
use kube_tcpstates_bench::measure::{self, Settings};
use kube_tcpstates_bench::report::Report;
use kube_tcpstates_bench::subject::Built;
use kube_tcpstates_bench::{bare, traces};

/// What tracing costs.
#[derive(Debug, Parser)]
enum Command {
    /// Measure everything, or some of it.
    Run {
        /// Object with the empty program and the bare reserve.
        #[arg(long)]
        object: PathBuf,
        /// What was typed, for the report: as a reader would repeat it.
        #[arg(long, default_value = "bench run")]
        command: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Attach a program that does next to nothing, until interrupted.
    Bare {
        /// Object that has it.
        object: PathBuf,
        /// Its name.
        program: String,
    },
    /// Attach our programs with many traces, until interrupted.
    Traces {
        /// How many.
        count: usize,
        /// Each constrains every dimension.
        #[arg(long)]
        constrained: bool,
        /// Id of the cgroup that they select.
        #[arg(long, default_value_t = 1)]
        cgroup: u64,
    },
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Run { object, command, settings } => run(object, command, &settings),
        Command::Bare { object, program } => bare::run(&object, &program),
        Command::Traces { count, constrained, cgroup } => traces::run(count, constrained, cgroup),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(object: PathBuf, command: String, settings: &Settings) -> Result<()> {
    let bench = std::env::current_exe().context("the path of this program")?;
    let beside = |name: &str| bench.with_file_name(name);
    let built =
        Built { agent: beside("kube-tcpstates"), load: beside("tcp-load"), bench: bench.clone(), object };
    let mut report = Report::new(Machine::here(), command);
    let outcome = measure::run(&built, settings, &mut report);
    write(&settings.out, &report)?;
    outcome
}

/// Also when a measurement failed: what was found until then took its time.
fn write(directory: &Path, report: &Report) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    let markdown = report.markdown();
    for (name, content) in
        [("report.md", markdown.clone()), ("report.json", serde_json::to_string_pretty(report)?)]
    {
        let place = directory.join(name);
        fs::write(&place, content).with_context(|| format!("write {}", place.display()))?;
    }
    println!("{markdown}");
    Ok(())
}
