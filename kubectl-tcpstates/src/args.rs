//! What may be said on the command line. kubectl's own flags are called as kubectl calls them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use kube_tcpstates_client::{Direct, KubectlFlags, Token};

/// The program's file.
pub(crate) const PROGRAM: &str = "kubectl-tcpstates";
/// How people call it.
const CALLED: &str = "kubectl tcpstates";

/// TCP connections of pods: who refuses, resets or delays them, and what is open.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) kubectl: KubectlArguments,
    /// Namespace of the agents, where they were not installed in this one
    #[arg(long, global = true, value_name = "NAME", default_value = "kube-tcpstates")]
    pub(crate) agents_namespace: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// From the words of a command line.
    pub(crate) fn read(words: impl Iterator<Item = OsString>) -> Result<Self, clap::Error> {
        let matches = Self::command().bin_name(CALLED).try_get_matches_from(words)?;
        Self::from_arg_matches(&matches)
    }
}

/// Where the cluster is and who asks.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Flags of kubectl")]
pub(crate) struct KubectlArguments {
    /// Use this kubeconfig; else those in KUBECONFIG, else ~/.kube/config
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    kubeconfig: Option<PathBuf>,
    /// Use this context of the kubeconfig
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// Use this cluster of the kubeconfig
    #[arg(long, global = true, value_name = "NAME")]
    cluster: Option<String>,
    /// Use this user of the kubeconfig
    #[arg(long, global = true, value_name = "NAME")]
    user: Option<String>,
    /// Namespace; else that of the context
    #[arg(short, long, global = true, value_name = "NAME")]
    namespace: Option<String>,
    /// Ask as this user
    #[arg(long = "as", global = true, value_name = "USER")]
    as_user: Option<String>,
    /// And as a member of this group; may be repeated
    #[arg(long = "as-group", global = true, value_name = "GROUP", requires = "as_user")]
    as_groups: Vec<String>,
    /// Address of the API server; else that of the cluster
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// Bearer token; every user of this machine can see it in the list of processes
    #[arg(long, global = true, value_name = "TOKEN")]
    token: Option<Token>,
    /// File with the certificates that the API server's is checked by
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    certificate_authority: Option<PathBuf>,
    /// Name that the API server's certificate must have; else that of its address
    #[arg(long, global = true, value_name = "NAME")]
    tls_server_name: Option<String>,
    /// Do not check the API server's certificate
    #[arg(long, global = true, conflicts_with = "certificate_authority")]
    insecure_skip_tls_verify: bool,
}

impl From<KubectlArguments> for KubectlFlags {
    fn from(arguments: KubectlArguments) -> Self {
        Self {
            kubeconfig: arguments.kubeconfig,
            context: arguments.context,
            cluster: arguments.cluster,
            user: arguments.user,
            namespace: arguments.namespace,
            as_user: arguments.as_user,
            as_groups: arguments.as_groups,
            direct: Direct {
                server: arguments.server,
                certificate_authority: arguments.certificate_authority,
                tls_server_name: arguments.tls_server_name,
                insecure_skip_tls_verify: arguments.insecure_skip_tls_verify,
                token: arguments.token,
            },
        }
    }
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Trace pods and show their connections as they end; the trace is removed at the end
    #[command(after_help = TRACE_EXAMPLES)]
    Trace(TraceArguments),
    /// Show the lines of a trace that exists
    Lines(LinesArguments),
    /// Show what is open in pods now: connections, listeners, leaks
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArguments),
    /// Show who talks to whom now: what is open, and what ended in the last ten seconds
    #[command(after_help = TOP_EXAMPLES)]
    Top(TopArguments),
    /// Show the agents of all nodes: kernels, hooks, traces, losses
    Status(StatusArguments),
    /// Say how a trace does, and why it has no lines
    Explain(ExplainArguments),
    /// Make a page of HTML from the lines of a trace
    Report(ReportArguments),
    /// Write the completion script for a shell
    Completion {
        /// Which shell
        shell: Shell,
    },
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// Where; it must be there
        #[arg(value_hint = ValueHint::DirPath)]
        directory: PathBuf,
    },
}

const TRACE_EXAMPLES: &str = "\
Examples:
  kubectl tcpstates trace deploy/checkout --failures
  kubectl tcpstates trace -l app=checkout --mode transitions --peer-port 5432 --for 1m
  kubectl tcpstates trace pod/checkout-0 -o json | jq .tcpstates.outcome";
const LIST_EXAMPLES: &str = "\
Examples:
  kubectl tcpstates list
  kubectl tcpstates list deploy/checkout --state CLOSE_WAIT --min-age 1m";
const TOP_EXAMPLES: &str = "\
Examples:
  kubectl tcpstates top
  kubectl tcpstates top deploy/checkout --sort failed --peer-names
  kubectl tcpstates top --once --rows 1000 > now.txt";

