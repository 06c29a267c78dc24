//! Dashboards as Grafana keeps them.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::root;

/// Every dashboard with its file's name.
pub fn dashboards() -> Result<Vec<(String, Value)>> {
    let mut dashboards = Vec::new();
    for file in fs::read_dir(root().join("deploy/grafana")).context("list deploy/grafana")? {
        let file = file.context("list deploy/grafana")?;
        let name = file.file_name().to_string_lossy().into_owned();
        let text = fs::read_to_string(file.path()).with_context(|| format!("read {name}"))?;
        dashboards.push((name, serde_json::from_str(&text).context("a dashboard is JSON")?));
    }
    dashboards.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(dashboards)
}

/// The panels of a dashboard, without the headings of rows.
pub fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().into_iter().flatten().filter(|panel| panel["type"] != "row")
}

/// The expressions of a panel for a kind of data source.
pub fn expressions<'a>(panel: &'a Value, source: &'a str) -> impl Iterator<Item = &'a str> {
    let targets = panel["targets"].as_array().into_iter().flatten();
    let of_it = targets.filter(move |target| target["datasource"]["type"] == source);
    of_it.filter_map(|target| target["expr"].as_str())
}

/// The names of the variables that a text uses: `$name` or `${name}`. Grafana's own begin with two underscores.
pub fn variables(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for part in text.split('$').skip(1) {
        let part = part.strip_prefix('{').unwrap_or(part);
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
        names.push(&part[..end]);
    }
    names
}

/// An expression as Grafana sends it while everything is chosen.
pub fn filled(expression: &str) -> String {
    let filled =
        expression.replace("$__rate_interval", "1m").replace("$__range", "5m").replace("$__interval", "1m");
    ["node", "namespace", "workload"]
        .iter()
        .fold(filled, |text, name| text.replace(&format!("${name}"), ".*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_in_both_spellings() {
        assert_eq!(variables(r#"a{b=~"$node", c="${pod}"}[$__range]"#), ["node", "pod", "__range"]);
    }
}
