//! `--otlp-endpoint` into a real store, and the documents' questions about an incident.

use std::collections::BTreeMap;
use std::time::Duration;

use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::tracer::Finished;
use kube_tcpstates_stores_tests::incident::{CLOSED_PORT, IDLE, Incident, PORT, REFUSED, SERVED, SILENT};
use kube_tcpstates_stores_tests::questions::query;
use kube_tcpstates_stores_tests::store::{Row, Store, assert_each_once, flattened, time};
use serde_json::Value;

fn lines(finished: &Finished) -> Vec<Value> {
    finished.lines.iter().map(|line| serde_json::from_slice(&line.text).expect("a line is JSON")).collect()
}

fn pick<'a>(row: &'a Row, names: &[&str]) -> Vec<&'a str> {
    names.iter().map(|name| row.get(*name).map_or("", String::as_str)).collect()
}

#[test]
fn every_line_arrives_once_as_it_is_and_the_questions_are_answered() {
    require(&[]);
    let store = Store::start();
    let endpoint = format!("http://{}/insert/opentelemetry", store.address());
    let mut incident = Incident::new();
    let tracer =
        incident.trace(&["--mode", "connections", "--heartbeat", "1s", "--otlp-endpoint", &endpoint]);
    incident.happen();
    tracer.settle(Duration::from_millis(500));
    let finished = tracer.stop();
    finished.assert_clean();
    let lines = lines(&finished);
    let run = lines[0]["tcpstates"]["run"].as_str().expect("a run").to_owned();
    let rows = store.rows_of(&run, lines.len());
    assert_each_once(&rows, 1..=lines.len() as u64);
    arrive_as_they_are(&lines, &rows);
    answers(&store, &incident);
}

/// Each connection's line of stdout is a row with the same members, and the row has besides what OTLP adds.
fn arrive_as_they_are(lines: &[Value], rows: &[Row]) {
    let key = |row: &Row| (row["tcpstates.connection.id"].clone(), row["tcpstates.role"].clone());
    let of_connections = rows.iter().filter(|row| row["tcpstates.type"] == "connection");
    let by_key: BTreeMap<_, _> = of_connections.map(|row| (key(row), row)).collect();
    let mut compared = 0;
    for line in lines.iter().filter(|line| line["tcpstates"]["type"] == "connection") {
        let mut wanted = flattened(line);
        let row = by_key[&key(&wanted)];
        assert_eq!(time(wanted.remove("time").as_ref()), time(row.get("_time")), "of {line}");
        // stdout and the endpoint number their lines apart.
        wanted.remove("tcpstates.seq");
        for (name, value) in wanted {
            assert_eq!(row.get(&name), Some(&value), "{name} of {line}");
        }
        let severity = if row["tcpstates.outcome"] == "closed" { "INFO" } else { "WARN" };
        assert_eq!(row["severity"], severity, "{row:#?}");
        compared += 1;
    }
    assert_eq!(compared, 2 * SERVED + REFUSED + 1 + 2);
}

fn answers(store: &Store, incident: &Incident) {
    let peer = incident.at.v4.to_string();
    let (port, closed_port) = (PORT.to_string(), CLOSED_PORT.to_string());
    let refused = store.ask(&query("Who is refused, by whom?"));
    let refused: Vec<_> = refused
        .iter()
        .map(|row| pick(row, &["network.peer.address", "network.peer.port", "refused"]))
        .collect();
    assert_eq!(refused, [vec![&*peer, &*closed_port, &*REFUSED.to_string()]]);

    let failed = store.ask(&query("Which connects fail, and how?"));
    let mut failed: Vec<_> = failed.iter().map(|row| pick(row, &["tcpstates.outcome", "failed"])).collect();
    failed.sort_unstable();
    assert_eq!(failed, [["refused", &*REFUSED.to_string()], ["unanswered", "1"]]);

    let pairs = store.ask(&query("Who talks to whom, and how much?"));
    let mut pairs: Vec<_> = pairs
        .iter()
        .map(|row| {
            pick(row, &["network.peer.address", "network.peer.port", "connections", "sent", "received"])
        })
        .collect();
    pairs.sort_unstable();
    let (served, sent, received) =
        ((SERVED + 1).to_string(), ((SERVED + 1) * 100).to_string(), (SERVED * 400).to_string());
    assert_eq!(
        pairs,
        [
            [&*peer, &closed_port, &REFUSED.to_string(), "0", "0"],
            [&peer, &port, &served, &sent, &received],
            [SILENT, "443", "1", "0", "0"],
        ]
    );

    let resets = store.ask(&query("What was reset after it had been idle?"));
    let [reset] = &resets[..] else { panic!("one reset: {resets:#?}") };
    assert_eq!(pick(reset, &["tcpstates.outcome", "network.peer.port"]), ["reset_by_peer", &*port]);
    let idle: u128 = reset["tcpstates.idle_us"].parse().expect("a number");
    assert!((IDLE.as_micros() - 20_000..IDLE.as_micros() + 1_000_000).contains(&idle), "{idle} µs");

    let slow = store.ask(&query("How long do handshakes take?"));
    let [slow] = &slow[..] else { panic!("one server: {slow:#?}") };
    assert_eq!(pick(slow, &["network.peer.port", "handshakes"]), [&port, &served]);
    assert!(slow["p99"].parse::<u64>().is_ok_and(|p99| p99 > 0 && p99 < 1_000_000), "{slow:#?}");

    // Every run says so, also where nothing was lost.
    let lost = store.ask(&query("Was anything lost?"));
    let lost: Vec<_> = lost.iter().map(|row| pick(row, &["lost", "not_sent"])).collect();
    assert_eq!(lost, [["0", "0"]]);
}
