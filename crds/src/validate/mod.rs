//! What the agent itself demands of an object before it acts on it.
//!
//! Servers before 1.25 ignore the CEL rules, and the resource definition in a cluster may be newer than the agent: then
//! it stores fields that this agent has never heard of. Acting on the rest would trace more than was asked, so such
//! an object is refused as a whole, and its author is told the field.
//!
//! ```text
//!  JSON ──► shape (along the schema), managed (what was cut off) ──► Rust types ──► meaning (texts, fields together) ──► CheckedTrace
//!             └───────────────── Refusal: every field at fault ─┘
//! ```
//!
//! An agent watches traces as JSON (kube's `DynamicObject`) and passes them through here. Watching them as
//! [`crate::TcpStateTrace`] would lose the unknown fields, and one unknown enum value would break the whole list.

mod error;
mod managed;
mod meaning;
mod shape;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use error::{FieldError, Problem, Refusal};

use crate::definition::schema;
use crate::{ClusterTcpStateTraceSpec, GROUP, LabelSelector, TcpStateTraceSpec, VERSION};

/// Which resource a trace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TraceKind {
    /// `TcpStateTrace`: pods of its own namespace.
    Namespaced,
    /// `ClusterTcpStateTrace`: pods of the namespaces it selects.
    Cluster,
}

/// A spec that can be traced as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedTrace {
    /// Namespaces to trace; `None` for the trace's own.
    pub namespace_selector: Option<LabelSelector>,
    /// Everything else.
    pub spec: TcpStateTraceSpec,
}

/// Checks a trace with its `apiVersion`, `kind` and `spec`, as the API server hands it out.
pub fn check_object(object: &Value) -> Result<CheckedTrace, Refusal> {
    let text = |name| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let version = text("apiVersion");
    if version.split_once('/') != Some((GROUP, VERSION)) {
        return Err(unknown_kind("apiVersion", version));
    }
    let kind = match text("kind") {
        "TcpStateTrace" => TraceKind::Namespaced,
        "ClusterTcpStateTrace" => TraceKind::Cluster,
        other => return Err(unknown_kind("kind", other)),
    };
    check_spec(kind, object.get("spec"))
}

/// Checks the types' own form of an object, for programs that make traces.
pub fn check_typed(object: &impl Serialize) -> Result<CheckedTrace, Refusal> {
    let object = serde_json::to_value(object).map_err(|error| unreadable(&error))?;
    check_object(&object)
}

/// Checks the spec of a trace as a list or a watch hands it out, whose kind is that of the others; and what its metadata
/// tell of fields that did not come with it.
pub fn check_stored(kind: TraceKind, object: &Value) -> Result<CheckedTrace, Refusal> {
    check(kind, object.get("spec"), object.get("metadata"))
}

/// Checks the spec of a trace.
pub fn check_spec(kind: TraceKind, spec: Option<&Value>) -> Result<CheckedTrace, Refusal> {
    check(kind, spec, None)
}

fn check(kind: TraceKind, spec: Option<&Value>, metadata: Option<&Value>) -> Result<CheckedTrace, Refusal> {
    let mut errors = Vec::new();
    let Some(spec) = spec else {
        return Err(Refusal::one(FieldError { field: "spec".to_owned(), problem: Problem::Missing }));
    };
    let plural = match kind {
        TraceKind::Namespaced => "tcpstatetraces",
        TraceKind::Cluster => "clustertcpstatetraces",
    };
    let Some(schema) = schema(plural).and_then(|schema| schema.pointer("/properties/spec")) else {
        // Impossible, as a test shows. If it were not: what cannot be checked is refused.
        return Err(unknown_kind("kind", plural));
    };
    shape::check(schema, spec, "spec", &mut errors);
    if let Some(metadata) = metadata {
        managed::check(schema, metadata, &mut errors);
    }
    if let Some(refusal) = Refusal::of(errors) {
        return Err(refusal);
    }
    let checked = match kind {
        TraceKind::Namespaced => CheckedTrace { namespace_selector: None, spec: typed(spec)? },
        TraceKind::Cluster => {
            let ClusterTcpStateTraceSpec { namespace_selector, trace } = typed(spec)?;
            CheckedTrace { namespace_selector: Some(namespace_selector), spec: trace }
        }
    };
    let mut errors = Vec::new();
    if let Some(selector) = &checked.namespace_selector {
        meaning::check_selector(selector, "spec.namespaceSelector", &mut errors);
    }
    meaning::check(&checked.spec, &mut errors);
    Refusal::of(errors).map_or(Ok(checked), Err)
}

/// What has the shape of the schema has the types' form as well; a property test holds that.
fn typed<T: DeserializeOwned>(spec: &Value) -> Result<T, Refusal> {
    T::deserialize(spec).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> Refusal {
    Refusal::one(FieldError { field: "spec".to_owned(), problem: Problem::WrongType(error.to_string()) })
}

fn unknown_kind(field: &str, value: &str) -> Refusal {
    let value: String = value.chars().take(64).collect();
    Refusal::one(FieldError { field: field.to_owned(), problem: Problem::UnknownKind(value) })
}

/// The states that are left out on purpose, with the reason.
fn never_seen(name: &str) -> Option<Problem> {
    match name {
        "TIME_WAIT" => Some(Problem::NeverSeen(
            "TIME_WAIT",
            "the kernel hands the connection to a timewait socket and moves this one to CLOSE",
        )),
        "NEW_SYN_RECV" => Some(Problem::NeverSeen(
            "NEW_SYN_RECV",
            "only a request has it, before there is a socket to trace",
        )),
        _ => None,
    }
}
