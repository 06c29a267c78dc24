//! What the Elastic Common Schema has names for, of a line of what is open.

use serde_json::{Value, json};

use super::names::name;

/// Adds it to a document, from the same line in JSON.
pub(super) fn describe(document: &mut Value, line: &Value) {
    document["event"]["category"] = json!(["network"]);
    document["event"]["type"] = json!(["connection", "info"]);
    network(document, line);
    owner(document, line);
}

fn network(document: &mut Value, line: &Value) {
    let network = &line["network"];
    if network.is_null() {
        return;
    }
    document["network"] = json!({"transport": "tcp", "iana_number": "6", "type": network["type"]});
    let role = line[name!(own)][name!(role)].as_str();
    let (near, far): (&[&str], &[&str]) = match role {
        Some("client") => (&["source", "client"], &["destination", "server"]),
        Some(_) => (&["destination", "server"], &["source", "client"]),
        None => (&["source"], &["destination"]),
    };
    match role {
        Some("client") => document["network"]["direction"] = "egress".into(),
        Some(_) => document["network"]["direction"] = "ingress".into(),
        None => {}
    }
    for (keys, end) in [(near, &network["local"]), (far, &network["peer"])] {
        if end.is_null() {
            continue;
        }
        let mut end = end.clone();
        if !end["address"].is_null() {
            end["ip"] = end["address"].clone();
        }
        for key in keys {
            document[*key] = end.clone();
        }
    }
}

fn owner(document: &mut Value, line: &Value) {
    let (k8s, own) = (&line["k8s"], &line[name!(own)]);
    let mut put = |pointer: &[&str], value: &Value| {
        if value.is_null() {
            return;
        }
        let place = pointer.iter().fold(&mut *document, |place, key| &mut place[*key]);
        *place = value.clone();
    };
    put(&["container", "id"], &line["container"]["id"]);
    put(&["container", "name"], &k8s["container"]["name"]);
    put(&["container", "runtime"], &own[name!(container)][name!(runtime)]);
    put(&["host", "name"], &k8s["node"]["name"]);
    put(&["orchestrator", "cluster", "name"], &k8s["cluster"]["name"]);
    put(&["orchestrator", "namespace"], &k8s["namespace"]["name"]);
    if !k8s["pod"].is_null() {
        put(&["orchestrator", "type"], &"kubernetes".into());
        put(&["orchestrator", "resource", "type"], &"pod".into());
        put(&["orchestrator", "resource", "name"], &k8s["pod"]["name"]);
        put(&["orchestrator", "resource", "id"], &k8s["pod"]["uid"]);
    }
    put(&["process", "pid"], &line["process"]["pid"]);
    put(&["process", "thread", "name"], &line["thread"]["name"]);
    put(&[name!(own), name!(pod), name!(label)], &k8s["pod"]["label"]);
    for kind in ["deployment", "replicaset", "statefulset", "daemonset", "job", "cronjob"] {
        if !k8s[kind].is_null() {
            put(&[name!(own), name!(workload), name!(workload_kind)], &kind.into());
            put(&[name!(own), name!(workload), name!(workload_name)], &k8s[kind]["name"]);
        }
    }
}
