//! What docs/resources.md shows, on a server: traces as people write them, and a report as an agent does.

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates_apis_tests::kubectl::BOTH;
use kube_tcpstates_apis_tests::{Server, documents, holds, root};
use serde_json::{Value, json};

/// Every object in the document.
fn shown() -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(root().join("docs/resources.md"))?;
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    Ok(blocks.map(documents).collect::<Result<Vec<_>>>()?.concat())
}

#[test]
fn every_trace_in_the_document_is_taken_by_either_kubectl() -> Result<()> {
    let server = Server::with_definitions()?;
    let traces = shown()?.into_iter().filter(|object| object["kind"] != "TcpStateNode");
    let traces: Vec<_> = traces.map(|trace| trace.to_string()).collect();
    ensure!(traces.len() > 3, "{traces:?}");
    for (release, trace) in BOTH.iter().flat_map(|release| traces.iter().map(move |trace| (release, trace))) {
        let said =
            server.kubectl(release)?.well_with(&["create", "--dry-run=server", "--filename=-"], trace)?;
        ensure!(said.ends_with(" created (server dry run)\n"), "{release}: {said}");
    }
    Ok(())
}

/// The status is merged, as the agent writes it, with no field that the definition does not have.
#[test]
fn the_report_in_the_document_is_taken_whole_and_printed_as_it_says() -> Result<()> {
    const REPORTS: &str = "/apis/tcpstates.dev/v1alpha1/tcpstatenodes";
    let server = Server::with_definitions()?;
    let report = shown()?.into_iter().find(|object| object["kind"] == "TcpStateNode").context("a report")?;
    let name = report["metadata"]["name"].as_str().context("a name")?;
    server.make(REPORTS, &[], &report)?.made()?;
    let path = format!("{REPORTS}/{name}/status?fieldValidation=Strict");
    let written = server.merge(&path, &json!({ "status": report["status"] }))?.made()?;
    ensure!(holds(&written["status"], &report["status"]), "{}", written["status"]);
    for release in BOTH {
        let table = server.kubectl(release)?.well(&["get", "tsn"])?;
        let mut rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>().join(" "));
        let head = rows.next().context("a head")?;
        ensure!(head == "NAME VERSION KERNEL HOOK TRACES EVENTS LOST READY AGE", "{release}: {head}");
        let row = rows.next().context("a row")?;
        ensure!(row.starts_with("node-b 0.1.0 6.18.44-fc-v669 tp_btf 7 191 0 True "), "{release}: {row}");
    }
    Ok(())
}
