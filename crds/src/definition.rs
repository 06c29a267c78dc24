//! The `CustomResourceDefinition` of each resource, as published in `crds/yaml/`.
//!
//! schemars and kube get most of it right. What is left: schemas may not be null where a field is merely optional,
//! formats are Kubernetes', and descriptions read well in `kubectl explain`.

use std::sync::LazyLock;

use kube::core::CustomResourceExt as _;
use serde_json::{Map, Value};

use crate::node::TcpStateNode;
use crate::{ClusterTcpStateTrace, TcpStateTrace};

/// Every resource's definition, by the name of its file in `crds/yaml/` (without `.yaml`).
pub fn definitions() -> [(&'static str, &'static Value); 3] {
    static TRACE: LazyLock<Value> = LazyLock::new(|| tidy(serde_json::to_value(TcpStateTrace::crd())));
    static CLUSTER: LazyLock<Value> =
        LazyLock::new(|| tidy(serde_json::to_value(ClusterTcpStateTrace::crd())));
    static NODE: LazyLock<Value> = LazyLock::new(|| tidy(serde_json::to_value(TcpStateNode::crd())));
    [("tcpstatetraces", &TRACE), ("clustertcpstatetraces", &CLUSTER), ("tcpstatenodes", &NODE)]
}

/// `OpenAPI` v3 schema of a resource, by its plural name.
pub fn schema(plural: &str) -> Option<&'static Value> {
    let (_, definition) = definitions().into_iter().find(|(name, _)| *name == plural)?;
    definition.pointer("/spec/versions/0/schema/openAPIV3Schema")
}

/// A definition always serialises; if one did not, the test of the published files would find null.
fn tidy(definition: serde_json::Result<Value>) -> Value {
    let mut definition = definition.unwrap_or_default();
    if let Some(schema) = definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
        tidy_schema(schema);
    }
    definition
}

fn tidy_schema(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.remove("title");
    // What is absent is absent: an explicit null has no meaning of its own.
    schema.remove("nullable");
    tidy_numbers(schema);
    bound_enumeration(schema);
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = unfold(text);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(keyword) {
            tidy_schema(inner);
        }
    }
    for inner in
        schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut)
    {
        tidy_schema(inner);
    }
}

/// Kubernetes knows `int32` and `int64`; schemars writes the type's own name. Bounds come as floating-point numbers.
fn tidy_numbers(schema: &mut Map<String, Value>) {
    if let Some(Value::String(format)) = schema.get_mut("format") {
        match format.as_str() {
            "uint8" | "uint16" => "int32".clone_into(format),
            "uint32" | "uint64" | "uint" => "int64".clone_into(format),
            _ => {}
        }
    }
    for bound in ["minimum", "maximum"] {
        let whole = schema.get(bound).and_then(Value::as_f64).filter(|number| number.fract() == 0.0);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "bounds are written in this crate, far below 2^53"
        )]
        if let Some(number) = whole {
            schema.insert(bound.to_owned(), Value::from(number as i64));
        }
    }
}

/// Without a greatest length a server of 1.25 takes a text to be as long as a request when it adds up what a rule over
/// it costs, even where it can only be one of a few words.
fn bound_enumeration(schema: &mut Map<String, Value>) {
    if schema.contains_key("enum") {
        schema.insert("maxLength".to_owned(), 32.into());
    }
}

/// Lines of a doc comment to paragraphs: a single line break is where the source was folded.
fn unfold(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ").replace('`', ""));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}
