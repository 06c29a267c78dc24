//! What the report reads of a line: less than stands there, borrowed from its bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;

use serde::Deserialize;

/// Text of a line, borrowed where nothing in it is escaped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// One line of any kind.
#[derive(Debug, Deserialize)]
pub(crate) struct Line<'a> {
    /// RFC 3339.
    #[serde(borrow)]
    pub time: Text<'a>,
    #[serde(borrow)]
    pub tcpstates: Attributes<'a>,
    #[serde(borrow, default)]
    pub network: Network<'a>,
    #[serde(borrow)]
    pub k8s: Option<K8s<'a>>,
    #[serde(borrow)]
    pub container: Option<Container<'a>>,
    #[serde(borrow)]
    pub thread: Option<Named<'a>>,
    #[serde(borrow)]
    pub error: Option<Failure<'a>>,
}

/// `tcpstates`, of all kinds of lines together.
#[derive(Debug, Deserialize)]
pub(crate) struct Attributes<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    #[serde(borrow)]
    pub schema: Text<'a>,
    #[serde(borrow)]
    pub run: Option<Text<'a>>,
    pub seq: Option<u64>,
    #[serde(borrow)]
    pub role: Option<Text<'a>>,
    // start
    #[serde(borrow)]
    pub continues: Option<RunBefore<'a>>,
    // transition
    #[serde(borrow)]
    pub old_state: Option<Text<'a>>,
    #[serde(borrow)]
    pub new_state: Option<Text<'a>>,
    pub state_duration_us: Option<u64>,
    // connection
    #[serde(borrow)]
    pub outcome: Option<Text<'a>>,
    pub handshake_us: Option<u64>,
    pub idle_us: Option<u64>,
    pub sent: Option<Direction>,
    pub received: Option<Direction>,
    pub retransmits: Option<u64>,
    // summary
    #[serde(borrow)]
    pub summary: Option<Summary<'a>>,
    // socket, listener
    #[serde(borrow)]
    pub state: Option<Text<'a>>,
    pub state_age_us: Option<u64>,
    pub accept_queue: Option<AcceptQueue>,
    // lost, heartbeat
    #[serde(borrow)]
    pub lost: Option<Lost<'a>>,
    pub exact: Option<bool>,
    pub totals: Option<Totals>,
    #[serde(rename = "final", default)]
    pub is_final: bool,
    // whose
    #[serde(borrow)]
    pub peer: Option<Peer<'a>>,
    #[serde(borrow)]
    pub host: Option<Host<'a>>,
    #[serde(borrow, default)]
    pub traces: Vec<Text<'a>>,
    #[serde(borrow, default)]
    pub cluster_traces: Vec<Text<'a>>,
    /// Traces that are not named.
    pub traces_omitted: Option<u32>,
}

/// The run that a run goes on from.
#[derive(Debug, Deserialize)]
pub(crate) struct RunBefore<'a> {
    #[serde(borrow)]
    pub run: Text<'a>,
}

/// Bytes one way.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Direction {
    pub bytes: u64,
}

/// What connections add up to.
#[derive(Debug, Deserialize)]
pub(crate) struct Summary<'a> {
    pub connections: u64,
    #[serde(borrow, default)]
    pub by_outcome: BTreeMap<Text<'a>, u64>,
    pub sent: Option<Direction>,
    pub received: Option<Direction>,
    pub retransmits: Option<u64>,
    pub handshake: Option<Times>,
}

/// Times of several connections.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Times {
    pub count: u64,
    pub mean_us: u64,
    pub max_us: u64,
}

/// Connections that wait to be accepted.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct AcceptQueue {
    pub length: Option<u32>,
    pub limit: Option<u32>,
    pub drops: Option<u32>,
}

/// What a run, and with `--pin` the runs that it goes on from, have lost so far.
#[derive(Debug, Deserialize)]
pub(crate) struct Lost<'a> {
    pub since_last: Option<u64>,
    pub total: u64,
    #[serde(borrow, default)]
    pub by_place: BTreeMap<Text<'a>, u64>,
}

/// Totals, of the same runs.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Totals {
    pub lost: u64,
}

/// The addresses.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Network<'a> {
    #[serde(borrow)]
    pub local: Option<Endpoint<'a>>,
    #[serde(borrow)]
    pub peer: Option<Endpoint<'a>>,
}

