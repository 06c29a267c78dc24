//! The command line as it is given. What the options mean together is the business of `config`.

use clap::{
    ArgAction, Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};

use crate::render::{FORMATS, FormatEntry, format};

use kube_tcpstates_events::Outcome;

use crate::{kernel::Hook, top::Sort};

/// Every TCP state transition, attributed to the container and pod that own the socket.
#[derive(Debug, Parser)]
#[command(name = "kube-tcpstates", version, about, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Trace this machine, without Kubernetes; takes every option of BCC's tcpstates
    #[command(after_help = EXAMPLES)]
    Trace(Box<TraceArguments>),
    /// Trace the pods of a Kubernetes node, as the `TcpStateTrace` resources of the cluster ask
    #[cfg(feature = "cluster")]
    Agent(Box<AgentArguments>),
    /// Show what is open now, in all network namespaces, once; attaches nothing
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArguments),
    /// Make a page of HTML from JSON lines: what failed, who talks to whom, what is missing
    #[command(after_help = REPORT_EXAMPLES)]
    Report(ReportArguments),
    /// Show who talks to whom, live: what is open, what ends and fails, how much and how fast
    #[command(after_help = TOP_EXAMPLES)]
    Top(TopArguments),
    /// Say what this kernel and this process can do; exit 0 when tracing would work
    Check(CheckArguments),
}

const EXAMPLES: &str = "\
examples:
    kube-tcpstates trace                  # trace all TCP state changes
    kube-tcpstates trace -t               # include the seconds since the first line
    kube-tcpstates trace -T               # include the time of day
    kube-tcpstates trace -w               # wider columns: IPv6, container and pod
    kube-tcpstates trace -s               # comma-separated values
    kube-tcpstates trace -Y               # also write to the systemd journal
    kube-tcpstates trace -L 80            # only local port 80
    kube-tcpstates trace -L 80,81         # only local ports 80 and 81
    kube-tcpstates trace -D 80            # only remote port 80
    kube-tcpstates trace -4               # IPv4 only
    kube-tcpstates trace -6               # IPv6 only
    kube-tcpstates trace -o json          # one JSON document a line
    kube-tcpstates trace --mode connections                   # each connection, when it ends
    kube-tcpstates trace --mode connections --outcome failed  # only those that went wrong
    kube-tcpstates trace --mode summary --interval 10s        # who talks to whom
    kube-tcpstates trace --transition 'SYN_SENT:CLOSE'      # connects that failed
    kube-tcpstates trace -o json --min-duration 100ms --transition SYN_SENT:ESTABLISHED
                                          # slow handshakes
    kube-tcpstates trace --container 3f4e # one container, by the beginning of its id

exit status: 0 done, 1 failed with a message, 2 wrong usage";

const LIST_EXAMPLES: &str = "\
examples:
    kube-tcpstates list                        # what is open, and who owns it
    kube-tcpstates list --state CLOSE_WAIT     # what a peer has closed and the program has not
    kube-tcpstates list --state ESTABLISHED --min-idle 5m -o json
    kube-tcpstates list --state LISTEN         # accept queues
    kube-tcpstates list --container 3f4e --limit 20

exit status: 0 done, 1 failed with a message, 2 wrong usage";

const REPORT_EXAMPLES: &str = "\
examples:
    kube-tcpstates report trace.jsonl -f report.html
    kubectl -n kube-tcpstates logs -l app.kubernetes.io/component=agent -c agent \\
        --tail=-1 --max-log-requests=1000 |
        kube-tcpstates report --trace shop/checkout > report.html

exit status: 0 done, 1 failed with a message, 2 wrong usage";

const TOP_EXAMPLES: &str = "\
examples:
    kube-tcpstates top                         # q ends it, s sorts otherwise, / narrows
    kube-tcpstates top -d 10s --sort failed    # what goes wrong, ten seconds at a time
    kube-tcpstates top --once                  # one table, after two seconds
    kube-tcpstates top -n 5 > file             # five of them
    kube-tcpstates top --container 3f4e

exit status: 0 done, 1 failed with a message, 2 wrong usage";

