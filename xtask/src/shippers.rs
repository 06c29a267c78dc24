//! Whether what `deploy/` gives to those who ship lines is whole: every file parses, it reads the log files that the installer's agents
//! have, and the index template has a type for every member of a line and for nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::workspace::Workspace;

/// Of those who watch the agents; `tests/deploy/` reads it.
const OF_OTHERS: [&str; 2] = ["grafana", "prometheus"];
/// Names that users choose: each would be a field of its own.
const OF_USERS: [&str; 2] = ["k8s.pod.label", "tcpstates.lost.by_trace"];
/// What only a document has: data streams want it.
const OF_DATA_STREAMS: &str = "@timestamp";

fn root() -> PathBuf {
    Workspace::find().unwrap().root
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(what: &str, text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// Files below `deploy/` whose names end so.
fn files(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for shipper in fs::read_dir(root().join("deploy")).unwrap().flatten() {
        if OF_OTHERS.iter().any(|other| shipper.file_name() == *other) {
            continue;
        }
        let files = fs::read_dir(shipper.path()).into_iter().flatten().flatten().map(|file| file.path());
        found.extend(files.filter(|file| file.extension().is_some_and(|own| own == extension)));
    }
    found.sort();
    assert!(!found.is_empty(), "no file of deploy/ ends in {extension}");
    found
}

#[test]
fn every_file_parses_and_so_does_the_yaml_inside_of_it() {
    for file in files("json") {
        let text = read(&file);
        assert!(serde_json::from_str::<Value>(&text).is_ok(), "{}", file.display());
    }
    for file in files("yaml") {
        for object in yaml(&file.display().to_string(), &read(&file)) {
            assert!(object["kind"].is_string() && object["metadata"]["name"].is_string(), "{object}");
            let Some(inside) = object["data"].as_object().filter(|_| object["kind"] == "ConfigMap") else {
                continue;
            };
            for (name, text) in inside.iter().filter(|(name, _)| name.ends_with("ml")) {
                let parsed = yaml(name, text.as_str().unwrap());
                assert!(parsed.len() == 1 && parsed[0].is_object(), "{name} of {}", file.display());
            }
        }
    }
}

#[test]
fn shippers_read_the_agents_logs_with_a_pinned_image_and_no_rights() {
    let agent = &yaml("agent.yaml", &read("manifests/base/agent.yaml"))[0];
    let (namespace, name) = (&agent["metadata"]["namespace"], &agent["metadata"]["name"]);
    let container = &agent["spec"]["template"]["spec"]["containers"][0]["name"];
    let words = [namespace, name, container].map(|word| word.as_str().unwrap());
    let logs = format!("/var/log/pods/{}_{}-*/{}/*.log", words[0], words[1], words[2]);
    let mut readers = 0;
    for file in files("yaml") {
        let (text, shown) = (read(&file), file.display().to_string());
        for object in yaml(&shown, &text) {
            let pod = &object["spec"]["template"]["spec"];
            assert!(
                !["Role", "ClusterRole", "Secret"].contains(&object["kind"].as_str().unwrap()),
                "{shown}"
            );
            for container in pod["containers"].as_array().into_iter().flatten() {
                let (_, tag) = container["image"].as_str().unwrap().rsplit_once(':').unwrap();
                assert!(tag.contains('.') && tag.contains(|c: char| c.is_ascii_digit()), "{shown}: {tag}");
                assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL", "{shown}");
                assert_eq!(pod["automountServiceAccountToken"], false, "{shown}");
            }
            if object["kind"] == "DaemonSet" {
                assert!(text.contains(&logs), "{shown} does not read {logs}");
                readers += 1;
            }
        }
    }
    assert!(read("deploy/rsyslog/60-kube-tcpstates.conf").contains(&logs), "rsyslog does not read {logs}");
    assert_eq!(readers, 5, "Alloy, Fluent Bit, Vector, Filebeat, the Collector");
}

/// Members of lines by path, with what they may hold.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Holds {
    Number,
    Truth,
    Text,
    /// A list of objects.
    Objects,
    /// Numbers or texts by a name.
    ByName,
}

fn members(schema: &Value) -> BTreeMap<String, Holds> {
    let mut found = BTreeMap::new();
    walk(schema, schema, "", &mut found);
    found
}

fn resolved<'a>(schema: &'a Value, mut node: &'a Value) -> &'a Value {
    while let Some(reference) = node["$ref"].as_str() {
        node = schema.pointer(reference.trim_start_matches('#')).unwrap();
    }
    node
}

fn walk(schema: &Value, node: &Value, path: &str, found: &mut BTreeMap<String, Holds>) {
    let node = resolved(schema, node);
    for either in ["anyOf", "oneOf", "allOf"] {
        for one in node[either].as_array().into_iter().flatten().filter(|one| one["type"] != "null") {
            walk(schema, one, path, found);
        }
    }
    if let Some(properties) = node["properties"].as_object() {
        for (name, member) in properties {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            walk(schema, member, &path, found);
        }
        return;
    }
    let kind = node["type"].as_str().or_else(|| node["type"][0].as_str());
    let holds = match kind {
        Some("integer" | "number") => Holds::Number,
        Some("boolean") => Holds::Truth,
        Some("string") => Holds::Text,
        // What objects in a list have is no field: nobody could tell which of them has it.
        Some("array") if resolved(schema, &node["items"])["type"] == "object" => Holds::Objects,
        Some("array") => return walk(schema, &node["items"], path, found),
        Some("object") if node["additionalProperties"].is_object() => Holds::ByName,
        None if node["const"].is_string() || node["enum"].is_array() => Holds::Text,
        _ => return,
    };
    found.insert(path.to_owned(), holds);
}

/// What the template says of each field.
fn fields<'a>(node: &'a Value, path: &str, found: &mut BTreeMap<String, &'a Value>) {
    for (name, field) in node["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if field["properties"].is_object() {
            fields(field, &path, found);
        } else {
            found.insert(path, field);
        }
    }
}

