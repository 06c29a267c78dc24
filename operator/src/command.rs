//! Arguments, and what a run sets up.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use kube_tcpstates_client::ClientConfig;
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::Cluster;
use crate::lease::Candidate;
use crate::lines;
use crate::telemetry::Board;

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

    /// Namespace of the operator, where the Lease is that says which of several writes.
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE", default_value = "kube-tcpstates")]
    pub namespace: String,

    /// Name of this operator among several: its pod's.
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value = "kube-tcpstates-operator")]
    pub name: String,

    /// Where /metrics, /livez and /readyz are served.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "[::]:9465")]
    pub metrics_addr: SocketAddr,

    /// How lines are served.
    #[command(flatten)]
    pub lines: lines::Options,
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

fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = new_runtime()?;
    let board = Board::default();
    let (of_lines, seen) = (arguments.clone(), board.clone());
    std::thread::Builder::new()
        .name("lines".to_owned())
        .spawn(move || serve_lines(&of_lines, &seen))
        .context("starting a thread for lines")?;
    let outcome = runtime.block_on(operate(arguments, board));
    // Requests that hang must not hold up the end.
    runtime.shutdown_background();
    outcome
}

fn new_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")
}

/// Lines have a thread and a connection of their own: thirty readers of a busy cluster must not make the leader late.
/// Without them all else works.
fn serve_lines(arguments: &Arguments, board: &Board) {
    let outcome = new_runtime().and_then(|runtime| {
        runtime.block_on(async {
            let config = ClientConfig {
                user_agent: concat!("kube-tcpstates-operator/", env!("CARGO_PKG_VERSION")),
                kubeconfig: arguments.kubeconfig.as_deref(),
                resources: &[],
                on_answer: std::sync::Arc::new(|_| ()),
            };
            lines::serve(config.client().await?, &arguments.lines, || board.serves_lines()).await
        })
    });
    if let Err(error) = outcome {
        tracing::error!("no lines are served: {error:#}");
    }
}

/// Every operator watches and serves; the one that holds the Lease writes.
async fn operate(arguments: &Arguments, board: Board) -> anyhow::Result<()> {
    let cluster = Cluster::connect(arguments.kubeconfig.as_deref(), &board).await?;
    let (address, telemetry) =
        kube_tcpstates_probes::serve(arguments.metrics_addr, std::sync::Arc::new(board)).await?;
    tracing::info!("metrics and probes on {address}");
    // A container that is started anew has its pod's name, and must not take the lease for its own.
    let identity = format!("{}_{:x}", arguments.name, jiff::Timestamp::now().as_microsecond());
    let (mut candidate, term) = Candidate::new(cluster.client(), &arguments.namespace, &identity);
    let mut status = cluster.follow(term, &identity);
    tokio::select! {
        () = candidate.run() => {}
        () = status.run() => {}
        () = telemetry => {}
        ended = ended() => ended?,
    }
    // What is under way ends before another may begin.
    status.end().await;
    candidate.release().await;
    Ok(())
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
