//! Arguments, and what a run sets up.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// Done.
const DONE: u8 = 0;
/// Failed, with one clear message on stderr.
const FAILED: u8 = 1;
/// Wrong usage.
const USAGE: u8 = 2;

/// Writes the status of traces from what the agents report, and serves the lines of each to those who may read them.
#[derive(Clone, Debug, Parser)]
#[command(name = "kube-tcpstates-operator", version)]
pub struct Arguments {
    /// Where the API server is and who the operator is to it; without it, the service account of the pod.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
}

/// Runs until it is told to end.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to stdout, which may be closed.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { DONE });
        }
    };
    log_to_stderr();
    match serve(&arguments) {
        Ok(()) => ExitCode::from(DONE),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn serve(_arguments: &Arguments) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    let outcome = runtime.block_on(async { ended().await });
    // Requests that hang must not hold up the end.
    runtime.shutdown_background();
    outcome
}

/// SIGINT or SIGTERM has come.
async fn ended() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for signals")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Diagnostics are text on stderr; `RUST_LOG` sets the level. The client library's own are silent.
fn log_to_stderr() {
    use tracing_subscriber::{EnvFilter, fmt, prelude::*};
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_client=off"));
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
}
