//! `trace`'s configuration, checked: what options mean together, with every bad value named.

use std::{io::IsTerminal as _, time::Duration};

use kube_tcpstates_events::Outcome;

use super::{
    args::{ModeArgument, RoleArgument, SocketArguments, TraceArguments},
    otlp,
    pinning::Pin,
    session::SessionOptions,
    tuning::Tuning,
};
use crate::{
    decode::{NetworkType, Role},
    filter::{
        CgroupChoice, Cidr, FilterError, Mode, Reason, TraceFilter, TransitionFilter, cidr, duration, ports,
        states,
    },
    open::Snapshots,
    pipeline::Whereabouts,
    plan::{IdScope, Outcomes},
    render::{FormatEntry, TextOptions, format},
    summary::DEFAULT_INTERVAL_NS,
};

/// A run of `trace`.
#[derive(Debug)]
pub(super) struct TraceConfig {
    pub(super) session: SessionOptions,
    pub(super) filter: TraceFilter,
    pub(super) outcomes: Outcomes,
    /// Between two summaries.
    pub(super) interval_ns: u64,
    pub(super) scope: IdScope,
    pub(super) open: Option<Snapshots>,
    pub(super) duration: Option<Duration>,
    pub(super) count: Option<u64>,
    /// Tracing outlives this process.
    pub(super) pin: Option<Pin>,
}

impl TraceConfig {
    /// Checks the arguments.
    pub(super) fn check(raw: &TraceArguments) -> Result<Self, String> {
        let format = format_of(raw, std::io::stdout().is_terminal())?;
        let text = TextOptions {
            wide: raw.wide,
            time_of_day: raw.time.then(jiff::tz::TimeZone::system),
            since_first: raw.timestamp,
            kernel_addresses: raw.kernel_addresses,
            mode: mode(raw.mode),
        };
        check_mode(raw)?;
        let scope = scope(raw.container.as_deref(), raw.pod_uid.as_deref())?;
        let filter = filter(raw, &scope, format).map_err(|error| error.to_string())?;
        let positive = |field: &str, text: &Option<String>| {
            text.as_deref()
                .map(|text| duration::parse_duration(field, text))
                .transpose()
                .map_err(|error| error.to_string())
        };
        let duration = positive("--duration", &raw.duration)?;
        if duration.is_some_and(|duration| duration.is_zero()) {
            return Err("--duration 0: give a longer time".to_owned());
        }
        if raw.count == Some(0) {
            return Err("--count 0: give at least 1".to_owned());
        }
        let open = raw.open_sockets.as_deref().map(super::snapshots::parse).transpose()?;
        if open.is_some() && format.columns {
            return Err("--open-sockets needs documents: -o json, -o ecs or -o otlp-json".to_owned());
        }
        Ok(Self {
            session: SessionOptions {
                hook: raw.hook.as_deref().map(str::parse).transpose()?,
                format,
                text,
                journal: raw.journal,
                otlp: otlp::check(&raw.otlp)?,
                tuning: Tuning::check(&raw.tuning)?,
                command_line: super::command_line(),
                proc_root: "/proc".into(),
                whereabouts: Whereabouts::default(),
            },
            filter,
            outcomes: outcomes(&raw.outcome),
            interval_ns: interval(raw.interval.as_deref())?,
            scope,
            open,
            duration,
            count: raw.count,
            pin: Pin::check(&raw.pin)?,
        })
    }
}

/// The format: as asked; else the table for a terminal and for whoever uses BCC's options.
fn format_of(raw: &TraceArguments, is_terminal: bool) -> Result<&'static FormatEntry, String> {
    let named = |name| format(name).ok_or_else(|| format!("there is no format {name}"));
    let columns = [(raw.time, "-T"), (raw.timestamp, "-t"), (raw.wide, "-w")];
    let shaped = columns.iter().find(|(given, _)| *given).map(|(_, flag)| *flag);
    match (raw.output, raw.csv, shaped) {
        (Some(format), _, Some(flag)) if !format.columns => {
            let name = format.name;
            Err(format!("{flag} shapes the table and CSV; it means nothing with -o {name}"))
        }
        (Some(format), true, _) if format.name != "csv" => {
            Err("-s asks for CSV and -o for another format: give one of them".to_owned())
        }
        (_, true, _) => named("csv"),
        (Some(format), false, _) => Ok(format),
        (None, false, _) => {
            let filters = raw.local_ports.is_some() || raw.remote_ports.is_some() || raw.ipv4 || raw.ipv6;
            let bcc = shaped.is_some() || filters || raw.journal || raw.kernel_addresses;
            named(if bcc || is_terminal { "table" } else { "json" })
        }
    }
}