#[test]
fn every_member_of_a_line_has_a_type_in_the_index_template_and_nothing_else_has() {
    let (schema, template) =
        (json("docs/schema/events-v1.json"), json("deploy/elasticsearch/index-template.json"));
    let mappings = &template["template"]["mappings"];
    assert_eq!(mappings["dynamic"], false, "what is not described makes no field");
    let mut fields_by_path = BTreeMap::new();
    fields(mappings, "", &mut fields_by_path);
    assert_eq!(fields_by_path.remove(OF_DATA_STREAMS).unwrap()["type"], "date_nanos");
    let members = members(&schema);
    let names = |names: Vec<&String>| names.into_iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(members.keys().collect()), names(fields_by_path.keys().collect()));
    let counted: Vec<_> =
        mappings["dynamic_templates"][0]["counts"]["path_match"].as_array().unwrap().clone();
    for (path, holds) in members {
        let field = fields_by_path[&path];
        let kind = field["type"].as_str().unwrap();
        let fits = match holds {
            Holds::Number => kind == "long",
            Holds::Truth => kind == "boolean",
            Holds::Text if path.ends_with(".address") => kind == "ip",
            Holds::Text if ["time", "tcpstates.start", "tcpstates.summary.from"].contains(&&*path) => {
                kind == "date_nanos"
            }
            Holds::Text => kind == "keyword" || (kind == "match_only_text" && path == "tcpstates.text"),
            Holds::Objects => field["enabled"] == false,
            Holds::ByName if OF_USERS.contains(&&*path) => kind == "flattened",
            Holds::ByName => field["dynamic"] == true && counted.contains(&format!("{path}.*").into()),
        };
        assert!(fits, "{path} holds {holds:?} and is {field}");
    }
}
