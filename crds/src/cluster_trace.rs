//! `ClusterTcpStateTrace`: a trace over the pods of several namespaces.

#![expect(clippy::duplicated_attributes, reason = "a column has the type of another")]

use kube::CustomResource;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use crate::selector::LabelSelector;
use crate::status::TraceStatus;
use crate::trace::TcpStateTraceSpec;

/// Which transitions are wanted, and in which namespaces. Every field narrows the trace, and all of them must hold;
/// within a list one match is enough.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = allow_no_limit)]
#[kube(
    group = "tcpstates.dev",
    version = "v1alpha1",
    kind = "ClusterTcpStateTrace",
    plural = "clustertcpstatetraces",
    shortname = "ctst",
    category = "tcpstates",
    status = "TraceStatus",
    derive = "PartialEq",
    label("app.kubernetes.io/name", "kube-tcpstates"),
    // Removing the chart leaves the definitions, and with them every object.
    annotation("helm.sh/resource-policy", "keep"),
    doc = "Asks for the TCP state transitions of pods in every namespace it selects. Agents write each as one JSON line \
           on their standard output. For administrators: it shows the connections of every tenant.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether transitions are being traced"
    ),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.pods", description = "Pods selected"),
    printcolumn(
        name = "Nodes",
        type_ = "string",
        json_path = ".status.nodes.summary",
        description = "Nodes that trace, of nodes with a selected pod"
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
        name = "Limited",
        type_ = "integer",
        priority = 1,
        json_path = ".status.counts.limited",
        description = "Transitions left out by the rate limit"
    ),
    printcolumn(
        name = "Expires",
        type_ = "string",
        json_path = ".status.expiresAt",
        description = "When tracing stops by itself"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is Ready or not"
    )
)]
pub struct ClusterTcpStateTraceSpec {
    /// Namespaces whose pods are traced, by their labels. {} selects every namespace. One namespace by its name: the
    /// label kubernetes.io/metadata.name, which Kubernetes sets from 1.21.
    pub namespace_selector: LabelSelector,

    /// What a trace of one namespace says as well.
    #[serde(flatten)]
    pub trace: TcpStateTraceSpec,
}

/// Only a cluster trace may do without a limit of its own.
fn allow_no_limit(schema: &mut Schema) {
    if let Some(lines) = schema.pointer_mut("/properties/rateLimit/properties/linesPerSecondPerNode/minimum")
    {
        *lines = 0.into();
    }
}