const fn mode(mode: ModeArgument) -> Mode {
    match mode {
        ModeArgument::Transitions => Mode::Transitions,
        ModeArgument::Connections => Mode::Connections,
        ModeArgument::Summary => Mode::Summary,
    }
}

/// What means something in some modes only.
fn check_mode(raw: &TraceArguments) -> Result<(), String> {
    let of_summaries = raw.mode == ModeArgument::Summary;
    let refusals = [
        (
            raw.mode != ModeArgument::Transitions && !raw.transition.is_empty(),
            "--transition narrows --mode transitions; connections are narrowed by --outcome",
        ),
        (
            raw.mode == ModeArgument::Transitions && !raw.outcome.is_empty(),
            "--outcome narrows --mode connections and --mode summary; give one of them, too",
        ),
        (
            !of_summaries && raw.interval.is_some(),
            "--interval is between two summaries; give --mode summary, too",
        ),
        (of_summaries && raw.journal, "-Y: the journal takes no summaries; give another --mode"),
        (
            of_summaries && (raw.time || raw.timestamp),
            "-T and -t are of single events; summaries have a time of their own",
        ),
    ];
    refusals.into_iter().find(|(is_wrong, _)| *is_wrong).map_or(Ok(()), |(_, why)| Err(why.to_owned()))
}

/// Time between two summaries, ns.
fn interval(text: Option<&str>) -> Result<u64, String> {
    let Some(text) = text else { return Ok(DEFAULT_INTERVAL_NS) };
    let interval = duration::parse_duration("--interval", text).map_err(|error| error.to_string())?;
    if interval < Duration::from_secs(10) || interval > Duration::from_hours(1) {
        return Err(format!("--interval {text}: it must be from 10s to 1h"));
    }
    Ok(u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX))
}

/// Outcomes by the names that the command line takes.
fn outcomes(names: &[String]) -> Outcomes {
    let is_asked = |outcome: &Outcome| {
        let failed = Outcome::FAILURES.contains(outcome);
        names.iter().any(|asked| asked == outcome.as_str() || asked == "failed" && failed)
    };
    Outcomes::of(Outcome::ALL.iter().copied().filter(is_asked))
}

/// `--container` and `--pod-uid`.
fn scope(container: Option<&str>, pod_uid: Option<&str>) -> Result<IdScope, String> {
    for (flag, value) in [("--container", container), ("--pod-uid", pod_uid)] {
        if value.is_some_and(str::is_empty) {
            return Err(format!("{flag}: give an id"));
        }
    }
    // As the Kubernetes API writes it: containerd://<id>.
    let container = container.map(|id| id.split_once("://").map_or(id, |(_, id)| id).to_owned());
    Ok(IdScope { container, pod_uid: pod_uid.map(str::to_owned) })
}

/// What `list` and `top` ask of sockets.
pub(super) fn sockets(raw: &SocketArguments) -> Result<(IdScope, TraceFilter), String> {
    let scope = scope(raw.container.as_deref(), raw.pod_uid.as_deref())?;
    let asked = Asked {
        ipv4: raw.ipv4,
        ipv6: raw.ipv6,
        local_ports: raw.local_ports.as_deref(),
        remote_ports: raw.remote_ports.as_deref(),
        peer_cidr: raw.peer_cidr.as_deref(),
        netns: &raw.netns,
    };
    let filter = asked.filter(&scope).map_err(|error| error.to_string())?;
    Ok((scope, filter))
}

/// What `trace` asks of sockets, and `list` and `top` too.
struct Asked<'a> {
    ipv4: bool,
    ipv6: bool,
    local_ports: Option<&'a str>,
    remote_ports: Option<&'a str>,
    peer_cidr: Option<&'a str>,
    netns: &'a [u32],
}