/// Whose sockets.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TargetArguments {
    /// deploy/NAME, sts/, ds/, rs/, job/, svc/ or pod/
    #[arg(value_name = "KIND/NAME", conflicts_with = "selector")]
    pub(crate) target: Option<String>,
    /// Pods with these labels, such as app=checkout,tier!=test
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub(crate) selector: Option<String>,
    /// Only this container; may be repeated
    #[arg(short, long = "container", value_name = "NAME")]
    pub(crate) containers: Vec<String>,
}

/// What connections must be like.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct FilterArguments {
    /// Only this side of connections
    #[arg(long, value_enum, ignore_case = true)]
    pub(crate) role: Option<RoleArgument>,
    /// Only this port, or FROM-TO, on the other side; may be repeated
    #[arg(long = "peer-port", value_name = "PORT")]
    pub(crate) peer_ports: Vec<String>,
    /// Only this port, or FROM-TO, on the pods' side; may be repeated
    #[arg(long = "local-port", value_name = "PORT")]
    pub(crate) local_ports: Vec<String>,
    /// Only other ends in this prefix, such as 10.0.0.0/8; may be repeated
    #[arg(long = "peer", value_name = "CIDR")]
    pub(crate) peers: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TraceArguments {
    #[command(flatten)]
    pub(crate) target: TargetArguments,
    /// Only connections that failed, each with how and why
    #[arg(long, conflicts_with = "mode")]
    pub(crate) failures: bool,
    /// What is shown: each connection when it ends, each transition, or sums
    #[arg(long, value_enum, ignore_case = true, default_value_t = ModeArgument::Connections)]
    pub(crate) mode: ModeArgument,
    #[command(flatten)]
    pub(crate) filter: FilterArguments,
    /// Name the other end by its Service or pod; each agent concerned then watches those of the whole cluster
    #[arg(long)]
    pub(crate) peer_names: bool,
    /// End after this time, such as 30s or 5m; without it after 15m; with Ctrl-C at any time
    #[arg(long = "for", value_name = "TIME")]
    pub(crate) for_: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct LinesArguments {
    /// NAME of a trace of the namespace, or ctst/NAME of one of the cluster
    pub(crate) trace: String,
    /// Go on with lines to come, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// None older than this, such as 5m
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    pub(crate) target: TargetArguments,
    /// Only these states, a list such as `CLOSE_WAIT,LAST_ACK`; may be repeated
    #[arg(long = "state", value_name = "STATES", value_delimiter = ',')]
    pub(crate) states: Vec<String>,
    /// Only connections that have been in their state for so long; the agents know ages from when tracing began
    #[arg(long, value_name = "TIME")]
    pub(crate) min_age: Option<String>,
    /// At most so many connections and listeners of each node: 1 to 1000
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) filter: FilterArguments,
    /// Name the other end by its Service or pod; each agent concerned then watches those of the whole cluster
    #[arg(long)]
    pub(crate) peer_names: bool,
    /// Wait so long for the nodes
    #[arg(long, value_name = "TIME", default_value = "20s")]
    pub(crate) timeout: String,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct TopArguments {
    #[command(flatten)]
    pub(crate) target: TargetArguments,
    /// Of what there is most first
    #[arg(long, value_enum, ignore_case = true, default_value_t = SortArgument::Connections)]
    pub(crate) sort: SortArgument,
    /// At most so many rows
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    pub(crate) rows: usize,
    /// Show it once, as soon as all nodes have told of ten seconds
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) filter: FilterArguments,
    /// Name the other end by its Service or pod; each agent concerned then watches those of the whole cluster
    #[arg(long)]
    pub(crate) peer_names: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// The traces of all namespaces, not of one alone
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// NAME of a trace of the namespace, or ctst/NAME of one of the cluster
    pub(crate) trace: String,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// NAME of a trace of the namespace, or ctst/NAME of one of the cluster
    pub(crate) trace: String,
    /// Where the page goes; else to stdout
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// Only lines that are not older, such as 5m
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputArguments {
    /// How it is shown
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// `-o`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Columns that fit a terminal; what is too long is cut
    Table,
    /// All columns, nothing cut
    Wide,
    /// As JSON: the agents' lines as they are; `status`: the `TcpStateNode`s
    Json,
}

/// `--mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArgument {
    /// One line for each connection, when it ends
    Connections,
    /// One line for each transition from one state to another
    Transitions,
    /// Every ten seconds, what connections add up to
    Summary,
}

/// `--sort`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortArgument {
    /// Connections that are open
    Open,
    /// Connections that ended, a second
    Connections,
    /// Those of them that failed
    Failed,
    /// Bytes of those
    Bytes,
    /// Segments that were sent again
    Retransmits,
    /// The slowest handshakes
    Handshake,
}

/// `--role`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArgument {
    /// It connected
    Client,
    /// It listens or was accepted
    Server,
}
