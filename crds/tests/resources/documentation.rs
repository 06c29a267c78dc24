//! docs/resources.md: its examples are valid, and it leaves out no field.

use kube_tcpstates_crds::definition::{definitions, schema};
use serde_json::Value;

use crate::judges::{agent, cel_errors, structural_errors};

const DOCUMENT: &str = include_str!("../../../docs/resources.md");

fn examples() -> Vec<Value> {
    let blocks = DOCUMENT.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks
        .map(|block| serde_saphyr::from_str(block).unwrap_or_else(|error| panic!("{block}\n{error}")))
        .collect()
}

#[test]
fn every_example_is_valid() {
    let examples = examples();
    for (_, definition) in definitions() {
        let kind = &definition["spec"]["names"]["kind"];
        assert!(examples.iter().any(|example| example["kind"] == *kind), "no example of {kind}");
    }
    for example in examples {
        let name = &example["metadata"]["name"];
        assert_eq!(structural_errors(&example), [], "{name}");
        assert_eq!(cel_errors(&example), [], "{name}");
        if example["kind"] == "TcpStateNode" {
            let typed: kube_tcpstates_crds::TcpStateNode = serde_json::from_value(example.clone()).unwrap();
            assert_eq!(serde_json::to_value(typed).unwrap()["status"], example["status"], "a field is lost");
        } else if let Err(refusal) = agent(&example) {
            panic!("{name}: {refusal}");
        }
    }
}

#[test]
fn every_field_is_in_the_document() {
    for (plural, _) in definitions() {
        for part in ["spec", "status"] {
            let properties = schema(plural).unwrap().pointer(&format!("/properties/{part}/properties"));
            for field in properties.and_then(Value::as_object).into_iter().flat_map(|fields| fields.keys()) {
                let is_told =
                    DOCUMENT.contains(&format!("`{field}`")) || DOCUMENT.contains(&format!("  {field}:"));
                assert!(is_told, "docs/resources.md does not have {plural} {part}.{field}");
            }
        }
    }
}
