//! What the operator tells of a trace. Agents never write it: each tells of its own node in a `TcpStateNode`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text;

/// How the trace does on all nodes together. Written by the operator alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TraceStatus {
    /// Accepted tells whether the spec can be traced (reasons Valid, `InvalidSpec`, `UnsupportedByAgent`, `TooMany`). Ready
    /// tells whether it is being traced on every node with a selected pod (reasons Tracing, `NoMatchingPods`,
    /// `NoMatchingNodes`, `SlotsExhausted`, `NamespaceQuota`, Degraded, Expired, `AgentsUnavailable`, Pending, and those of
    /// Accepted).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,

    /// Pods selected, on all nodes that report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<u32>,

    /// Nodes by how the trace does there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,

    /// Transitions, added up over the nodes and over the starts of their agents. Written when they have doubled, or with
    /// something else, or ten minutes later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,

    /// When tracing stops by itself. Absent when the trace has no ttl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "text::Timestamp")]
    pub expires_at: Option<Time>,

    /// Nodes where the trace fails, each with the reason: at most ten of them, by name. nodes.failing has the number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["node"]))]
    pub failing_nodes: Vec<FailingNode>,

    /// Nodes that the trace is for and that have no agent that reports, so that nobody knows whether they run a selected pod:
    /// at most ten of them, by name. nodes.uncovered has the number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<text::NodeName>", length(max = 10), extend("x-kubernetes-list-type" = "set"))]
    pub uncovered_nodes: Vec<String>,
}

/// One aspect of an object's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition is about, such as Ready.
    #[serde(rename = "type")]
    #[schemars(with = "text::Word")]
    pub type_: String,

    /// Whether it holds: True, False or Unknown.
    pub status: ConditionStatus,

    /// Generation of the spec that the condition is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,

    /// When the status last changed.
    #[schemars(with = "text::Timestamp")]
    pub last_transition_time: Time,

    /// Why, in one word for programs.
    #[schemars(with = "text::Word")]
    pub reason: String,

    /// Why, for people. Absent when there is nothing to add.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// It cannot be told.
    Unknown,
}

/// Nodes by how a trace does there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeCounts {
    /// Nodes that trace, of nodes with a selected pod, such as 3/4.
    #[schemars(length(max = 32))]
    pub summary: String,

    /// Nodes with a selected pod.
    pub selected: u32,

    /// Nodes that trace.
    pub tracing: u32,

    /// Nodes where the trace was refused, found no slot, or failed.
    pub failing: u32,

    /// Nodes with a selected pod whose agent has not reported for three minutes.
    pub unknown: u32,

    /// Nodes that the trace is for and that have no agent's report.
    pub uncovered: u32,
}

/// Transitions by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Transitions written.
    pub events: u64,

    /// Transitions lost: seen by the kernel, and not written.
    pub lost: u64,

    /// Transitions left out by a rate limit.
    pub limited: u64,
}

/// A node where a trace fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailingNode {
    /// Name of the node.
    #[schemars(with = "text::NodeName")]
    pub node: String,

    /// Why, in one word for programs.
    #[schemars(with = "text::Word")]
    pub reason: String,

    /// Why, for people, with the field of the spec when it is one field's fault.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub message: String,
}
