//! The two tables of objects, for every judge there is: those in this program, and the servers of other tests.

use serde::Deserialize;
use serde_json::Value;

/// An object that must be refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bad {
    pub what: String,
    #[serde(default)]
    pub kind: Kind,
    /// Who refuses it besides the agent.
    pub by: Judge,
    pub field: String,
    /// Part of what the agent says of it.
    pub says: String,
    /// Part of what a server says of it. One that no schema and no rule refuses may be refused all the same, when a client
    /// asks for it: for a field that is not known.
    pub server: Option<String>,
    pub spec: Value,
}

/// An object that everyone takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Good {
    pub what: String,
    #[serde(default)]
    pub kind: Kind,
    pub spec: Value,
}

#[derive(Clone, Copy, Default, Deserialize, Debug)]
pub(crate) enum Kind {
    #[default]
    TcpStateTrace,
    ClusterTcpStateTrace,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Judge {
    /// Every server.
    Schema,
    /// Servers from 1.25.
    Cel,
    /// The agent alone; the table says why.
    Agent,
}

pub(crate) fn bad() -> Vec<Bad> {
    let mut cases: Vec<Bad> = serde_saphyr::from_str(include_str!("bad.yaml")).unwrap();
    for case in &mut cases {
        expand(&mut case.spec);
    }
    cases
}

pub(crate) fn good() -> Vec<Good> {
    let mut cases: Vec<Good> = serde_saphyr::from_str(include_str!("good.yaml")).unwrap();
    for case in &mut cases {
        expand(&mut case.spec);
    }
    cases
}

/// `{$times: 3, each: c$n}` stands for `[c0, c1, c2]`, and `{$long: 3, of: a, then: /b}` for `aaa/b`.
fn expand(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let number = |name: &str| object.get(name).and_then(Value::as_u64);
            if let Some(times) = number("$times") {
                let each = object["each"].to_string();
                let item = |n: u64| serde_json::from_str(&each.replace("$n", &n.to_string())).unwrap();
                *value = (0..times).map(item).collect::<Vec<Value>>().into();
            } else if let Some(length) = number("$long") {
                let of = object["of"].as_str().unwrap();
                let then = object.get("then").and_then(Value::as_str).unwrap_or_default();
                *value = (of.repeat(usize::try_from(length).unwrap()) + then).into();
            } else {
                object.values_mut().for_each(expand);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(expand),
        _ => {}
    }
}

/// Whether a judge's path is the field, or what the field is part of.
pub(crate) fn leads_to(path: &str, field: &str) -> bool {
    let steps = |text: &str| -> Vec<String> {
        let text = text.replace("~1", "/");
        text.split(['.', '[', ']', '/']).filter(|step| !step.is_empty()).map(str::to_owned).collect()
    };
    steps(field).starts_with(&steps(path))
}