/// `--role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleArgument {
    /// Sent the first SYN
    Client,
    /// A listener, or accepted by one
    Server,
}

/// `--mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ModeArgument {
    /// A line for each transition
    #[default]
    Transitions,
    /// A line for each connection, when it ends: how, why, how long, how many bytes
    Connections,
    /// Now and then a line for each owner, other end, port and side: what its connections add up to
    Summary,
}

/// `trace`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag of the BCC tool")]
pub struct TraceArguments {
    /// Include the time of day (HH:MM:SS)
    #[arg(short = 'T', long = "time", help_heading = "BCC's options")]
    pub time: bool,
    /// Include the seconds since the first line
    #[arg(short = 't', long = "timestamp", help_heading = "BCC's options")]
    pub timestamp: bool,
    /// Wide columns: IP version, IPv6 addresses, container and pod
    #[arg(short = 'w', long = "wide", help_heading = "BCC's options")]
    pub wide: bool,
    /// Comma-separated values
    #[arg(short = 's', long = "csv", help_heading = "BCC's options")]
    pub csv: bool,
    /// Only these local ports: 80,443,8000-8100
    #[arg(short = 'L', long = "localport", value_name = "PORTS", help_heading = "BCC's options")]
    pub local_ports: Option<String>,
    /// Only these remote ports
    #[arg(short = 'D', long = "remoteport", value_name = "PORTS", help_heading = "BCC's options")]
    pub remote_ports: Option<String>,
    /// IPv4 only
    #[arg(short = '4', long = "ipv4", conflicts_with = "ipv6", help_heading = "BCC's options")]
    pub ipv4: bool,
    /// IPv6 only
    #[arg(short = '6', long = "ipv6", help_heading = "BCC's options")]
    pub ipv6: bool,
    /// Also write each line to the systemd journal
    #[arg(short = 'Y', long = "journal", help_heading = "BCC's options")]
    pub journal: bool,

    /// Format [default: table on a terminal and with BCC's options, else json]
    #[arg(short = 'o', long = "output", value_parser = formats(true))]
    pub output: Option<&'static FormatEntry>,
    /// Where to attach [default: the best this kernel has]
    #[arg(long, value_name = Hook::CHOICES)]
    pub hook: Option<String>,
    /// End after this long: 10s, 5m
    #[arg(long, value_name = "DURATION")]
    pub duration: Option<String>,
    /// End after this many lines of what is told: transitions, or what --mode tells instead
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,

    /// Only this container, by its id or the beginning of it
    #[arg(long, value_name = "ID", help_heading = "Filters (in the kernel; all must fit)")]
    pub container: Option<String>,
    /// Only the pod with this UID
    #[arg(long, value_name = "UID", help_heading = "Filters (in the kernel; all must fit)")]
    pub pod_uid: Option<String>,
    /// Only peers in these networks, a list of CIDR prefixes
    #[arg(long, value_name = "CIDR", help_heading = "Filters (in the kernel; all must fit)")]
    pub peer_cidr: Option<String>,
    /// What to tell
    #[arg(long, value_enum, default_value_t, value_name = "MODE", help_heading = "What is told")]
    pub mode: ModeArgument,
    /// With --mode connections or summary: only those that ended so, a list; `failed` is all but `closed`
    #[arg(long, value_name = "OUTCOMES", value_delimiter = ',', value_parser = outcomes(),
        action = ArgAction::Append, help_heading = "What is told")]
    pub outcome: Vec<String>,
    /// With --mode summary: time between two, from 10s to 1h [default: 60s]
    #[arg(long, value_name = "DURATION", help_heading = "What is told")]
    pub interval: Option<String>,

    /// Only these transitions: OLD:NEW, `*` for any; may be given again
    #[arg(long, value_name = "OLD:NEW", action = ArgAction::Append, help_heading = "Filters (in the kernel; all must fit)")]
    pub transition: Vec<String>,
    /// Only this side of connections
    #[arg(long, value_enum, help_heading = "Filters (in the kernel; all must fit)")]
    pub role: Option<RoleArgument>,
    /// Only transitions after at least this long in the old state: 100ms; with --mode connections or summary, only
    /// connections that lasted so long
    #[arg(long, value_name = "DURATION", help_heading = "Filters (in the kernel; all must fit)")]
    pub min_duration: Option<String>,
    /// Only this network namespace, by its inode number (`stat -Lc %i /proc/PID/ns/net`); may be given again
    #[arg(long, value_name = "INODE", action = ArgAction::Append, help_heading = "Filters (in the kernel; all must fit)")]
    pub netns: Vec<u32>,

    /// Also show what is open, so often: 30s,state=CLOSE_WAIT|LAST_ACK,min-age=60s,limit=100
    #[arg(long, value_name = "EVERY[,state=STATES][,min-age=DURATION][,limit=N]")]
    pub open_sockets: Option<String>,

    /// Buffers and heartbeats
    #[command(flatten)]
    pub tuning: TuningArguments,
    /// Restarts
    #[command(flatten)]
    pub pin: PinArguments,
    /// OpenTelemetry
    #[command(flatten)]
    pub otlp: OtlpArguments,
    /// Show the socket's kernel address as SKADDR instead of an opaque id (it tells attackers where the kernel is)
    #[arg(long, help_heading = "Tuning")]
    pub kernel_addresses: bool,
}

