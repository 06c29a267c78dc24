//! `tcpstates.type` `lost`: how much is missing from the stream, where it went missing and whose it was.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::Kind;
use crate::{K8s, SchemaId};

/// Events were lost. A reader of the whole stream needs only the last line of this type: its counts are those of the
/// run so far, `since_last` excepted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    /// Wall-clock time the line was made, RFC 3339 in UTC with nanoseconds.
    pub time: String,
    /// What has a name of our own.
    pub tcpstates: LostAttributes,
    /// The cluster and the node that are traced; absent without Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s: Option<Box<K8s>>,
}

/// The attributes of a `lost` line that are our own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "lost")]
#[schemars(rename = "LostAttributes", transform = Kind("lost"))]
pub struct LostAttributes {
    /// Name and version of the format.
    pub schema: SchemaId,
    /// 8 hex digits, new for each process.
    pub run: String,
    /// Number of the line within the run, without a gap; lines of type `log` are not counted.
    pub seq: u64,
    /// The counts, in transitions.
    pub lost: Loss,
    /// The counts are exact. False under the classic hook, which cannot know what it missed, and when connections show
    /// that the kernel skipped more hits than it counted: then they are a lower bound.
    pub exact: bool,
}

/// Numbers of lost transitions. A record of two transitions counts two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Loss {
    /// Lost since the previous line of this type (or since the start), transitions.
    pub since_last: u64,
    /// Lost in this run so far, transitions. The sum of `by_place`.
    pub total: u64,
    /// `total`, by the place where the transitions went missing.
    pub by_place: ByPlace,
    /// Lost on the way to an outlet beside stdout, by its name, this run so far; no part of `total`. Only outlets that
    /// lost something.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_outlet: BTreeMap<String, u64>,
    /// Lost in this run so far, by the trace that wanted the transition (transitions; one can count for several
    /// traces). A line names only traces whose count has changed: the count of a trace is the one in the latest line
    /// that names it, 0 when none does.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_trace: BTreeMap<String, u64>,
}

/// Places where a transition can go missing, counts of the run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ByPlace {
    /// The ring buffer had no room: the tracer was slower than the kernel. Transitions.
    pub ring: u64,
    /// The kernel did not run the program because it was running on that CPU already. Transitions.
    pub recursion: u64,
    /// The bounded queue before the output was full: whoever reads the output was slower. Transitions.
    pub queue: u64,
    /// Over a rate limit. Transitions.
    pub rate: u64,
    /// The output could not be written (disk full, reader gone). Transitions.
    pub write: u64,
    /// The owner could not be told in time and no trace may have the line without. Transitions.
    pub identity: u64,
    /// A process was killed (by SIGKILL, or for want of memory) before it had written what it had taken from the kernel. At
    /// most one write too many. Transitions.
    #[serde(default)]
    pub restart: u64,
}

impl ByPlace {
    /// Sum over all places, transitions.
    pub const fn total(&self) -> u64 {
        let Self { ring, recursion, queue, rate, write, identity, restart } = *self;
        ring + recursion + queue + rate + write + identity + restart
    }
}
