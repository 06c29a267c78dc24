//! Fields that somebody has set and that are not in the object any more: the server names them in `managedFields`.
//!
//! A watch that was open when a definition got a new field goes on for a moment, and what comes by it is cut to the old
//! definition. The object then looks as if nothing had been asked that this agent does not know.

use serde_json::Value;

use super::error::FieldError;
use crate::{GROUP, VERSION};

/// Adds the fields of the spec that are not in its schema, by an object's metadata, to `errors`.
pub(super) fn check(schema: &Value, metadata: &Value, errors: &mut Vec<FieldError>) {
    let entries = metadata.get("managedFields").and_then(Value::as_array).into_iter().flatten();
    for entry in entries {
        let version = entry.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        if version.split_once('/') == Some((GROUP, VERSION))
            && let Some(fields) = entry.pointer("/fieldsV1/f:spec")
        {
            check_fields(schema, fields, "spec", errors);
        }
    }
}

/// `fieldsV1` (sigs.k8s.io/structured-merge-diff, `fieldpath/serialize-pe.go`): `f:` is a field, `.` the value itself;
/// `k:`, `v:` and `i:` are items of lists.
fn check_fields(schema: &Value, fields: &Value, field: &str, errors: &mut Vec<FieldError>) {
    for (key, below) in fields.as_object().into_iter().flatten() {
        let Some(name) = key.strip_prefix("f:") else { continue };
        if let Some(schema) = schema.get("properties").and_then(|properties| properties.get(name)) {
            check_fields(schema, below, &format!("{field}.{name}"), errors);
        } else if schema.get("additionalProperties").is_none() {
            let error = FieldError::unknown(field, name);
            // Several may have set it.
            if !errors.contains(&error) {
                errors.push(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::TraceKind;
    use crate::validate::{Refusal, check_stored};

    /// A trace as the API server hands it out, with what its authors have set.
    fn stored(set: &[Value]) -> Value {
        let entries = set.iter().map(|fields| {
            json!({
                "manager": "kubectl", "operation": "Update", "apiVersion": "tcpstates.dev/v1alpha1",
                "fieldsType": "FieldsV1", "fieldsV1": fields,
            })
        });
        json!({
            "metadata": {"managedFields": entries.collect::<Vec<_>>()},
            "spec": {"podSelector": {"matchLabels": {"app": "a"}}, "rateLimit": {"burst": 5}},
        })
    }

    fn unknown(object: &Value) -> Vec<String> {
        let refusal = check_stored(TraceKind::Namespaced, object).err();
        let errors = refusal.iter().inspect(|refusal| assert_eq!(refusal.reason(), "UnsupportedByAgent"));
        errors.flat_map(Refusal::errors).map(|error| error.field.clone()).collect()
    }

    #[test]
    fn what_was_set_and_is_known_is_no_reason_to_refuse() {
        let fields = json!({
            "f:metadata": {"f:annotations": {".": {}, "f:kubectl.kubernetes.io/last-applied-configuration": {}}},
            "f:spec": {
                ".": {},
                "f:podSelector": {".": {}, "f:matchLabels": {".": {}, "f:app": {}}},
                "f:localPorts": {},
                "f:containers": {".": {}, "v:\"app\"": {}},
                "f:rateLimit": {".": {}, "f:burst": {}},
            },
            "f:status": {"f:phase": {}},
        });
        assert_eq!(unknown(&stored(&[fields])), [""; 0]);
    }

    #[test]
    fn a_field_that_was_cut_off_on_the_way_is_refused_once_whoever_set_it() {
        let fields =
            json!({"f:spec": {"f:podSelector": {}, "f:onlyTls": {}, "f:rateLimit": {"f:perPod": {}}}});
        assert_eq!(unknown(&stored(&[fields.clone(), fields])), ["spec.onlyTls", "spec.rateLimit.perPod"]);
    }

    #[test]
    fn fields_of_another_version_have_other_names() {
        let mut object = stored(&[json!({"f:spec": {"f:onlyTls": {}}})]);
        object["metadata"]["managedFields"][0]["apiVersion"] = json!("tcpstates.dev/v1");
        assert_eq!(unknown(&object), [""; 0]);
    }
}