/// What `trace` and `agent` have in common.
#[derive(Debug, Args)]
#[command(next_help_heading = "Tuning")]
pub struct TuningArguments {
    /// Size of the buffer between the kernel and this program: a power of two of at least 4KiB
    #[arg(long, value_name = "SIZE", default_value = "8MiB")]
    pub ring_size: String,
    /// Most bytes that may wait for a slow reader of stdout
    #[arg(long, value_name = "SIZE", default_value = "8MiB")]
    pub queue_size: String,
    /// Time between heartbeat lines in json, ecs and otlp-json; 0 for none but the last
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub heartbeat: String,
}

/// Tracing that outlives the process, which `trace` and `agent` have in common.
#[derive(Debug, Args)]
#[command(next_help_heading = "Restarts")]
pub struct PinArguments {
    /// Trace on when this process is ended by SIGTERM or killed, until the next one with the same options takes over; a
    /// directory in a BPF file system, made if need be
    #[arg(long, value_name = "DIRECTORY")]
    pub pin: Option<std::path::PathBuf>,
    /// How long to trace on while nobody reads
    #[arg(long, value_name = "DURATION", default_value = "10m", requires = "pin")]
    pub pin_for: String,
}

/// `report`.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// Files of JSON lines, `-` for stdin [default: -]
    #[arg(value_name = "FILE")]
    pub inputs: Vec<std::path::PathBuf>,
    /// Write the page there instead of to stdout
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Option<std::path::PathBuf>,
    /// Only lines of this trace: NAMESPACE/NAME, or the name of a cluster trace
    #[arg(long, value_name = "TRACE")]
    pub trace: Option<String>,
    /// Headline of the page
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
}

/// OpenTelemetry, which `trace` and `agent` have in common.
#[derive(Debug, Args)]
#[command(next_help_heading = "OpenTelemetry")]
pub struct OtlpArguments {
    /// Also send log records there, OTLP over HTTP: `http://collector:4318`. The variables `OTEL_EXPORTER_OTLP_*` are honoured
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Headers to send along, a `NAME: VALUE` on each line
    #[arg(long, value_name = "FILE")]
    pub otlp_headers_file: Option<std::path::PathBuf>,
    /// Most bytes that may wait for a slow or absent endpoint
    #[arg(long, value_name = "SIZE", default_value = "8MiB")]
    pub otlp_queue: String,
}

