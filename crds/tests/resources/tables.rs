//! Two tables of objects, and three judges: structural schema, CEL rules, agent.

use kube_tcpstates_crds::validate::{Problem, check_object, check_typed};
use kube_tcpstates_crds::{ClusterTcpStateTrace, TcpStateTrace};
use serde_json::{Value, json};

use crate::judges::{agent, cel_errors, object, structural_errors};
use crate::table::{Judge, Kind, bad, good, leads_to};

#[test]
fn every_bad_object_is_refused_by_those_who_can_and_the_field_is_named() {
    let mut wrong = Vec::new();
    for case in bad() {
        let object = object(&format!("{:?}", case.kind), &case.spec);
        let named = |errors: &[(String, String)]| errors.iter().any(|(path, _)| leads_to(path, &case.field));
        let (structural, cel) = (structural_errors(&object), cel_errors_of_well_formed(&object));
        let said = |errors: &[(String, String)]| {
            errors
                .iter()
                .any(|(_, message)| case.server.as_ref().is_some_and(|words| message.contains(words)))
        };
        let as_expected = match case.by {
            // The words are those of Kubernetes, and another judge of schemas has others.
            Judge::Schema => named(&structural) && case.server.is_some(),
            Judge::Cel => structural.is_empty() && named(&cel) && said(&cel),
            Judge::Agent => structural.is_empty() && cel.is_empty(),
        };
        if !as_expected {
            wrong.push(format!("{}: expected {:?}; schema {structural:?}; CEL {cel:?}", case.what, case.by));
        }
        match agent(&object) {
            Err(refusal)
                if refusal.errors().iter().any(|error| {
                    error.field == case.field && error.problem.to_string().contains(&case.says)
                }) => {}
            other => wrong.push(format!("{}: the agent says {other:?}", case.what)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A server evaluates the rules of what has the right shape only.
fn cel_errors_of_well_formed(object: &Value) -> Vec<(String, String)> {
    if structural_errors(object).is_empty() { cel_errors(object) } else { Vec::new() }
}

#[test]
fn the_table_of_bad_objects_is_as_big_as_was_promised() {
    let cases = bad();
    let by = |judge| cases.iter().filter(|case| case.by == judge).count();
    assert!(by(Judge::Schema) + by(Judge::Cel) >= 40, "{} and {}", by(Judge::Schema), by(Judge::Cel));
    assert!(by(Judge::Cel) >= 10);
}

#[test]
fn every_good_object_is_taken_by_all() {
    for case in good() {
        let object = object(&format!("{:?}", case.kind), &case.spec);
        assert_eq!(structural_errors(&object), [], "{}", case.what);
        assert_eq!(cel_errors(&object), [], "{}", case.what);
        let checked = agent(&object).unwrap_or_else(|refusal| panic!("{}: {refusal}", case.what));
        // The types say the same as the JSON they were read from.
        let typed = match case.kind {
            Kind::TcpStateTrace => check_typed(&serde_json::from_value::<TcpStateTrace>(object).unwrap()),
            Kind::ClusterTcpStateTrace => {
                check_typed(&serde_json::from_value::<ClusterTcpStateTrace>(object).unwrap())
            }
        };
        assert_eq!(typed.unwrap(), checked, "{}", case.what);
    }
}

#[test]
fn a_later_version_and_another_kind_are_unsupported_and_a_missing_spec_is_named() {
    let spec = json!({ "podSelector": {} });
    for (version, kind, field) in [
        ("tcpstates.dev/v1beta1", "TcpStateTrace", "apiVersion"),
        ("example.com/v1alpha1", "TcpStateTrace", "apiVersion"),
        ("v1alpha1", "TcpStateTrace", "apiVersion"),
        ("tcpstates.dev/v1alpha1", "TcpStateNode", "kind"),
    ] {
        let refusal =
            check_object(&json!({ "apiVersion": version, "kind": kind, "spec": spec })).unwrap_err();
        assert_eq!((refusal.errors()[0].field.as_str(), refusal.reason()), (field, "UnsupportedByAgent"));
    }
    let refusal = check_object(&json!({ "apiVersion": "tcpstates.dev/v1alpha1", "kind": "TcpStateTrace" }))
        .unwrap_err();
    assert_eq!((refusal.to_string().as_str(), refusal.reason()), ("spec: is required", "InvalidSpec"));
}

/// What an author cannot have meant is told apart from what a later release may mean, and the latter comes first.
#[test]
fn what_this_agent_is_too_old_for_is_told_first() {
    let spec = json!({
        "podSelector": {},
        "localPorts": [{ "port": 0 }],
        "transitions": [{ "to": ["BOUND"] }],
        "sampling": { "oneIn": 10 },
    });
    let refusal = agent(&object("TcpStateTrace", &spec)).unwrap_err();
    assert_eq!(refusal.reason(), "UnsupportedByAgent");
    let fields: Vec<&str> = refusal.errors().iter().map(|error| error.field.as_str()).collect();
    assert_eq!(fields, ["spec.sampling", "spec.transitions[0].to[0]", "spec.localPorts[0].port"]);
    assert_eq!(refusal.errors()[0].problem, Problem::UnknownField);
}
