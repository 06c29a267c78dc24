//! Who reads lines when others do, and from which of the two operators.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kube_tcpstates_e2e_tests::agent_pod::AgentPod;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::front_proxy::{self, Answer};
use kube_tcpstates_e2e_tests::operator::{Operators, PODS};
use kube_tcpstates_e2e_tests::scene::{Scene, arguments};
use kube_tcpstates_e2e_tests::wait;
use rustix::process::Signal;
use serde_json::json;

use crate::lines::{install, path, tenant, trace};

pub(crate) const TESTS: crate::Tests = &[
    ("a_fifth_reader_of_lines_is_told_to_wait_and_another_user_is_not", too_many),
    ("each_of_two_operators_serves_the_same_lines_and_one_is_enough", two_operators),
];

const PATIENCE: Duration = Duration::from_mins(1);
/// Of one user, at one operator.
const READERS: usize = 4;
const TOO_MANY: &str = "4 readers of one user at once are allowed";

/// Names and addresses of the operators' pods.
fn operators(cluster: &Cluster) -> Result<Vec<(String, String)>> {
    Operators::installed(cluster)?;
    let pods = cluster.kubectl().get(PODS)?;
    let pods = pods["items"].as_array().cloned().unwrap_or_default();
    let place = |pod: &serde_json::Value| {
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        Some((text(&pod["metadata"]["name"])?, text(&pod["status"]["podIP"])?))
    };
    pods.iter().map(|pod| place(pod).context("an operator has an address")).collect()
}

fn too_many(cluster: &Cluster) -> Result<()> {
    install(cluster)?;
    let scene = Scene::new(cluster, "lines-readers")?;
    let tenant = tenant(cluster, &scene)?;
    trace(&tenant, "lines-readers", "clients")?;
    let follow = path("lines-readers", "clients", "log?follow=true");
    let mut reading = Vec::new();
    for (name, address) in operators(cluster)? {
        for _ in 0..READERS {
            let (answer, first) = Answer::begin(cluster, &address, &follow)?;
            assert_eq!(first, "HTTP/1.1 200 OK", "{name}");
            reading.push(answer);
        }
        let refused = front_proxy::ask(cluster, &address, &follow, Some(front_proxy::API_SERVER))?;
        assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
        assert!(refused.contains("retry-after: 1\r\n") && refused.contains(TOO_MANY), "{refused}");
    }
    let look = path("lines-readers", "clients", "lines");
    let start = Instant::now();
    // The administrator's kubectl is the same user.
    let error = cluster.kubectl().run(&["get", "--raw", &look]).err().context("the fifth reads")?.to_string();
    eprintln!("after {:.1} s kubectl said: {error}", start.elapsed().as_secs_f64());
    assert!(error.contains(&format!("Error from server (TooManyRequests): {TOO_MANY}")), "{error}");
    tenant.run(&["get", "--raw", &look]).context("another user reads")?;
    reading.clear();
    wait::until("there is room again", PATIENCE, || {
        Ok(cluster.kubectl().run(&["get", "--raw", &look]).map(drop).map_err(|error| format!("{error:#}")))
    })
}

fn two_operators(cluster: &Cluster) -> Result<()> {
    let agents = install(cluster)?;
    let scene = Scene::new(cluster, "lines-two")?;
    let tenant = tenant(cluster, &scene)?;
    trace(&tenant, "lines-two", "clients")?;
    let server = scene.server("server", &json!({"app": "server"}), NODE_A, &[8080])?;
    for (name, node) in [("client-a", NODE_A), ("client-b", NODE_B)] {
        let mut flags = arguments([&server], &["client-close"], 20)?;
        flags.extend(["--sleep-before-ms=3000", "--sleep-after-ms=60000"].map(str::to_owned));
        scene.client(name, &json!({"app": "client"}), node, &flags)?;
    }
    for name in ["client-a", "client-b"] {
        scene.finished(name)?;
    }
    // Five of each connection.
    agents.await_lines("lines-two/clients", 200)?;
    let look = path("lines-two", "clients", "lines");
    let mut answers = Vec::new();
    for (name, address) in operators(cluster)? {
        let answer = front_proxy::ask(cluster, &address, &look, Some(front_proxy::API_SERVER))?;
        let lines = answer.lines().filter(|line| line.contains("\"transition\""));
        let lines: BTreeSet<_> = lines.map(str::to_owned).collect();
        assert_eq!(lines.len(), 200, "{name}: {answer}");
        answers.push((name, lines));
    }
    let [(killed, lines), (_, others)] = &answers[..] else { anyhow::bail!("there are two operators") };
    assert_eq!(lines, others);
    AgentPod::named(cluster, killed)?.signal(Signal::KILL)?;
    let start = Instant::now();
    wait::until("the other one serves", PATIENCE, || {
        let text = tenant.run(&["get", "--raw", &look]);
        Ok(match text {
            Ok(text) if lines.iter().all(|line| text.contains(line.as_str())) => Ok(()),
            Ok(text) => Err(text),
            Err(error) => Err(format!("{error:#}")),
        })
    })?;
    eprintln!("one was killed; the lines were there {:.1} s later", start.elapsed().as_secs_f64());
    Operators::installed(cluster).map(drop)
}
