//! The commands: raw arguments become checked configuration, which runs.

#[cfg(feature = "cluster")]
mod agent;
pub mod args;
mod check;
mod config;
mod ending;
mod list;
mod otlp;
mod pinning;
mod report;
mod screen;
mod session;
#[cfg(feature = "cluster")]
mod sidecar;
mod signals;
mod snapshots;
mod start_line;
mod top;
mod trace;
mod tuning;

use std::{ffi::OsString, io::Write as _, process::ExitCode};

use crate::outlet::Stderr;
use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

/// Done.
const DONE: u8 = 0;
/// Failed, with one clear message on stderr.
const FAILED: u8 = 1;
/// Wrong usage.
const USAGE: u8 = 2;

/// Runs the command that the arguments ask for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let parsed = match args::Arguments::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version go to stdout, which may be closed.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(if asked { DONE } else { USAGE });
        }
    };
    if matches!(
        parsed.command,
        args::Command::Trace(_) | args::Command::List(_) | args::Command::Report(_) | args::Command::Check(_)
    ) {
        log_to_stderr();
    }
    let result = match parsed.command {
        args::Command::Trace(raw) => match config::TraceConfig::check(&raw) {
            Ok(config) => trace::run(config),
            Err(error) => return refuse("trace", error),
        },
        args::Command::List(raw) => match list::ListConfig::check(&raw) {
            Ok(config) => list::run(config),
            Err(error) => return refuse("list", error),
        },
        args::Command::Report(raw) => match report::check(&raw) {
            Ok(()) => report::run(&raw),
            Err(error) => return refuse("report", error),
        },
        args::Command::Top(raw) => match top::TopConfig::check(&raw) {
            Ok(config) => top::run(config),
            Err(error) => return refuse("top", error),
        },
        #[cfg(feature = "cluster")]
        args::Command::Agent(raw) => return run_agent(&raw),
        args::Command::Check(raw) => match check::hook(&raw) {
            Ok(hook) => check::run(hook),
            Err(error) => return refuse("check", error),
        },
    };
    match result {
        Ok(true) => ExitCode::from(DONE),
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            crate::outlet::say(&format_args!("kube-tcpstates: {error:#}{}", more(&error)));
            ExitCode::from(FAILED)
        }
    }
}

/// Where to look further.
fn more(error: &anyhow::Error) -> &'static str {
    if error.is::<crate::kernel::LoadError>() { "; `kube-tcpstates check` says more" } else { "" }
}

/// Says what is wrong with a command's options.
fn refuse(command: &str, error: String) -> ExitCode {
    let mut program = args::Arguments::command();
    program.build();
    let of_command = program.find_subcommand_mut(command).map(std::mem::take).unwrap_or_default();
    let name = format!("kube-tcpstates {command}");
    let _ = of_command.bin_name(name).error(ErrorKind::ValueValidation, error).print();
    ExitCode::from(USAGE)
}

/// Writes all of it to stdout. False: nobody reads there any more.
fn print(bytes: &[u8]) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        written => written.context("writing to stdout").map(|()| true),
    }
}

/// The arguments, for a reader of the `start` line.
fn command_line() -> String {
    std::env::args().skip(1).collect::<Vec<_>>().join(" ")
}

/// The agent says everything as lines of its stream, start-up errors and panics too.
#[cfg(feature = "cluster")]
fn run_agent(raw: &args::AgentArguments) -> ExitCode {
    use crate::render::{FormatOptions, TextOptions};
    use kube_tcpstates_events::Level;
    use std::sync::Arc;

    let run = crate::outlet::RunId::random().unwrap_or_else(|_| crate::outlet::RunId::from(0));
    let format = (raw.output.make)(&FormatOptions { run: run.number(), text: TextOptions::default() });
    let diagnostics = crate::outlet::Diagnostics::new(run.to_string(), Arc::from(format));
    log_to_stream(&diagnostics);
    let checked = match raw.scope {
        args::ScopeArgument::Node => {
            agent::AgentConfig::check(raw).map(|config| agent::run(config, run, &diagnostics))
        }
        args::ScopeArgument::Pod => {
            sidecar::SidecarConfig::check(raw).map(|config| sidecar::run(config, run, &diagnostics))
        }
    };
    let result = match checked {
        Ok(result) => result,
        Err(error) => {
            diagnostics.say(Level::Error, error);
            return ExitCode::from(USAGE);
        }
    };
    diagnostics.straight();
    match result {
        Ok(true) => ExitCode::from(DONE),
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            diagnostics.say(Level::Error, format!("{error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Diagnostics of the agent; `RUST_LOG` sets the level. The client library's own are silent: what matters of them is
/// said by `cluster`.
#[cfg(feature = "cluster")]
fn log_to_stream(diagnostics: &crate::outlet::Diagnostics) {
    use kube_tcpstates_events::Level;
    use tracing_subscriber::{EnvFilter, prelude::*};

    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_client=off"));
    let _ = tracing_subscriber::registry().with(filter).with(diagnostics.clone()).try_init();
    let diagnostics = diagnostics.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let text = format!("thread {}: {panic}", thread.name().unwrap_or("without a name"));
        diagnostics.say_at_once(Level::Error, text);
    }));
}

/// Diagnostics of commands at a terminal are text on stderr; `RUST_LOG` sets the level.
fn log_to_stderr() {
    log_to(|| Stderr);
}

/// The same to somewhere else.
fn log_to<W: std::io::Write>(writer: impl Fn() -> W + Send + Sync + 'static) {
    use tracing_subscriber::{EnvFilter, fmt, prelude::*};
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let layer = fmt::layer().with_writer(writer).with_target(false).without_time().with_ansi(false);
    // A second call in one process (tests) changes nothing.
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
}

#[cfg(test)]
mod tests {
    use std::process::ExitCode;

    use anyhow::Context as _;
    use clap::CommandFactory as _;

    use super::{USAGE, args, more, run};
    use crate::kernel::LoadError;

    #[test]
    fn no_example_of_the_help_is_wrapped_by_it() {
        let command = args::Arguments::command();
        let lines: Vec<_> = command
            .get_subcommands()
            .filter_map(|command| command.get_after_help())
            .flat_map(|help| help.to_string().lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        assert!(lines.len() > 30, "{lines:?}");
        let wrapped: Vec<_> = lines.iter().filter(|line| line.len() > 98).collect();
        assert!(wrapped.is_empty(), "{wrapped:?}");
    }

    #[test]
    fn a_hook_that_does_not_exist_is_wrong_usage_of_every_command() {
        for command in ["trace", "top", "check"] {
            let status = run(["kube-tcpstates", command, "--hook", "foo"].map(Into::into));
            assert_eq!(status, ExitCode::from(USAGE), "{command}");
        }
    }

    #[test]
    fn who_cannot_load_is_sent_to_check() {
        let refused = LoadError::Maps { reason: "refused".into() };
        let wrapped = Err::<(), _>(refused).context("beginning").unwrap_err();
        assert_eq!(more(&wrapped), "; `kube-tcpstates check` says more");
        assert_eq!(more(&anyhow::anyhow!("no such file")), "");
    }
}
