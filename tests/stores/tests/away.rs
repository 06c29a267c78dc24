//! A store that is away, slow, or refuses, behind `--otlp-endpoint`: what the queue can hold arrives, the rest is counted
//! by name, and stdout takes no notice.

use std::thread::sleep;
use std::time::Duration;

use kube_tcpstates_kernel_tests::line::Line;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::tracer::Finished;
use kube_tcpstates_stores_tests::gate::{Gate, Manner};
use kube_tcpstates_stores_tests::incident::Incident;
use kube_tcpstates_stores_tests::store::{Store, assert_each_once};
use serde_json::Value;

fn parsed(lines: &[Line]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_slice(&line.text).expect("a line is JSON")).collect()
}

fn of_connections(lines: &[Value]) -> usize {
    lines.iter().filter(|line| line["tcpstates"]["type"] == "connection").count()
}

fn run_of(lines: &[Value]) -> &str {
    lines[0]["tcpstates"]["run"].as_str().expect("a run")
}

/// What the last heartbeat says of records that the endpoint did not get.
fn not_sent(finished: &Finished) -> u64 {
    let lines = parsed(&finished.lines);
    let last = lines.iter().rfind(|line| line["tcpstates"]["type"] == "heartbeat").expect("a heartbeat");
    last["tcpstates"]["lost_by_outlet"]["otlp"].as_u64().unwrap_or(0)
}

#[test]
fn what_waits_while_the_store_is_away_or_slow_or_refuses_arrives_once() {
    require(&[]);
    let store = Store::start();
    let gate = Gate::before(store.address());
    let endpoint = format!("http://{}/insert/opentelemetry", gate.address());
    let mut incident = Incident::new();
    let tracer = incident.trace(&["--mode", "connections", "--otlp-endpoint", &endpoint]);
    let mut connections = 0;
    let troubles = [
        Manner::Pass,
        Manner::Away,
        Manner::Refuse(429),
        Manner::Slow(Duration::from_millis(1_500)),
        Manner::Refuse(503),
    ];
    for trouble in troubles {
        gate.be(trouble);
        for _ in 0..20 {
            incident.serve();
        }
        connections += 2 * 20;
        // A record waits a second for others to go with it.
        sleep(Duration::from_millis(2_500));
    }
    // stdout has them while the endpoint has not.
    assert_eq!(of_connections(&parsed(&tracer.lines_so_far())), connections);
    gate.be(Manner::Pass);
    let run = run_of(&parsed(&tracer.lines_so_far())).to_owned();
    store.rows_of(&run, 1 + connections);
    let finished = tracer.stop();
    finished.assert_clean();
    let lines = parsed(&finished.lines);
    assert!(gate.refused() >= 3, "the gate refused {} requests", gate.refused());
    assert_eq!((of_connections(&lines), not_sent(&finished)), (connections, 0));
    assert_each_once(&store.rows_of(&run, lines.len()), 1..=lines.len() as u64);
}

#[test]
fn what_finds_no_room_is_counted_by_name_and_stdout_has_it_all_the_same() {
    require(&[]);
    let store = Store::start();
    let gate = Gate::before(store.address());
    let endpoint = format!("http://{}/insert/opentelemetry", gate.address());
    let mut incident = Incident::new();
    let options =
        ["--mode", "connections", "--heartbeat", "1s", "--otlp-queue", "64KiB", "--otlp-endpoint", &endpoint];
    let tracer = incident.trace(&options);
    gate.be(Manner::Away);
    for _ in 0..150 {
        incident.serve();
    }
    // The loss is told on stdout while it lasts.
    sleep(Duration::from_millis(2_500));
    gate.be(Manner::Pass);
    let run = run_of(&parsed(&tracer.lines_so_far())).to_owned();
    let sent = || store.rows_of(&run, 1).iter().filter(|row| row["tcpstates.type"] == "connection").count();
    let mut before = 0;
    while before == 0 || before < sent() {
        before = sent();
        sleep(Duration::from_secs(2));
    }
    let finished = tracer.stop();
    let lines = parsed(&finished.lines);
    assert_eq!(of_connections(&lines), 300, "stdout has every one");
    let lost = not_sent(&finished);
    assert!(lost > 100, "{lost} records found no room in 64 KiB");
    let told = lines.iter().filter_map(|line| line["tcpstates"]["lost"]["by_outlet"]["otlp"].as_u64());
    assert_eq!(told.max(), Some(lost), "`lost` lines and heartbeats agree");
    assert_eq!(sent() as u64 + lost, 300, "what is in the store and what is counted is all there was");
}
