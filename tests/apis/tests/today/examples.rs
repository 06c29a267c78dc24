//! Examples, as people apply and change them.

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates_apis_tests::kubectl::BOTH;
use kube_tcpstates_apis_tests::{Kubectl, Server, documents, root};

#[test]
fn every_example_is_applied_changed_and_compared_either_way() -> Result<()> {
    let server = Server::with_definitions()?;
    let mut files: Vec<_> = std::fs::read_dir(root().join("manifests/examples"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    files.sort();
    ensure!(!files.is_empty(), "there are examples");
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        for release in BOTH {
            let kubectl = server.kubectl(release)?;
            walk(&kubectl, &text).with_context(|| format!("{release}: {}", file.display()))?;
        }
    }
    Ok(())
}

/// Applied by the client, then by the server, as one who changes over does; then changed, and taken away.
fn walk(kubectl: &Kubectl, text: &str) -> Result<()> {
    let file = "--filename=-";
    let object = documents(text)?.pop().context("an object")?;
    let ttl = object["spec"]["ttl"].as_str().context("it ends by itself")?;
    let changed = text.replace(&format!("ttl: {ttl}"), "ttl: 7h");
    ensure!(changed != text, "its ttl can be changed: {ttl}");

    let new = kubectl.diff(&[file], text)?;
    ensure!(new.contains("+kind: "), "all of it is new: {new}");
    let applied = |text: &str, arguments: &[&str], done: &str| {
        let said = kubectl.well_with(&[&["apply", file], arguments].concat(), text)?;
        ensure!(said.trim_end().ends_with(done), "expected {done}: {said}");
        Ok(())
    };
    applied(text, &["--dry-run=server"], " created (server dry run)")?;
    applied(text, &["--dry-run=server", "--server-side"], " serverside-applied (server dry run)")?;
    applied(text, &[], " created")?;
    applied(text, &[], " unchanged")?;
    applied(text, &["--server-side"], " serverside-applied")?;
    for way in [&[file][..], &["--server-side", file]] {
        let differs = kubectl.diff(way, text)?;
        ensure!(differs.is_empty(), "it is as it was applied: {differs}");
        let differs = kubectl.diff(way, &changed)?;
        ensure!(differs.contains("\n+  ttl: 7h\n"), "the change is shown: {differs}");
    }
    applied(&changed, &["--server-side"], " serverside-applied")?;
    applied(text, &[], " configured")?;
    let shown = kubectl.well_with(&["get", file], text)?;
    ensure!(shown.starts_with("NAME ") && shown.lines().count() == 2, "{shown}");
    kubectl.well_with(&["delete", file], text).map(drop)
}
