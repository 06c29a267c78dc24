//! Definitions: applied either way, described to whoever asks.

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates_apis_tests::kubectl::BOTH;
use kube_tcpstates_apis_tests::{Server, documents, root};
use serde_json::Value;

const FILES: &str = "--filename=crds/yaml";

#[test]
fn definitions_are_applied_either_way_without_conflict_and_nothing_differs() -> Result<()> {
    for release in BOTH {
        let server = Server::start()?;
        let kubectl = server.kubectl(release)?;
        let each_is = |text: &str, done: &str| {
            let fine = text.lines().count() == 3 && text.lines().all(|line| line.ends_with(done));
            ensure!(fine, "{release}: expected {done}: {text}");
            Ok(())
        };
        each_is(
            &kubectl.well(&["apply", "--server-side", "--dry-run=server", FILES])?,
            " serverside-applied (server dry run)",
        )?;
        each_is(&kubectl.well(&["apply", FILES])?, " created")?;
        server.await_definitions()?;
        each_is(&kubectl.well(&["apply", FILES])?, " unchanged")?;
        each_is(&kubectl.well(&["apply", "--server-side", FILES])?, " serverside-applied")?;
        each_is(&kubectl.well(&["apply", FILES])?, " unchanged")?;
        for way in [&[FILES][..], &["--server-side", FILES]] {
            let differs = kubectl.diff(way, "")?;
            ensure!(differs.is_empty(), "{release} {way:?}: {differs}");
        }
    }
    Ok(())
}

#[test]
fn every_field_is_explained_with_its_own_words() -> Result<()> {
    let server = Server::with_definitions()?;
    let mut explained = 0;
    for file in std::fs::read_dir(root().join("crds/yaml"))? {
        for definition in documents(&std::fs::read_to_string(file?.path())?)? {
            let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            let name = definition["spec"]["names"]["plural"].as_str().context("a name")?;
            for Node { path, description, fields } in nodes(schema, name) {
                for release in BOTH {
                    let text = server.kubectl(release)?.well(&["explain", &path])?;
                    for (name, described) in &fields {
                        ensure!(lists(&text, name), "{release}: {path} lacks {name}: {text}");
                        ensure!(
                            words(&text).contains(&words(described)),
                            "{release}: {path}.{name} is not described: {text}"
                        );
                    }
                    ensure!(
                        words(&text).contains(&words(&description)),
                        "{release}: {path} is not described: {text}"
                    );
                    explained += fields.len();
                }
            }
        }
    }
    ensure!(explained > 300, "{explained} fields");
    Ok(())
}

/// A line of `explain` about a field: its name, a tab, its type.
fn lists(text: &str, name: &str) -> bool {
    text.lines().any(|line| line.trim_start().strip_prefix(name).is_some_and(|rest| rest.starts_with('\t')))
}

/// Without the breaks of lines, of which every kubectl has its own.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An object of a schema that has fields.
struct Node {
    /// As `explain` takes it.
    path: String,
    description: String,
    /// Name and description of each.
    fields: Vec<(String, String)>,
}

/// All of them, from the top.
fn nodes(schema: &Value, path: &str) -> Vec<Node> {
    // What is in a list is explained by the path of the list.
    if schema["type"] == "array" {
        return nodes(&schema["items"], path);
    }
    let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
    let text = |schema: &Value| schema["description"].as_str().unwrap_or_default().to_owned();
    // Kubernetes has words of its own for what every object has.
    let own =
        properties.iter().filter(|(name, _)| !["apiVersion", "kind", "metadata"].contains(&name.as_str()));
    let fields = own.clone().map(|(name, field)| (name.clone(), text(field))).collect();
    let mut found = vec![Node { path: path.to_owned(), description: text(schema), fields }];
    for (name, field) in own {
        found.extend(nodes(field, &format!("{path}.{name}")));
    }
    found
}
