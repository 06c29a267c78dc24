//! `TcpStateNode`: what one node's agent tells of itself and of each trace.

#![expect(clippy::duplicated_attributes, reason = "a column has the type of another")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::{Condition, Counts};
use crate::text;

/// It has no spec: nobody asks anything of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "tcpstates.dev",
    version = "v1alpha1",
    kind = "TcpStateNode",
    plural = "tcpstatenodes",
    shortname = "tsn",
    category = "tcpstates",
    no_spec,
    status = "TcpStateNodeStatus",
    derive = "PartialEq",
    label("app.kubernetes.io/name", "kube-tcpstates"),
    // Removing the chart leaves the definitions, and with them every object.
    annotation("helm.sh/resource-policy", "keep"),
    doc = "How tracing does on one node. The node's agent creates it, under the name of the node, and keeps its status \
           current; it goes away with the Node.",
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.version",
        description = "Version of the agent"
    ),
    printcolumn(
        name = "Kernel",
        type_ = "string",
        json_path = ".status.kernel",
        description = "Release of the kernel"
    ),
    printcolumn(
        name = "Hook",
        type_ = "string",
        json_path = ".status.hook",
        description = "Where transitions are taken from"
    ),
    printcolumn(
        name = "Traces",
        type_ = "integer",
        json_path = ".status.tracesLoaded",
        description = "Traces that are active on the node"
    ),
    printcolumn(
        name = "Events",
        type_ = "integer",
        json_path = ".status.counts.events",
        description = "Transitions written"
    ),
    printcolumn(
        name = "Lost",
        type_ = "integer",
        json_path = ".status.counts.lost",
        description = "Transitions lost"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the agent can trace"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reported",
        type_ = "date",
        priority = 1,
        json_path = ".status.lastReportTime",
        description = "When the agent last reported"
    )
)]
pub struct TcpStateNodeFields {}

/// How tracing does on the node. Written by the node's agent alone: changes of state at once, counts and
/// lastReportTime about once a minute, every ten minutes while nothing is traced. An agent that has not reported for three
/// minutes (fifteen) is not running.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpStateNodeStatus {
    /// Ready tells whether the agent can trace: its preflight passed and it has seen every resource it watches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// Version of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "text::Short")]
    pub version: Option<String>,

    /// Release of the kernel, as uname -r prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "text::Short")]
    pub kernel: Option<String>,

    /// Where in the kernel transitions are taken from: `tp_btf`, tracepoint, kprobe or `raw_tp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "text::Word")]
    pub hook: Option<String>,

    /// How cgroups are mounted on the node: v2, hybrid, v1 or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "text::Word")]
    pub cgroup_mode: Option<String>,

    /// What was looked at before tracing, with the outcome of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub preflight: Vec<PreflightCheck>,

    /// When the agent started; counts begin there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "text::Timestamp")]
    pub start_time: Option<Time>,

    /// When the agent last wrote this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "text::Timestamp")]
    pub last_report_time: Option<Time>,

    /// Traces that are active on the node: at most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traces_loaded: Option<u32>,

    /// Transitions of all traces since the agent started, each counted once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,

    /// Up to which versions the agent knows the traces. One that is older than that, and is not listed, selects no pod here
    /// (or is not valid, or over: those show in its own status).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,

    /// What the agent makes of each trace that selects a pod here, and of those that it alone can say something about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["uid"]))]
    pub traces: Vec<NodeTrace>,

    /// Traces that are not listed in traces, because the object would become too big.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traces_omitted: Option<u32>,
}

/// Versions (metadata.resourceVersion) of what an agent has read of each kind of trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// Of `TcpStateTrace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "text::Short")]
    pub traces: Option<String>,

    /// Of `ClusterTcpStateTrace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "text::Short")]
    pub cluster_traces: Option<String>,
}

/// One thing that tracing needs, or would be better with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreflightCheck {
    /// What was looked at, such as btf or `CAP_BPF`.
    #[schemars(with = "text::Short")]
    pub name: String,

    /// Whether it is as tracing needs it.
    pub ok: bool,

    /// What was found, and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "text::Sentence")]
    pub detail: Option<String>,
}

/// One trace on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeTrace {
    /// The trace's metadata.uid.
    #[schemars(with = "text::Short")]
    pub uid: String,

    /// Namespace of the trace. Absent for a `ClusterTcpStateTrace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "text::NodeName")]
    pub namespace: Option<String>,

    /// Name of the trace.
    #[schemars(with = "text::NodeName")]
    pub name: String,

    /// Generation of the spec that this is about.
    #[schemars(range(min = 0))]
    pub generation: i64,

    /// Tracing (it is active), Waiting (no slot is free for it), Refused (this agent does not know all of its spec) or Failed
    /// (it could not be loaded). Not reported: Idle (it selects no pod here), Expired (its ttl is over), and what its own
    /// status says (its spec is not valid, there are too many).
    pub state: TraceState,

    /// Why, in one word for programs, such as `SlotsExhausted`, `NamespaceQuota`, `UnsupportedByAgent` or
    /// `NamespacesUnknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "text::Word")]
    pub reason: Option<String>,

    /// The field of the spec at fault, such as `spec.localPorts[1].endPort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "text::Sentence")]
    pub field: Option<String>,

    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "text::Sentence")]
    pub message: Option<String>,

    /// Pods that the trace selects on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<u32>,

    /// Transitions of the trace on this node since the agent started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
}

/// What became of a trace on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TraceState {
    /// It is active.
    Tracing,
    /// It selects no pod here.
    Idle,
    /// No slot is free for it.
    Waiting,
    /// Its spec is not valid, or this agent does not know all of it.
    Refused,
    /// Its ttl is over.
    Expired,
    /// It could not be loaded.
    Failed,
}
