//! manifests/examples/: each is a trace that everyone takes, and says how its lines are read.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::judges::{agent, cel_errors, structural_errors};

fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/examples");
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_example_is_one_valid_trace_that_ends_by_itself() {
    for file in files() {
        let object: Value = serde_saphyr::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let name = object["metadata"]["name"].as_str().unwrap();
        assert_eq!(file.file_stem().unwrap(), name);
        assert_eq!(structural_errors(&object), [], "{name}");
        assert_eq!(cel_errors(&object), [], "{name}");
        if let Err(refusal) = agent(&object) {
            panic!("{name}: {refusal}");
        }
        assert!(object["spec"]["ttl"].is_string(), "{name} would go on after the incident");
    }
}

/// The command selects by the name a line has the trace under.
#[test]
fn every_example_says_how_its_lines_are_read() {
    for file in files() {
        let text = fs::read_to_string(&file).unwrap();
        let object: Value = serde_saphyr::from_str(&text).unwrap();
        let metadata = &object["metadata"];
        let name = metadata["name"].as_str().unwrap();
        let selected = match metadata["namespace"].as_str() {
            Some(namespace) => format!("select(.tcpstates.traces | index(\"{namespace}/{name}\"))"),
            None => format!("select(.tcpstates.cluster_traces | index(\"{name}\"))"),
        };
        assert!(text.contains(&selected), "{name} lacks {selected}");
        assert!(text.contains("logs -l app.kubernetes.io/component=agent -c agent --tail=-1"), "{name}");
        assert!(text.starts_with("# ") && text.lines().next().unwrap().ends_with('?'), "{name} asks nothing");
    }
}

#[test]
fn there_is_an_example_for_each_incident_and_one_for_the_cluster() {
    let names: Vec<_> =
        files().iter().map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let expected = [
        "refused-anywhere",
        "refused-connects",
        "slow-handshakes-to-the-database",
        "what-does-this-pod-talk-to",
        "who-leaks-connections",
        "who-resets-our-connections",
    ];
    assert_eq!(names, expected);
}
