//! Dashboards: complete, consistent, and asking for what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use kube_tcpstates_deploy_tests::grafana::{dashboards, expressions, filled, panels, variables};
use kube_tcpstates_deploy_tests::{promql, root, said, tool};
use serde_json::{Value, json};

/// Calls with the dashboard's file, the panel's title, and the panel.
fn each_panel(mut see: impl FnMut(&str, &str, &Value)) {
    let mut seen = 0;
    for (file, dashboard) in dashboards().expect("dashboards") {
        for panel in panels(&dashboard) {
            see(&file, panel["title"].as_str().unwrap_or_default(), panel);
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen} panels");
}

#[test]
fn a_dashboard_has_a_uid_of_its_own_and_its_panels_ids() {
    let mut uids = BTreeSet::new();
    for (file, dashboard) in dashboards().unwrap() {
        let uid = dashboard["uid"].as_str().unwrap().to_owned();
        assert_eq!(file, format!("{uid}.json"));
        assert!(uid.len() <= 40 && uids.insert(uid), "{file}");
        let all = dashboard["panels"].as_array().unwrap();
        let ids: BTreeSet<_> = all.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), all.len(), "{file}");
    }
    assert_eq!(uids.len(), 3);
}

#[test]
fn panels_stand_beside_each_other_within_the_page() {
    for (file, dashboard) in dashboards().unwrap() {
        let mut taken = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{file}: {}", panel["title"]);
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "{file}: {} lies over another", panel["title"]);
                }
            }
        }
    }
}

#[test]
fn every_panel_says_what_it_shows_and_in_what_unit() {
    each_panel(|file, title, panel| {
        for text in [&panel["title"], &panel["description"], &panel["fieldConfig"]["defaults"]["unit"]] {
            assert!(text.as_str().is_some_and(|text| !text.is_empty()), "{file}: {title}");
        }
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{file}: {title} asks nothing");
    });
}

#[test]
fn every_variable_that_is_used_is_there_and_every_one_that_is_there_is_used() {
    for (file, dashboard) in dashboards().unwrap() {
        let list = dashboard["templating"]["list"].as_array().unwrap();
        let defined: BTreeSet<_> = list.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
        assert_eq!(defined.len(), list.len(), "{file}: a name is there twice");
        let text = dashboard.to_string();
        // `$__all` and what Grafana fills in itself, and the values that a variable has.
        let used: BTreeSet<_> = variables(&text).into_iter().filter(|name| !name.starts_with("__")).collect();
        assert_eq!(used, defined, "{file}");
    }
}

/// As recording rules, which promtool parses.
#[test]
fn prometheus_understands_every_expression() {
    let mut rules = Vec::new();
    each_panel(|_, _, panel| {
        for expression in expressions(panel, "prometheus") {
            rules.push(
                json!({"record": format!("panel:expression:{}", rules.len()), "expr": filled(expression)}),
            );
        }
    });
    assert!(rules.len() > 50, "{} expressions", rules.len());
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("expressions.yaml");
    let check = |rules: &[Value]| {
        let groups = json!({"groups": [{"name": "panels", "rules": rules}]});
        fs::write(&file, groups.to_string()).unwrap();
        said(tool("promtool").unwrap().args(["check", "rules"]).arg(&file))
    };
    check(&rules).unwrap();
    rules[0]["expr"] = json!("sum by (");
    assert!(check(&rules).is_err());
}

#[test]
fn a_panel_asks_for_metrics_that_the_documents_tell_of() {
    let documented = promql::documented().unwrap();
    let mut asked = BTreeSet::new();
    each_panel(|file, title, panel| {
        for expression in expressions(panel, "prometheus") {
            let metrics = promql::metrics(expression);
            let unknown: Vec<_> = metrics.difference(&documented).collect();
            assert!(unknown.is_empty(), "{file}: {title}: {unknown:?}");
            asked.extend(metrics);
        }
    });
    // What is told is shown somewhere, but for parts of histograms and what a table of versions has.
    let is_shown = |name: &&String| {
        let base = name.trim_end_matches("_sum").trim_end_matches("_count");
        asked.contains(*name) || asked.contains(&format!("{base}_bucket"))
    };
    let unshown: Vec<_> = documented.iter().filter(|name| !is_shown(name)).collect();
    assert_eq!(
        unshown,
        ["kube_tcpstates_operator_build_info", "kube_tcpstates_operator_event_writes_total"],
        "no panel shows these"
    );
}

/// The members of our lines that a query in Loki's language reads, against the published schema.
#[test]
fn what_is_read_from_a_line_is_what_lines_have() {
    let schema = fs::read_to_string(root().join("docs/schema/events-v1.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let mut read = BTreeMap::new();
    each_panel(|_, title, panel| {
        for expression in expressions(panel, "loki") {
            let Some((_, fields)) = expression.split_once("| json ") else { continue };
            let fields = fields.split(" | ").next().unwrap();
            for field in fields.split(", ") {
                let path = field.split_once("=\"").unwrap().1.trim_end_matches('"');
                read.insert(path.to_owned(), title.to_owned());
            }
        }
    });
    assert!(read.len() > 10, "{read:?}");
    for (path, title) in read {
        assert!(has(&schema, &schema, &path.split('.').collect::<Vec<_>>()), "{title}: no line has {path}");
    }
    assert!(!has(&schema, &schema, &["tcpstates", "outcom"]));
}

/// Whether a schema, or one that it refers to, has a property with this path.
fn has(whole: &Value, schema: &Value, path: &[&str]) -> bool {
    let Some((first, rest)) = path.split_first() else { return true };
    if let Some(reference) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        return whole.pointer(reference).is_some_and(|schema| has(whole, schema, path));
    }
    let property = schema["properties"].get(*first).is_some_and(|property| has(whole, property, rest));
    let one_of = ["oneOf", "anyOf", "allOf"].into_iter().filter_map(|list| schema[list].as_array());
    property || one_of.flatten().any(|schema| has(whole, schema, path))
}
