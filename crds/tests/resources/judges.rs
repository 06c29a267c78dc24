//! Those who judge an object: the structural schema and the CEL rules, as an API server applies them, and the agent.

use std::collections::HashMap;
use std::sync::LazyLock;

use jsonschema::Validator;
use kube::core::cel::{self, CompiledSchema, ErrorKind, apply_defaults, compile_schema};
use kube_tcpstates_crds::definition::{definitions, schema};
use kube_tcpstates_crds::validate::check_object;
use kube_tcpstates_crds::{CheckedTrace, Refusal};
use serde_json::{Value, json};

struct Server {
    schema: &'static Value,
    structural: Validator,
    rules: CompiledSchema,
}

static SERVERS: LazyLock<HashMap<&str, Server>> = LazyLock::new(|| {
    let server = |(plural, definition): (&'static str, &'static Value)| {
        let schema = schema(plural).unwrap();
        let structural = jsonschema::options()
            .with_format("cidr", is_cidr)
            .should_validate_formats(true)
            .build(&as_json_schema(schema.clone()))
            .unwrap();
        let rules = compile_schema(schema);
        assert!(rules.compilation_errors().is_empty(), "{:?}", rules.compilation_errors());
        (definition["spec"]["names"]["kind"].as_str().unwrap(), Server { schema, structural, rules })
    };
    definitions().into_iter().map(server).collect()
});

/// What Go's `net.ParseCIDR`, which servers use for the format, takes: host bits among it.
fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let longest = match address.parse() {
        Ok(std::net::IpAddr::V4(_)) => 32,
        Ok(std::net::IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.parse::<u8>().is_ok_and(|length| length <= longest)
}

/// JSON Schema says `uniqueItems` for what Kubernetes calls a set.
fn as_json_schema(mut schema: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(object) => {
                if object.get("x-kubernetes-list-type").is_some_and(|kind| kind == "set") {
                    object.insert("uniqueItems".to_owned(), true.into());
                }
                object.values_mut().for_each(walk);
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(&mut schema);
    schema
}

pub(crate) fn object(kind: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "tcpstates.dev/v1alpha1", "kind": kind, "metadata": { "name": "trace" }, "spec": spec })
}

/// The object with the defaults that a server writes into it.
pub(crate) fn defaulted(object: &Value) -> Value {
    apply_defaults(server(object).schema, object)
}

/// What the structural schema finds wrong: path and message.
pub(crate) fn structural_errors(object: &Value) -> Vec<(String, String)> {
    let object = defaulted(object);
    let errors = server(&object).structural.iter_errors(&object);
    errors.map(|error| (error.instance_path().to_string(), error.to_string())).collect()
}

/// What the CEL rules find wrong: path and message.
pub(crate) fn cel_errors(object: &Value) -> Vec<(String, String)> {
    let Err(errors) = cel::Validator::new().validate_compiled(&server(object).rules, object, None) else {
        return Vec::new();
    };
    let errors = errors.into_vec().into_iter();
    errors
        .map(|error| {
            assert_eq!(error.kind, ErrorKind::ValidationFailure, "a rule could not be evaluated: {error}");
            (error.field_path.clone(), error.message)
        })
        .collect()
}

/// The agent, on the object as written and as a server stores it. Both must come to the same.
pub(crate) fn agent(object: &Value) -> Result<CheckedTrace, Refusal> {
    let verdict = check_object(object);
    assert_eq!(verdict, check_object(&defaulted(object)), "defaults change the agent's verdict on {object}");
    verdict
}

fn server(object: &Value) -> &'static Server {
    &SERVERS[object["kind"].as_str().unwrap()]
}
