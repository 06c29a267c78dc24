//! Traces of connections instead of transitions: one line for each end of each, with how it ended and what went each way.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use kube_tcpstates_e2e_tests::agent::Agents;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::line::Line;
use kube_tcpstates_e2e_tests::report::Report;
use kube_tcpstates_e2e_tests::scene::{CONTAINER, Scene, Server, arguments};
use kube_tcpstates_e2e_tests::wait;
use serde_json::json;

pub(crate) const TESTS: crate::Tests = &[
    ("each_end_of_a_connection_is_one_line_with_its_outcome_and_its_bytes", each_end_is_one_line),
    ("outcomes_without_their_mode_are_refused_with_their_field", outcomes_need_their_mode),
];

const PATIENCE: Duration = Duration::from_mins(1);
const EVERYTHING: &str = "endings/everything";
const FAILED: &str = "endings/failed";

/// Of one end: the pod that owns it and the pod at the other end, where that is known; then outcome, cause, who closed
/// it, the error; then bytes sent and received.
type Told = ([String; 6], [Option<u64>; 2]);

fn each_end_is_one_line(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "endings")?;
    let connections = json!({"podSelector": {}, "mode": "Connections", "peerNames": true});
    agents.trace("endings", "everything", &connections)?;
    let failed = json!({
        "podSelector": {"matchLabels": {"app": "client"}}, "mode": "Connections", "outcomes": ["failed"],
    });
    agents.trace("endings", "failed", &failed)?;
    let server = scene.server("server", &json!({"app": "server"}), NODE_B, &[8080])?;
    // An agent knows the pods of its own node without a Service.
    for (name, node) in [("far", NODE_A), ("near", NODE_B)] {
        scene.client(name, &json!({"app": "client"}), node, &client(&server)?)?;
    }
    let mut expected = Vec::new();
    for (name, peers) in [("far", ["-", "-"]), ("near", ["server", "near"])] {
        scene.finished(name)?;
        expected.extend(told_of(name, peers));
    }
    expected.sort();

    let lines = wait::until("every end has its line", PATIENCE, || {
        let lines = of(&agents, EVERYTHING)?;
        let count = lines.len();
        Ok(if count >= expected.len() { Ok(lines) } else { Err(format!("{count} are there")) })
    })?;
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(of(&agents, EVERYTHING)?.len(), lines.len(), "one line for each end and no more");
    let mut told: Vec<Told> = lines.iter().map(told).collect();
    told.sort();
    assert_eq!(told, expected);
    both_ends_are_joined(&lines);
    for line in &lines {
        assert_eq!(line.text("k8s.container.name"), Some(CONTAINER), "{line:?}");
        let is_failed =
            line.text("tcpstates.role") == Some("client") && line.text("tcpstates.outcome") != Some("closed");
        assert_eq!(line.is_of(FAILED), is_failed, "{line:?}");
    }
    agents.require_no_loss(EVERYTHING)?;
    agents.untrace("endings", "failed")?;
    agents.untrace("endings", "everything")
}

/// Refused once, reset by the server once, closed in good order once.
fn client(server: &Server) -> Result<Vec<String>> {
    // The programs are attached when the first pod appears that a trace selects.
    let rest = "--sleep-before-ms=2000".to_owned();
    Ok([&[rest], &arguments([server], &["refused", "server-reset", "client-close"], 3)?[..]].concat())
}

/// What must be told of such a client, and of the server about it. `peers` are the names that each knows of the other.
fn told_of(client: &str, [of_client, of_server]: [&str; 2]) -> [Told; 5] {
    let end = |owner: &str, peer: &str, ending: [&str; 4], bytes: [u64; 2]| {
        let [outcome, cause, closed_by, error] = ending;
        ([owner, peer, outcome, cause, closed_by, error].map(str::to_owned), bytes.map(Some))
    };
    // The client's one byte says how to end; the server answers with one, unless it resets.
    [
        end(client, of_client, ["refused", "-", "peer", "ECONNREFUSED"], [0, 0]),
        end(client, of_client, ["reset_by_peer", "-", "peer", "ECONNRESET"], [1, 0]),
        end(client, of_client, ["closed", "-", "local", "-"], [1, 1]),
        end("server", of_server, ["reset_by_us", "linger", "local", "-"], [0, 1]),
        end("server", of_server, ["closed", "-", "peer", "-"], [1, 1]),
    ]
}

fn told(line: &Line) -> Told {
    let texts = [
        "k8s.pod.name",
        "tcpstates.peer.k8s.pod.name",
        "tcpstates.outcome",
        "tcpstates.cause",
        "tcpstates.closed_by",
        "error.type",
    ];
    let bytes = ["tcpstates.sent.bytes", "tcpstates.received.bytes"];
    (texts.map(|path| line.text(path).unwrap_or("-").to_owned()), bytes.map(|path| line.number(path)))
}

/// What was open has two lines, and no NAT is between: the Community ID joins them.
fn both_ends_are_joined(lines: &[Line]) {
    let mut ends: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in lines {
        let id = line.text("tcpstates.connection.community_id").expect("both ends are known");
        ends.entry(id).or_default().push(line.text("tcpstates.role").expect("the beginning was seen"));
    }
    for roles in ends.values_mut() {
        roles.sort_unstable();
        assert!(*roles == ["client"] || *roles == ["client", "server"], "{ends:?}");
    }
    assert_eq!(ends.len(), 6, "two clients with three connections: {ends:?}");
}

fn of(agents: &Agents<'_>, trace: &str) -> Result<Vec<Line>> {
    let mut lines = agents.new_lines(trace)?;
    // Nothing else is told of such a trace but what was lost.
    lines.retain(|line| line.is_of(trace));
    Ok(lines)
}

/// The API server of 1.20 evaluates no rules, so the agent must.
fn outcomes_need_their_mode(cluster: &Cluster) -> Result<()> {
    let agents = Agents::install(cluster)?;
    let _scene = Scene::new(cluster, "modes")?;
    agents.trace("modes", "wrong", &json!({"podSelector": {}, "outcomes": ["refused"]}))?;
    // An operator says so in the trace's status; the agents, one on each node, in their logs.
    let told = wait::until("both agents say that the trace is refused", PATIENCE, || {
        let mut lines = agents.new_lines("modes/wrong")?;
        lines.retain(|line| line.is("log"));
        Ok(if lines.len() == 2 { Ok(lines) } else { Err(format!("{} lines", lines.len())) })
    })?;
    for line in told {
        let text = line.0.to_string();
        assert!(text.contains("InvalidSpec: spec.outcomes") && text.contains("Connections"), "{text}");
    }
    for node in [NODE_A, NODE_B] {
        let report = Report::of(cluster, node)?;
        assert_eq!(report.standing("modes/wrong"), ("", ""), "it is the operator's to say");
    }
    agents.untrace("modes", "wrong")
}
