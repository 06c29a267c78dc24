//! Alerts: promtool takes them, each is tried, each is told of, and none asks for what is not there.

use std::collections::BTreeSet;
use std::fs;

use kube_tcpstates_deploy_tests::{documents, promql, root, said, tool};
use serde_json::{Value, json};

fn file(name: &str) -> Value {
    let text = fs::read_to_string(root().join("deploy/prometheus").join(name)).expect("a file of deploy/");
    documents(&text).expect("YAML").remove(0)
}

fn alerts() -> Vec<Value> {
    let groups = file("rules.yaml")["groups"].take();
    let rules = |group: &Value| group["rules"].as_array().cloned().unwrap_or_default();
    groups.as_array().into_iter().flatten().flat_map(rules).collect()
}

fn name(alert: &Value) -> &str {
    alert["alert"].as_str().unwrap_or_default()
}

fn promtool(arguments: &[&str]) -> String {
    let mut promtool = tool("promtool").expect("promtool");
    said(promtool.current_dir(root().join("deploy/prometheus")).args(arguments)).expect("promtool is content")
}

#[test]
fn promtool_takes_the_rules_and_their_tests_hold() {
    promtool(&["check", "rules", "rules.yaml"]);
    promtool(&["test", "rules", "rules_test.yaml"]);
}

/// Debian's Prometheus knows no Kubernetes: what it would discover is said instead.
#[test]
fn prometheus_takes_the_scrape_configuration() {
    let mut configuration = file("scrape.yaml");
    let job = configuration["scrape_configs"][0].as_object_mut().unwrap();
    assert_eq!(job.remove("kubernetes_sd_configs").unwrap()[0]["role"], "pod");
    job.insert("static_configs".to_owned(), json!([{"targets": ["127.0.0.1:9464"]}]));
    let place = tempfile::tempdir().unwrap();
    let written = place.path().join("prometheus.yml");
    fs::write(&written, configuration.to_string()).unwrap();
    promtool(&["check", "config", "--syntax-only", written.to_str().unwrap()]);
}

/// For each there is a time at which it is told, and one at which it is not yet, or of somebody else.
#[test]
fn every_alert_is_tried() {
    let tests = file("rules_test.yaml");
    let tried: Vec<_> = tests["tests"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|test| test["alert_rule_test"].as_array().unwrap())
        .collect();
    for alert in alerts() {
        let of_it = || tried.iter().filter(|test| test["alertname"] == alert["alert"]);
        let is_silent = |test: &&&Value| test["exp_alerts"].as_array().unwrap().is_empty();
        assert!(of_it().any(|test| !is_silent(&test)), "{} is never told", name(&alert));
        assert!(of_it().any(|test| is_silent(&test)), "{} is always told", name(&alert));
    }
}

#[test]
fn the_resource_has_the_same_rules() {
    assert_eq!(file("prometheus-rule.yaml")["spec"], file("rules.yaml"));
}

#[test]
fn an_alert_asks_for_metrics_that_the_documents_tell_of() {
    let documented = promql::documented().unwrap();
    for alert in alerts() {
        let expression = alert["expr"].as_str().unwrap();
        let unknown: Vec<_> = promql::metrics(expression).difference(&documented).cloned().collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", name(&alert));
    }
}

#[test]
fn an_alert_says_what_is_and_how_bad_it_is_and_the_document_what_to_do() {
    let document = fs::read_to_string(root().join("docs/monitoring.md")).unwrap();
    let mut names = BTreeSet::new();
    for alert in alerts() {
        let text = |part: &str, name: &str| alert[part][name].as_str().unwrap_or_default().to_owned();
        assert!(["info", "warning"].contains(&text("labels", "severity").as_str()), "{}", name(&alert));
        for annotation in ["summary", "description"] {
            assert!(!text("annotations", annotation).is_empty(), "{} has no {annotation}", name(&alert));
        }
        assert!(document.contains(&format!("| `{}` |", name(&alert))), "{} is not told of", name(&alert));
        assert!(names.insert(name(&alert).to_owned()), "{} is there twice", name(&alert));
    }
}
