//! The tables of good and bad objects, as a server judges them.

use anyhow::{Result, ensure};
use kube_tcpstates_apis_tests::{Answer, Server, holds};
use serde_json::{Value, json};

use crate::table::{Bad, Judge, Kind, bad, good, leads_to};

/// Where an object of a kind is made, and how fields are judged that the definition does not have.
fn place(kind: Kind, unknown: &str) -> String {
    let resource = match kind {
        Kind::TcpStateTrace => "namespaces/shop/tcpstatetraces",
        Kind::ClusterTcpStateTrace => "clustertcpstatetraces",
    };
    format!("/apis/tcpstates.dev/v1alpha1/{resource}?dryRun=All&fieldValidation={unknown}")
}

fn object(kind: Kind, spec: &Value) -> Value {
    json!({
        "apiVersion": "tcpstates.dev/v1alpha1",
        "kind": format!("{kind:?}"),
        "metadata": { "name": "trace" },
        "spec": spec,
    })
}

#[test]
fn every_bad_object_is_refused_with_the_words_expected() -> Result<()> {
    let server = Server::with_definitions()?;
    let mut wrong = Vec::new();
    for case in bad() {
        let ask = |unknown| server.make(&place(case.kind, unknown), &[], &object(case.kind, &case.spec));
        // As a server judges by itself, and as kubectl has it judge.
        let (usual, strict) = (ask("Warn")?, ask("Strict")?);
        let as_expected = match (case.by, &case.server) {
            (Judge::Agent, None) => usual.code == 201 && strict.code == 201,
            (Judge::Agent, Some(words)) => usual.code == 201 && refused_as_unknown(&strict, words),
            (_, Some(words)) => refused(&usual, &case, words) && matches!(strict.code, 400 | 422),
            (_, None) => false,
        };
        if !as_expected {
            let Bad { what, by, says, .. } = &case;
            wrong.push(format!(
                "{what}, by {by:?}, where the agent says {says:?}: {usual:?}; strictly {strict:?}"
            ));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Whether one of the causes is this one.
fn refused(answer: &Answer, case: &Bad, words: &str) -> bool {
    let causes = answer.causes();
    let named = causes.iter().any(|(field, message)| leads_to(field, &case.field) && message.contains(words));
    answer.code == 422 && answer.body["reason"] == "Invalid" && named
}

fn refused_as_unknown(answer: &Answer, words: &str) -> bool {
    answer.code == 400 && answer.body["message"].as_str().is_some_and(|message| message.contains(words))
}

#[test]
fn every_good_object_is_taken_and_stored_as_it_was_meant() -> Result<()> {
    let server = Server::with_definitions()?;
    for case in good() {
        let answer = server.make(&place(case.kind, "Strict"), &[], &object(case.kind, &case.spec))?;
        ensure!(answer.code == 201, "{}: {answer:?}", case.what);
        ensure!(holds(&answer.body["spec"], &case.spec), "{}: {}", case.what, answer.body["spec"]);
    }
    Ok(())
}
