//! What is in the programs: every crate that is compiled into them, as `CycloneDX` 1.6, from cargo's own account and Cargo.lock.
//!
//! Of features it has the union over the workspace, so a crate may be listed that one program leaves out; none is missing.
//! There is no time and no number in it: the same Cargo.lock gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::step;
use crate::workspace::{AGENT_PACKAGE, EBPF_PACKAGE, OPERATOR_PACKAGE, PLUGIN_PACKAGE, Workspace};

/// What is shipped. The kernel side is inside of the agent.
const SHIPPED: [&str; 4] = [AGENT_PACKAGE, OPERATOR_PACKAGE, PLUGIN_PACKAGE, EBPF_PACKAGE];
/// What it is shipped for.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// The file's content.
pub(crate) fn written(workspace: &Workspace) -> Result<String> {
    let mut cargo = workspace.cargo("metadata");
    cargo.args(["--format-version=1", "--filter-platform", PLATFORM]);
    let metadata: Value = serde_json::from_str(&step::output(&mut cargo)?).context("read cargo's account")?;
    let lock = fs::read_to_string(workspace.root.join("Cargo.lock")).context("read Cargo.lock")?;
    Ok(format!("{:#}\n", bill(&metadata, &checksums(&lock))?))
}

/// Checksums of packages from a registry, by name and version.
fn checksums(lock: &str) -> BTreeMap<(&str, &str), &str> {
    let mut sums = BTreeMap::new();
    for entry in lock.split("[[package]]") {
        let text = |name: &str| {
            entry.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"'))
        };
        if let (Some(name), Some(version), Some(sum)) = (text("name"), text("version"), text("checksum")) {
            sums.insert((name, version), sum);
        }
    }
    sums
}

fn bill(metadata: &Value, checksums: &BTreeMap<(&str, &str), &str>) -> Result<Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let packages: BTreeMap<String, Value> =
        list(&metadata["packages"]).into_iter().map(|package| (text(&package["id"]), package)).collect();
    let mut compiled_in: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let normal = |dependency: &&Value| {
            // Not what tests or build scripts need.
            list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null())
        };
        let dependencies = list(&node["deps"]);
        let names = dependencies.iter().filter(normal).map(|dependency| text(&dependency["pkg"]));
        compiled_in.insert(text(&node["id"]), names.collect());
    }
    let is_shipped = |id: &&String| SHIPPED.contains(&packages[*id]["name"].as_str().unwrap_or_default());
    let mut open: Vec<&String> = packages.keys().filter(is_shipped).collect();
    ensure!(open.len() == SHIPPED.len(), "cargo knows {} of {SHIPPED:?}", open.len());
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            open.extend(compiled_in.get(id).into_iter().flatten());
        }
    }
    let package = |id: &String| packages.get(id).with_context(|| format!("cargo does not tell of {id}"));
    let (mut components, mut dependencies) = (Vec::new(), Vec::new());
    for id in seen {
        components.push(component(package(id)?, checksums));
        let mut on = Vec::new();
        for other in compiled_in.get(id).into_iter().flatten() {
            on.push(purl(package(other)?));
        }
        on.sort();
        dependencies.push(json!({"ref": purl(package(id)?), "dependsOn": on}));
    }
    components.sort_by_key(|component| component["purl"].to_string());
    dependencies.sort_by_key(|dependency| dependency["ref"].to_string());
    let version = env!("CARGO_PKG_VERSION");
    let whole =
        json!({"type": "application", "name": "kube-tcpstates", "version": version, "bom-ref": "whole"});
    Ok(json!({
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": {"component": whole},
        "components": components, "dependencies": dependencies,
    }))
}

fn component(package: &Value, checksums: &BTreeMap<(&str, &str), &str>) -> Value {
    let (name, version) = (text(&package["name"]), text(&package["version"]));
    let kind = if SHIPPED.contains(&name.as_str()) { "application" } else { "library" };
    let mut component = json!({
        "type": kind, "name": name, "version": version, "purl": purl(package), "bom-ref": purl(package),
    });
    if let Some(licence) = package["license"].as_str() {
        // As crates wrote it before SPDX.
        component["licenses"] = json!([{"expression": licence.replace('/', " OR ")}]);
    }
    if let Some(sum) = checksums.get(&(name.as_str(), version.as_str())) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
    }
    component
}

fn purl(package: &Value) -> String {
    format!("pkg:cargo/{}@{}", text(&package["name"]), text(&package["version"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_what_is_compiled_in_with_sums_and_licences_and_not_what_tests_need() {
        let bill = written(&Workspace::find().unwrap()).unwrap();
        let bill: Value = serde_json::from_str(&bill).unwrap();
        let components = bill["components"].as_array().unwrap();
        let named = |name: &str| components.iter().find(|component| component["name"] == name);
        for shipped in SHIPPED.iter().chain(&["aya", "aya-ebpf", "kube", "kube-tcpstates-common"]) {
            assert!(named(shipped).is_some(), "{shipped} is missing");
        }
        for not_shipped in ["libtest-mimic", "jsonschema", "xtask", "kube-tcpstates-e2e-tests"] {
            assert!(named(not_shipped).is_none(), "{not_shipped} is not shipped");
        }
        let mut references = BTreeSet::new();
        for component in components {
            assert!(references.insert(component["bom-ref"].as_str().unwrap()), "{component} is there twice");
            assert!(component["licenses"][0]["expression"].is_string(), "{component}");
            let is_ours = component["name"].as_str().unwrap().starts_with("kube");
            assert!(
                is_ours || component["hashes"][0]["content"].as_str().unwrap().len() == 64,
                "{component}"
            );
        }
        for dependency in bill["dependencies"].as_array().unwrap() {
            for on in dependency["dependsOn"].as_array().unwrap() {
                assert!(references.contains(on.as_str().unwrap()), "{on} is no component");
            }
        }
    }
}