/// `agent`.
#[derive(Debug, Args)]
pub struct AgentArguments {
    /// What is traced: the pods of the node that traces ask for, or the one pod this runs in
    #[arg(long, value_enum, default_value_t, value_name = "SCOPE")]
    pub scope: ScopeArgument,
    /// Name of the Node this runs on
    #[arg(long, value_name = "NAME", env = "NODE_NAME", default_value = "", hide_default_value = true)]
    pub node_name: String,
    /// Name of the cluster, for every line
    #[arg(long, value_name = "NAME", env = "CLUSTER_NAME")]
    pub cluster_name: Option<String>,
    /// How to reach the API server [default: the pod's service account]
    #[arg(long, value_name = "PATH")]
    pub kubeconfig: Option<std::path::PathBuf>,
    /// Where /metrics, /livez and /readyz are served
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:9464")]
    pub metrics_addr: std::net::SocketAddr,
    /// Also tell in /metrics what the connections of each workload add up to, of those that traces in the modes Connections
    /// and Summary select; what is open is counted so often, from 1s to 1h
    #[arg(long, value_name = "EVERY", num_args = 0..=1, require_equals = true, default_missing_value = "15s")]
    pub workload_metrics: Option<String>,
    /// Format of the lines
    #[arg(short = 'o', long = "output", value_parser = formats(false), default_value = "json")]
    pub output: &'static FormatEntry,
    /// Where the host's /sys/fs/cgroup is mounted [default: where this process sees cgroups]
    #[arg(long, value_name = "PATH")]
    pub cgroup_root: Option<std::path::PathBuf>,
    /// Where the host's /proc is mounted, to tell owners by network namespace where sockets do not know their cgroup
    #[arg(long, value_name = "PATH", default_value = "/proc")]
    pub proc_root: std::path::PathBuf,
    /// Where to attach [default: the best this kernel has]
    #[arg(long, value_name = Hook::CHOICES)]
    pub hook: Option<String>,

    /// What --pin has left attached ends with it: NAMESPACE/NAME of the agents' daemon set
    #[arg(long, value_name = "DAEMONSET", help_heading = "Restarts")]
    pub daemon_set: Option<String>,

    /// How long a transition waits for its pod and container to become known
    #[arg(long, value_name = "DURATION", default_value = "2s", help_heading = "Limits")]
    pub identity_wait: String,
    /// Traces of one namespace that may be active on a node; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 8, help_heading = "Limits")]
    pub max_traces_per_namespace: usize,
    /// Lines a second for all traces together, shared fairly by namespace; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 5_000, help_heading = "Limits")]
    pub max_lines_per_second: u32,

    /// Buffers and heartbeats
    #[command(flatten)]
    pub tuning: TuningArguments,
    /// Restarts
    #[command(flatten)]
    pub pin: PinArguments,
    /// OpenTelemetry
    #[command(flatten)]
    pub otlp: OtlpArguments,

    /// Name of the pod
    #[arg(long, value_name = "NAME", env = "POD_NAME", help_heading = "With --scope pod")]
    pub pod_name: Option<String>,
    /// Its namespace
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE", help_heading = "With --scope pod")]
    pub pod_namespace: Option<String>,
    /// Its UID
    #[arg(long, value_name = "UID", env = "POD_UID", help_heading = "With --scope pod")]
    pub pod_uid: Option<String>,
    /// Its address
    #[arg(long, value_name = "IP", env = "POD_IP", help_heading = "With --scope pod")]
    pub pod_ip: Option<std::net::IpAddr>,
    /// The node's address: where the pod's is the same, it has the node's network
    #[arg(long, value_name = "IP", env = "HOST_IP", help_heading = "With --scope pod")]
    pub host_ip: Option<std::net::IpAddr>,
    /// Its labels, as a volume of the downward API has them: every line shows them
    #[arg(long, value_name = "PATH", help_heading = "With --scope pod")]
    pub pod_labels: Option<std::path::PathBuf>,
    /// Trace in the node's network namespace, too: every pod with hostNetwork and the node itself
    #[arg(long, help_heading = "With --scope pod")]
    pub allow_host_network: bool,
    /// Filters and modes, as of `trace`
    #[arg(last = true, value_name = "FLAGS OF trace", help_heading = "With --scope pod")]
    pub of_trace: Vec<String>,
}

/// What an agent traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ScopeArgument {
    /// The pods of the node, as the cluster's traces ask.
    #[default]
    Node,
    /// The pod it runs in, by its network namespace. No API server is asked.
    Pod,
}

