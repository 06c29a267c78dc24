//! The name of the format, and its JSON Schema.

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Line;

/// What the `schema` field of every line says.
pub const SCHEMA_ID: &str = "tcpstates.dev/events/v1";

/// Name and version of the format. A new field or a new line type does not change it; a field that changes its
/// meaning, type or name does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SchemaId {
    /// The first version.
    #[default]
    #[serde(rename = "tcpstates.dev/events/v1")]
    V1,
}

/// The kind of a line, `tcpstates.type`, in the schema of its attributes: schemars does not read it from serde's `tag`
/// on a struct.
pub(crate) struct Kind(pub(crate) &'static str);

impl Transform for Kind {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties
                .insert("type".to_owned(), json!({"description": "Kind of the line.", "const": self.0}));
        }
        if let Some(Value::Array(required)) = schema.get_mut("required") {
            required.push("type".into());
        }
    }
}

/// JSON Schema (draft 2020-12) of every line, as a reader of the output should use it.
pub fn json_schema() -> Schema {
    let mut schema =
        SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<Line>();
    RecursiveTransform(forbid_null).transform(&mut schema);
    schema.insert("$id".to_owned(), format!("https://{SCHEMA_ID}").into());
    schema.insert("title".to_owned(), "A line of kube-tcpstates".into());
    schema
}

/// An `Option` that is left out when empty is never null, but schemars allows it: what is not known is absent.
fn forbid_null(schema: &mut Schema) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_mut_slice() {
            let only = only.take();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(variants)) = schema.get_mut("anyOf") {
        variants.retain(|variant| variant.get("type").is_none_or(|name| name != "null"));
        if let [Value::Object(only)] = variants.as_mut_slice() {
            let only = std::mem::take(only);
            schema.remove("anyOf");
            for (key, value) in only {
                schema.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{SCHEMA_ID, SchemaId, json_schema};

    /// `UPDATE_SNAPSHOTS=1 cargo test -p kube-tcpstates-events` writes the file anew.
    #[test]
    fn the_published_schema_is_the_one_the_types_have() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/events-v1.json");
        let generated = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(&path, &generated).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap();
        assert!(
            published == generated,
            "{} is stale: run UPDATE_SNAPSHOTS=1 cargo test -p kube-tcpstates-events",
            path.display()
        );
    }

    #[test]
    fn the_schema_id_on_a_line_is_the_constant() {
        assert_eq!(serde_json::to_value(SchemaId::V1).unwrap(), SCHEMA_ID);
    }

    #[test]
    fn nothing_on_a_line_may_be_null() {
        assert!(!serde_json::to_string(&json_schema()).unwrap().contains("null"));
    }

    #[test]
    fn every_field_of_every_line_is_described() {
        fn undescribed(value: &serde_json::Value, path: &str, found: &mut Vec<String>) {
            let Some(object) = value.as_object() else { return };
            if let Some(properties) = object.get("properties").and_then(|p| p.as_object()) {
                for (name, property) in properties {
                    if property.get("description").is_none() {
                        found.push(format!("{path}.{name}"));
                    }
                }
            }
            for (name, inner) in object {
                undescribed(inner, &format!("{path}.{name}"), found);
                for (index, item) in inner.as_array().into_iter().flatten().enumerate() {
                    undescribed(item, &format!("{path}.{name}[{index}]"), found);
                }
            }
        }
        let mut found = Vec::new();
        undescribed(json_schema().as_value(), "", &mut found);
        assert_eq!(found, Vec::<String>::new());
    }
}
