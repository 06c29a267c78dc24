//! Which trace an object is, as the API server hands it out.

use std::fmt;

use jiff::Timestamp;
use serde_json::Value;

use crate::TraceKind;

/// A trace's name: unique among the traces that exist at one time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceKey {
    /// `None` for a `ClusterTcpStateTrace`.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
}

impl TraceKey {
    /// The resource it is of.
    pub const fn kind(&self) -> TraceKind {
        if self.namespace.is_some() { TraceKind::Namespaced } else { TraceKind::Cluster }
    }
}

impl fmt::Display for TraceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// What tells a trace from others, also from one that had its name before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceIdentity {
    /// Its name.
    pub key: TraceKey,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// Bytes of its spec as text.
    pub spec_bytes: usize,
}

impl TraceIdentity {
    /// Of an object from its JSON. The kind is what was asked for: the items of a list carry none. `None` for an object
    /// without name, UID or time of creation, or with a namespace against its kind, which no API server hands out.
    pub fn read(kind: TraceKind, object: &Value) -> Option<Self> {
        let metadata = object.get("metadata")?;
        let text = |name| metadata.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let key =
            TraceKey { namespace: text("namespace").map(str::to_owned), name: text("name")?.to_owned() };
        (key.kind() == kind).then_some(Self {
            key,
            uid: text("uid")?.to_owned(),
            generation: metadata.get("generation").and_then(Value::as_i64).unwrap_or_default(),
            created: text("creationTimestamp")?.parse().ok()?,
            spec_bytes: object.get("spec").map_or(0, |spec| spec.to_string().len()),
        })
    }
}