/// One end.
#[derive(Debug, Deserialize)]
pub(crate) struct Endpoint<'a> {
    #[serde(borrow)]
    pub address: Option<Text<'a>>,
    pub port: Option<u16>,
}

/// Kubernetes objects, of an owner or of a peer.
#[derive(Debug, Deserialize)]
pub(crate) struct K8s<'a> {
    #[serde(borrow)]
    pub node: Option<Named<'a>>,
    #[serde(borrow)]
    pub namespace: Option<Named<'a>>,
    #[serde(borrow)]
    pub service: Option<Named<'a>>,
    #[serde(borrow)]
    pub pod: Option<Pod<'a>>,
    #[serde(borrow)]
    pub deployment: Option<Named<'a>>,
    #[serde(borrow)]
    pub replicaset: Option<Named<'a>>,
    #[serde(borrow)]
    pub statefulset: Option<Named<'a>>,
    #[serde(borrow)]
    pub daemonset: Option<Named<'a>>,
    #[serde(borrow)]
    pub job: Option<Named<'a>>,
    #[serde(borrow)]
    pub cronjob: Option<Named<'a>>,
}

/// A pod.
#[derive(Debug, Deserialize)]
pub(crate) struct Pod<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    #[serde(borrow)]
    pub uid: Option<Text<'a>>,
}

/// What has a name and nothing else that is read.
#[derive(Debug, Deserialize)]
pub(crate) struct Named<'a> {
    #[serde(borrow)]
    pub name: Text<'a>,
}

/// A container.
#[derive(Debug, Deserialize)]
pub(crate) struct Container<'a> {
    #[serde(borrow)]
    pub id: Text<'a>,
}

/// The other end, by its names.
#[derive(Debug, Deserialize)]
pub(crate) struct Peer<'a> {
    #[serde(borrow)]
    pub k8s: K8s<'a>,
}

/// Where a process of the host belongs.
#[derive(Debug, Deserialize)]
pub(crate) struct Host<'a> {
    #[serde(borrow)]
    pub unit: Option<Text<'a>>,
}

/// An errno.
#[derive(Debug, Deserialize)]
pub(crate) struct Failure<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
}

/// What the lines API says besides the agents' lines: what did not come, and that nothing more comes.
#[derive(Debug, Deserialize)]
pub(crate) struct Notice<'a> {
    #[serde(borrow)]
    pub tcpstates: NoticeBody<'a>,
    #[serde(borrow)]
    pub k8s: Option<K8s<'a>>,
}

/// `tcpstates` of such a line.
#[derive(Debug, Deserialize)]
pub(crate) struct NoticeBody<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    #[serde(borrow)]
    schema: Text<'a>,
    #[serde(borrow)]
    pub reason: Text<'a>,
    #[serde(borrow)]
    pub run: Option<Text<'a>>,
    /// `gap`: lines of the agent.
    pub lines: Option<u64>,
    /// `lost`: transitions in the run so far.
    pub total: Option<u64>,
    /// `rotated`: the time of the oldest line there is.
    #[serde(borrow)]
    pub from: Option<Text<'a>>,
    /// `unreadable`: why.
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
}

/// The beginning of every version of the format that this report can read.
const SCHEMA: &str = "tcpstates.dev/events/v1";
/// The same of what the lines API says.
const NOTICE: &str = "tcpstates.dev/lines/v1";

impl<'a> Line<'a> {
    /// Reads a line. What stands before the first brace (`kubectl logs --prefix`, a container runtime's own prefix) is
    /// passed over. `None`: it is no line of ours.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let line: Self = serde_json::from_slice(document(bytes)?).ok()?;
        (&*line.tcpstates.schema == SCHEMA).then_some(line)
    }
}

impl<'a> Notice<'a> {
    /// Reads what the lines API says. `None`: it is nothing of the kind.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let notice: Self = serde_json::from_slice(document(bytes)?).ok()?;
        (&*notice.tcpstates.schema == NOTICE).then_some(notice)
    }
}

/// From the first brace on.
pub(crate) fn document(bytes: &[u8]) -> Option<&[u8]> {
    let start = bytes.iter().take(PREFIX_AT_MOST).position(|byte| *byte == b'{')?;
    bytes.get(start..)
}

/// A prefix is no longer: a pod's and a container's name, a time.
const PREFIX_AT_MOST: usize = 700;
