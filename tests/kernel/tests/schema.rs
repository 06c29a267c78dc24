//! Every line of a real run is what the published schema says.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::scene::Scene;
use kube_tcpstates_kernel_tests::tracer::Setup;
use kube_tcpstates_kernel_tests::workload::Ending;
use rustix::process::Signal;

#[test]
fn every_line_is_valid_by_the_published_schema() {
    require(&[]);
    let mut scene = Scene::new(Ending::Reset);
    let mut options = ["--heartbeat", "1s", "--ring-size", "64KiB"].map(str::to_owned).to_vec();
    options.extend(scene.only_this());
    let tracer = Setup::json(options).start_ready();
    let mut client = Puppet::start(&scene.client_place());
    client.connect("refused", ([127, 77, 0, 2], 9).into()).expect_err("nobody listens");
    client.listen("listener", ([127, 77, 0, 3], 0).into());
    client.close("listener");
    // Some loss, for a line that tells it.
    tracer.signal(Signal::STOP);
    let churn = scene.churn(2_000);
    scene.run(&churn);
    tracer.signal(Signal::CONT);
    // Quiet for less than the pause between heartbeats, or it never is.
    tracer.settle(Duration::from_millis(700));
    std::thread::sleep(Duration::from_millis(500));
    let finished = tracer.stop();
    finished.assert_clean();

    let validator = validator();
    let mut kinds = BTreeSet::new();
    for event in finished.events() {
        let faults: Vec<String> = validator.iter_errors(&event.0).map(|fault| fault.to_string()).collect();
        assert_eq!(faults, [""; 0], "{}", event.0);
        kinds.insert(event.kind().to_owned());
    }
    println!("{} lines of the kinds {kinds:?}", finished.lines.len());
    for kind in ["start", "transition", "heartbeat", "lost"] {
        assert!(kinds.contains(kind), "no line of type {kind} was written");
    }
    let longest = finished.lines.iter().map(|line| line.text.len()).max().unwrap_or(0);
    assert!(longest < 4096, "a line of {longest} bytes");
}

/// A field that nobody documented must not pass for valid.
#[test]
fn the_schema_refuses_a_line_without_its_parts() {
    let validator = validator();
    let log = r#"{"time":"","tcpstates":{"type":"log","schema":"tcpstates.dev/events/v1","run":"","level":"info","text":""}}"#;
    assert!(validator.is_valid(&serde_json::from_str(log).expect("JSON")), "{log}");
    let (kind, no_kind) = (log.replace("\"log\"", "\"lost\""), log.replace("\"type\":\"log\",", ""));
    for line in [&kind, &no_kind, r#"{"time":"","tcpstates":{"type":"transition"}}"#, "{}", "[]"] {
        let value = serde_json::from_str(line).expect("JSON");
        assert!(!validator.is_valid(&value), "{line} passes");
    }
}

fn validator() -> jsonschema::Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema/events-v1.json");
    let text =
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    let schema = serde_json::from_str(&text).expect("the schema is JSON");
    jsonschema::validator_for(&schema).expect("the schema is a schema")
}
