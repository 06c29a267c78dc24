//! `top`: a live view of this machine. A plan of one trace in the mode Summary, of which no line is written: every look takes
//! what has come together, and what is open.

use std::{io::IsTerminal as _, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{
    args::TopArguments,
    config::sockets,
    screen::{Messages, Screen},
    session::{Run, Session, SessionOptions},
    trace::load,
    tuning::Tuning,
};
use crate::{
    filter::{Mode, TraceFilter, duration},
    outlet::{MIN_BOUND, Nowhere, Outlets, RunId, say},
    pipeline::{Counting, Tally, Whereabouts},
    plan::{IdScope, Outcomes, Plan, View},
    render::{TextOptions, format},
    top::{Act, Model, Sample, Sort, plain},
};

const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_hours(1);
/// Bytes of the ring.
const RING: u32 = 8 << 20;
/// Longer than any time between two looks, each of which takes what there is.
const NEVER_NS: u64 = 24 * 3_600 * 1_000_000_000;

/// A checked command line.
#[derive(Debug)]
pub(super) struct TopConfig {
    session: SessionOptions,
    filter: TraceFilter,
    scope: IdScope,
    delay: Duration,
    count: Option<u64>,
    sort: Sort,
    /// On the screen, or as tables.
    on_screen: bool,
}

impl TopConfig {
    /// Checks the arguments.
    pub(super) fn check(raw: &TopArguments) -> Result<Self, String> {
        let delay = duration::parse_duration("--delay", &raw.delay).map_err(|error| error.to_string())?;
        if delay < SHORTEST || delay > LONGEST {
            return Err(format!("--delay {}: it must be from 200ms to 1h", raw.delay));
        }
        if raw.count == Some(0) {
            return Err("--count 0: give at least 1".to_owned());
        }
        let (scope, filter) = sockets(&raw.sockets)?;
        Ok(Self {
            session: SessionOptions {
                hook: raw.hook.as_deref().map(str::parse).transpose()?,
                format: format("json").ok_or("there is no format json")?,
                text: TextOptions::default(),
                journal: false,
                otlp: None,
                tuning: Tuning { ring_bytes: RING, queue_bytes: MIN_BOUND, heartbeat: None },
                command_line: super::command_line(),
                proc_root: "/proc".into(),
                whereabouts: Whereabouts::default(),
            },
            filter: TraceFilter { mode: Mode::Summary, ..filter },
            scope,
            delay,
            count: if raw.once { Some(1) } else { raw.count },
            sort: raw.sort,
            on_screen: !raw.once && std::io::stdout().is_terminal(),
        })
    }
}

/// Shows what happens until it is told to end. True when all went well.
pub(super) fn run(config: TopConfig) -> anyhow::Result<bool> {
    let messages = Messages::default();
    if config.on_screen {
        let messages = messages.clone();
        super::log_to(move || messages.clone());
    } else {
        super::log_to_stderr();
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    let outcome = runtime.block_on(top(config, &messages));
    messages.say();
    outcome
}

async fn top(config: TopConfig, messages: &Messages) -> anyhow::Result<bool> {
    let mut session = Session::begin(config.session.clone())?;
    let mount = Session::find_mount(None);
    let kernel = load(&session, mount.as_ref(), (&config.filter, &config.scope), None)?;
    let outcomes = (Outcomes::ANY, NEVER_NS);
    let plan = Plan::of_command_line(config.filter.clone(), outcomes, config.scope.clone(), None);
    let (counting, samples) = Counting::live(config.delay);
    let run = Run {
        id: RunId::random().context("making the run's id")?,
        view: Some(View { plan: Arc::new(plan), roster: None, refused: 0 }),
        filters: None,
        diagnostics: None,
        summary: |_| {},
        identity_wait: Duration::ZERO,
        lines_per_second: 0,
        count: None,
        counting,
        outlets: Some(Outlets::new(Box::new(Nowhere))),
    };
    session.start(kernel, mount, run)?;
    let mut shown = Ok(());
    let stop = session.until_end(async { shown = show(&config, samples, messages).await }).await;
    let ended = session.end(stop, say_losses).await;
    shown.and(ended)
}

/// Shows each look; ends when there were enough, or when a key says so.
async fn show(
    config: &TopConfig,
    mut samples: UnboundedReceiver<Sample>,
    messages: &Messages,
) -> anyhow::Result<()> {
    let mut model = Model::new(config.sort);
    let mut left = config.count.unwrap_or(u64::MAX);
    if !config.on_screen {
        while left > 0
            && let Some(sample) = samples.recv().await
        {
            // The first look knows nothing of what has ended.
            if sample.span_ns == 0 {
                continue;
            }
            model.look(&sample);
            let blank = if config.count == Some(1) { "" } else { "\n" };
            if !super::print(format!("{}{blank}", plain(&model)).as_bytes())? {
                return Ok(());
            }
            left -= 1;
        }
        return Ok(());
    }
    let mut screen = Screen::enter().context("taking the terminal")?;
    screen.show(&model).context("drawing")?;
    loop {
        tokio::select! {
            Some(sample) = samples.recv() => {
                model.look(&sample);
                left -= u64::from(sample.span_ns != 0);
            }
            Some(key) = screen.keys.recv() => {
                if key.is_some_and(|key| model.press(key) == Act::Quit) {
                    return Ok(());
                }
            }
            else => return Ok(()),
        }
        model.say(messages.last());
        screen.show(&model).context("drawing")?;
        if left == 0 {
            return Ok(());
        }
    }
}

/// What was lost in the whole run, if anything was.
fn say_losses(tally: &Tally) {
    if tally.lost().total() > 0 {
        say(tally);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::TopConfig;
    use crate::{
        command::args::{Arguments, Command},
        filter::Mode,
        top::Sort,
    };

    fn check(arguments: &[&str]) -> Result<TopConfig, String> {
        let all = ["kube-tcpstates", "top"].iter().chain(arguments);
        match Arguments::try_parse_from(all).unwrap().command {
            Command::Top(raw) => TopConfig::check(&raw),
            _ => panic!("another command"),
        }
    }

    #[test]
    fn one_table_is_one_look_and_never_on_the_screen() {
        let config = check(&["--once", "-D", "443", "--sort", "failed"]).unwrap();
        assert_eq!((config.count, config.on_screen, config.sort), (Some(1), false, Sort::Failed));
        assert_eq!((config.filter.mode, config.filter.peer_ports.len()), (Mode::Summary, 1));
        let config = check(&[]).unwrap();
        assert_eq!((config.count, config.sort, config.delay.as_secs()), (None, Sort::Connections, 2));
    }

    #[test]
    fn a_bad_value_is_refused_and_named() {
        for (arguments, named) in [
            (&["-d", "199ms"][..], "--delay 199ms: it must be from 200ms to 1h"),
            (&["-d", "2h"], "from 200ms to 1h"),
            (&["-d", "2"], "--delay"),
            (&["-n", "0"], "--count 0"),
            (&["-L", "80,x"], "-L"),
            (&["--container", ""], "--container"),
            (&["--hook", "fentry"], "fentry"),
        ] {
            let error = check(arguments).unwrap_err();
            assert!(error.contains(named), "{arguments:?}: {error}");
        }
        for arguments in [["--once", "-n", "3"].as_slice(), &["--sort", "owner"], &["-4", "-6"]] {
            let all = ["kube-tcpstates", "top"].iter().chain(arguments);
            assert!(Arguments::try_parse_from(all).is_err(), "{arguments:?}");
        }
    }
}
