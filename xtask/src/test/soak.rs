//! `./x soak`: an agent under everything at once, for hours.

use anyhow::{Context as _, Result, bail, ensure};

use super::{e2e, layer};
use crate::step;
use crate::workspace::{KERNEL_TESTS_PACKAGE, Workspace};
use crate::{agent, programs};

/// Unless told otherwise.
const MINUTES: u64 = 120;

/// What the arguments ask for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    minutes: u64,
    /// Any, which is printed.
    seed: Option<u64>,
}

/// Runs it; an error when anything is wrong at its end.
pub(crate) fn run(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    let Asked { minutes, seed } = asked(arguments)?;
    let seed = seed.unwrap_or_else(|| std::process::id().into());
    programs::are_there(layer::PROGRAMS)?;
    programs::are_there(e2e::PROGRAMS)?;
    layer::can_trace()?;
    e2e::prepare(workspace)?;
    let program = agent::build(workspace)?;
    let mut workload = workspace.cargo("build");
    workload.args(["--package", KERNEL_TESTS_PACKAGE, "--bin", "tcp-workload"]);
    step::run(step::quiet_unless_terminal(&mut workload))?;
    let place = workspace.target.join("soak");
    step::say(&format!(
        "soaking for {minutes} minutes, seed {seed}; what comes of it will be in {}",
        place.display()
    ));
    let mut cargo = e2e::program(workspace, workspace.cargo("test"), "soak");
    cargo.env("KUBE_TCPSTATES_BIN", program).env("KUBE_TCPSTATES_SOAK", place);
    cargo.env("SOAK_MINUTES", minutes.to_string()).env("SOAK_SEED", seed.to_string());
    step::run(&mut cargo)
}

fn asked(arguments: &[&str]) -> Result<Asked> {
    let mut asked = Asked { minutes: MINUTES, seed: None };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut number = || -> Result<u64> {
            let text = rest.next().with_context(|| format!("{argument} takes a number"))?;
            text.parse().with_context(|| format!("{argument} {text}"))
        };
        match *argument {
            "--minutes" => asked.minutes = number()?,
            "--seed" => asked.seed = Some(number()?),
            _ => bail!("usage: ./x soak [--minutes N] [--seed N]"),
        }
    }
    ensure!(asked.minutes > 0, "--minutes 0: at least 1");
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_two_hours_and_any_seed_unless_told_otherwise() {
        assert_eq!(asked(&[]).unwrap(), Asked { minutes: MINUTES, seed: None });
        let told = asked(&["--seed", "7", "--minutes", "5"]).unwrap();
        assert_eq!(told, Asked { minutes: 5, seed: Some(7) });
    }

    #[test]
    fn what_is_no_number_is_an_error() {
        for arguments in [&["--minutes"][..], &["--minutes", "soon"], &["--minutes", "0"], &["5"]] {
            assert!(asked(arguments).is_err(), "{arguments:?}");
        }
    }
}