/// Which sockets, as `list` and `top` ask alike.
#[derive(Debug, Args)]
pub struct SocketArguments {
    /// Only this container, by its id or the beginning of it
    #[arg(long, value_name = "ID")]
    pub container: Option<String>,
    /// Only the pod with this UID
    #[arg(long, value_name = "UID")]
    pub pod_uid: Option<String>,
    /// Only these local ports: 80,443,8000-8100
    #[arg(short = 'L', long = "localport", value_name = "PORTS")]
    pub local_ports: Option<String>,
    /// Only these remote ports
    #[arg(short = 'D', long = "remoteport", value_name = "PORTS")]
    pub remote_ports: Option<String>,
    /// Only peers in these networks, a list of CIDR prefixes
    #[arg(long, value_name = "CIDR")]
    pub peer_cidr: Option<String>,
    /// IPv4 only
    #[arg(short = '4', long = "ipv4", conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// IPv6 only
    #[arg(short = '6', long = "ipv6")]
    pub ipv6: bool,
    /// Only this network namespace, by its inode number; may be given again
    #[arg(long, value_name = "INODE", action = ArgAction::Append)]
    pub netns: Vec<u32>,
}

/// `list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only these states, a list such as `CLOSE_WAIT,LAST_ACK`; may be given again
    #[arg(long, value_name = "STATES", action = ArgAction::Append, help_heading = "Filters (all must fit)")]
    pub state: Vec<String>,
    /// At most so many connections, the longest idle first, and so many listeners, the longest queue first
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Format [default: table on a terminal, else json]
    #[arg(short = 'o', long = "output", value_parser = formats(true))]
    pub output: Option<&'static FormatEntry>,

    // The heading holds for whatever follows.
    /// Which sockets
    #[command(flatten, next_help_heading = "Filters (all must fit)")]
    pub sockets: SocketArguments,
    /// Only connections without data for at least this long: 60s
    #[arg(long, value_name = "DURATION", help_heading = "Filters (all must fit)")]
    pub min_idle: Option<String>,
}

/// `top`.
#[derive(Debug, Args)]
pub struct TopArguments {
    /// Time between two looks, from 200ms to 1h
    #[arg(short = 'd', long, value_name = "DURATION", default_value = "2s")]
    pub delay: String,
    /// End after so many looks
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// One plain table, after one delay
    #[arg(long, conflicts_with = "count")]
    pub once: bool,
    /// What comes first
    #[arg(long, value_parser = sorts(), default_value = "connections")]
    pub sort: Sort,
    /// Where to attach [default: the best this kernel has]
    #[arg(long, value_name = Hook::CHOICES)]
    pub hook: Option<String>,

    // The heading holds for whatever follows.
    /// Which sockets
    #[command(flatten, next_help_heading = "Filters (in the kernel; all must fit)")]
    pub sockets: SocketArguments,
}

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Check for this hook [default: the best this kernel has]
    #[arg(long, value_name = Hook::CHOICES)]
    pub hook: Option<String>,
}

/// The names of outcomes, and `failed`.
fn outcomes() -> PossibleValuesParser {
    PossibleValuesParser::new(Outcome::ALL.iter().map(|outcome| outcome.as_str()).chain(["failed"]))
}

/// The names of orders.
fn sorts() -> impl TypedValueParser<Value = Sort> {
    PossibleValuesParser::new(Sort::ALL.map(Sort::as_str))
        .try_map(|name| Sort::ALL.into_iter().find(|sort| sort.as_str() == name).ok_or("no such order"))
}

/// The names of formats; an agent's lines are documents, so it has none of columns.
fn formats(with_columns: bool) -> impl TypedValueParser<Value = &'static FormatEntry> {
    let listed = FORMATS.iter().filter(move |format| with_columns || !format.columns);
    PossibleValuesParser::new(listed.map(|format| PossibleValue::new(format.name).help(format.about)))
        // Whatever passed is one of them.
        .try_map(|name| format(&name).ok_or("no such format"))
}
