//! `list`: what is open now, once, without tracing.

use std::io::IsTerminal as _;

use anyhow::Context as _;

use super::{args::ListArguments, config::sockets, session::Session};
use crate::{
    filter::{TraceFilter, duration},
    open::{OpenStates, Wish},
    outlet::RunId,
    pipeline::{Listing, list, task_hierarchy},
    plan::{IdScope, Outcomes, Plan},
    render::{FormatEntry, format, listing},
};

/// A checked command line.
#[derive(Debug)]
pub(super) struct ListConfig {
    format: &'static FormatEntry,
    filter: TraceFilter,
    scope: IdScope,
    wish: Wish,
}

impl ListConfig {
    /// Checks the arguments.
    pub(super) fn check(raw: &ListArguments) -> Result<Self, String> {
        let names = raw.state.iter().flat_map(|list| list.split(',')).map(str::trim);
        let states = OpenStates::named(names).map_err(|error| format!("--state: {error}"))?;
        if raw.limit == Some(0) {
            return Err("--limit 0: give at least 1".to_owned());
        }
        let min_idle = raw.min_idle.as_deref().map(|text| duration::parse_duration("--min-idle", text));
        let min_idle = min_idle.transpose().map_err(|error| error.to_string())?.unwrap_or_default();
        let usual = if std::io::stdout().is_terminal() { "table" } else { "json" };
        let (scope, filter) = sockets(&raw.sockets)?;
        Ok(Self {
            format: raw.output.or_else(|| format(usual)).ok_or("there is no such format")?,
            filter,
            scope,
            wish: Wish {
                bit: 0,
                states,
                min_age_ns: 0,
                min_idle_ns: u64::try_from(min_idle.as_nanos()).unwrap_or(u64::MAX),
                limit: raw.limit.unwrap_or(usize::MAX),
            },
        })
    }
}

/// Prints what is open. True: whatever goes wrong is an error.
pub(super) fn run(config: ListConfig) -> anyhow::Result<bool> {
    let mount = Session::find_mount(None);
    let tasks = mount.as_ref().and_then(task_hierarchy);
    let lines = list(Listing {
        run: RunId::random().context("making the run's id")?.to_string(),
        plan: Plan::of_command_line(config.filter, (Outcomes::ANY, 0), config.scope, None),
        wish: config.wish,
        mount,
        tasks,
        proc_root: "/proc".into(),
    })?;
    let mut out = Vec::new();
    listing::render(&mut out, config.format, &lines);
    super::print(&out)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::ListConfig;
    use crate::command::args::{Arguments, Command};

    fn check(arguments: &[&str]) -> Result<ListConfig, String> {
        let all = ["kube-tcpstates", "list"].iter().chain(arguments);
        match Arguments::try_parse_from(all).unwrap().command {
            Command::List(raw) => ListConfig::check(&raw),
            _ => panic!("another command"),
        }
    }

    #[test]
    fn states_may_be_listed_and_given_again() {
        let config = check(&["--state", "close_wait, LAST_ACK", "--state", "LISTEN"]).unwrap();
        assert_eq!(config.wish.states.to_string(), "CLOSE_WAIT, LAST_ACK, LISTEN");
        assert_eq!(check(&[]).unwrap().wish.states, crate::open::OpenStates::ANY);
    }

    #[test]
    fn a_bad_value_is_refused_with_its_option_and_what_there_is() {
        for (arguments, named) in [
            (
                &["--state", "CLOSED"][..],
                "--state: \"CLOSED\" is not a state of an open socket; there are ESTABLISHED, ",
            ),
            (&["--state", "CLOSE_WAIT,"], "--state: \"\" is not"),
            (&["--limit", "0"], "--limit 0: give at least 1"),
            (&["--min-idle", "5"], "--min-idle"),
            (&["-L", "80,x"], "-L"),
            (&["-D", "70000"], "-D"),
            (&["--peer-cidr", "10.0.0.1/8"], "--peer-cidr"),
            (&["--container", ""], "--container"),
            (&["--pod-uid", ""], "--pod-uid"),
        ] {
            let error = check(arguments).unwrap_err();
            assert!(error.contains(named), "{arguments:?}: {error}");
        }
    }
}