impl Asked<'_> {
    fn filter(&self, scope: &IdScope) -> Result<TraceFilter, FilterError> {
        let ports =
            |field, text: Option<&str>| text.map_or(Ok(Vec::new()), |text| ports::parse_ports(field, text));
        if self.netns.contains(&0) {
            return Err(Reason::Namespace.of("--netns", "0"));
        }
        Ok(TraceFilter {
            cgroups: if scope.is_active() { CgroupChoice::Selected } else { CgroupChoice::Any },
            family: match (self.ipv4, self.ipv6) {
                (true, _) => Some(NetworkType::Ipv4),
                (_, true) => Some(NetworkType::Ipv6),
                _ => None,
            },
            local_ports: ports("-L", self.local_ports)?,
            peer_ports: ports("-D", self.remote_ports)?,
            peer_cidrs: self.peer_cidr.map_or(Ok(Vec::new()), |text| self.prefixes(text))?,
            netns: (!self.netns.is_empty()).then(|| self.netns.iter().copied().collect()),
            ..TraceFilter::default()
        })
    }

    /// `--peer-cidr`. Those of one family alone find nothing in the other.
    fn prefixes(&self, text: &str) -> Result<Vec<Cidr>, FilterError> {
        let prefixes = cidr::parse_cidrs("--peer-cidr", text)?;
        for (flag, is_given, kept_out) in [("-4", self.ipv4, "IPv6"), ("-6", self.ipv6, "IPv4")] {
            if is_given && prefixes.iter().all(|prefix| prefix.is_v4() != (flag == "-4")) {
                return Err(Reason::OtherFamily { kept_out, flag }.of("--peer-cidr", text));
            }
        }
        Ok(prefixes)
    }
}

/// `--transition`. What a socket's state is set to again is none, and columns alone show it.
fn transitions(raw: &TraceArguments, format: &FormatEntry) -> Result<Vec<TransitionFilter>, FilterError> {
    let mut transitions = Vec::new();
    for text in &raw.transition {
        let listed = states::parse_transitions("--transition", text)?;
        if let Some(same) = listed.iter().find(|wanted| wanted.is_of_one_state() && !format.columns) {
            return Err(Reason::SameState.of("--transition", &same.to_string()));
        }
        transitions.extend(listed);
    }
    Ok(transitions)
}

fn filter(raw: &TraceArguments, scope: &IdScope, format: &FormatEntry) -> Result<TraceFilter, FilterError> {
    let asked = Asked {
        ipv4: raw.ipv4,
        ipv6: raw.ipv6,
        local_ports: raw.local_ports.as_deref(),
        remote_ports: raw.remote_ports.as_deref(),
        peer_cidr: raw.peer_cidr.as_deref(),
        netns: &raw.netns,
    };
    Ok(TraceFilter {
        mode: mode(raw.mode),
        role: raw.role.map(|role| match role {
            RoleArgument::Client => Role::Client,
            RoleArgument::Server => Role::Server,
        }),
        transitions: transitions(raw, format)?,
        min_duration: raw
            .min_duration
            .as_deref()
            .map(|text| duration::parse_duration("--min-duration", text))
            .transpose()?,
        ..asked.filter(scope)?
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{TraceConfig, format_of};
    use crate::command::args::{Arguments, Command, TraceArguments};

    fn parse(arguments: &[&str]) -> TraceArguments {
        let all = ["kube-tcpstates", "trace"].iter().chain(arguments);
        match Arguments::try_parse_from(all).unwrap().command {
            Command::Trace(raw) => *raw,
            _ => panic!("another command"),
        }
    }

    #[test]
    fn the_format_follows_the_options_and_the_terminal() {
        let of =
            |arguments: &[&str], terminal| format_of(&parse(arguments), terminal).map(|format| format.name);
        assert_eq!(of(&[], false), Ok("json"));
        assert_eq!(of(&[], true), Ok("table"));
        assert_eq!(of(&["-L", "80"], false), Ok("table"));
        assert_eq!(of(&["-L", "80", "-o", "json"], true), Ok("json"));
        assert_eq!(of(&["-s", "-T", "-t"], true), Ok("csv"));
        assert_eq!(of(&["--container", "ab"], false), Ok("json"));
        assert!(of(&["-w", "-o", "ecs"], false).unwrap_err().contains("-w"));
        assert!(of(&["-s", "-o", "json"], false).is_err());
    }

    #[test]
    fn a_bad_value_is_refused_and_named() {
        for (arguments, named) in [
            (&["-L", "80,x"][..], "-L"),
            (&["-D", "70000"], "-D"),
            (&["--peer-cidr", "10.0.0.1/8"], "--peer-cidr"),
            (&["--transition", "SYN_SENT:TIME_WAIT"], "TIME_WAIT"),
            (&["--transition", "*:*"], "--transition"),
            (&["--transition", "CLOSE:CLOSE", "-o", "json"], "--transition"),
            (&["--transition", "*:CLOSE,LISTEN:LISTEN", "-o", "ecs"], "LISTEN>LISTEN"),
            (&["-4", "--peer-cidr", "fd00::/8"], "which -4 leaves out"),
            (&["-6", "--peer-cidr", "10.0.0.0/8,::ffff:192.0.2.0/120"], "which -6 leaves out"),
            (&["--netns", "0"], "--netns"),
            (&["--netns", "4026531840", "--netns", "0"], "--netns"),
            (&["--min-duration", "5"], "--min-duration"),
            (&["--duration", "soon"], "--duration"),
            (&["--duration", "0s"], "--duration"),
            (&["--count", "0"], "--count"),
            (&["--hook", "fentry"], "fentry"),
            (&["--ring-size", "100KiB"], "--ring-size"),
            (&["--ring-size", "64kb"], "--ring-size"),
            (&["--queue-size", "1KiB"], "--queue-size"),
            (&["--heartbeat", "x"], "--heartbeat"),
            (&["--container", ""], "--container"),
            (&["--outcome", "refused"], "--outcome"),
            (&["--mode", "connections", "--transition", "*:CLOSE"], "--transition"),
            (&["--mode", "summary", "--transition", "*:CLOSE"], "--transition"),
            (&["--mode", "connections", "--interval", "10s"], "--mode summary"),
            (&["--mode", "summary", "--interval", "9s"], "from 10s to 1h"),
            (&["--mode", "summary", "--interval", "61m"], "from 10s to 1h"),
            (&["--mode", "summary", "-Y"], "-Y"),
            (&["--mode", "summary", "-T"], "-T"),
            (&["--open-sockets", "30s,state=CLOSED", "-o", "json"], "CLOSED"),
            (&["--open-sockets", "30s", "-o", "table"], "-o json"),
        ] {
            let error = TraceConfig::check(&parse(arguments)).unwrap_err();
            assert!(error.contains(named), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn what_can_find_something_is_not_refused() {
        for arguments in [
            // BCC's tool shows a state that is set again, and so do its columns here.
            &["--transition", "CLOSE:CLOSE", "-o", "table"][..],
            &["--transition", "CLOSE|LISTEN:CLOSE", "-o", "json"],
            &["-4", "--peer-cidr", "fd00::/8,10.0.0.0/8"],
            &["-6", "--peer-cidr", "fd00::/8"],
            &["--peer-cidr", "fd00::/8"],
        ] {
            assert!(TraceConfig::check(&parse(arguments)).is_ok(), "{arguments:?}");
        }
    }

    #[test]
    fn an_option_of_another_needs_it() {
        let parsed =
            |arguments: &[&str]| Arguments::try_parse_from(["kube-tcpstates"].iter().chain(arguments));
        for command in ["trace", "agent"] {
            let error = parsed(&[command, "--pin-for", "5m"]).unwrap_err().to_string();
            assert!(error.contains("--pin <DIRECTORY>"), "{error}");
            assert!(parsed(&[command, "--pin-for", "5m", "--pin", "/sys/fs/bpf/x"]).is_ok());
            assert!(parsed(&[command]).is_ok());
        }
    }

    #[test]
    fn exclusive_options_are_refused_together() {
        assert!(Arguments::try_parse_from(["kube-tcpstates", "trace", "-4", "-6"]).is_err());
    }
}
