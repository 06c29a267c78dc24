//! The agents' logs, all at once: with `follow` each as it comes, over restarts and rotations; for a look merged by time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{AsyncBufReadExt as _, TryStreamExt as _};
use jiff::Timestamp;
use kube_tcpstates_crds::LabelSelector;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::api::{Cluster, encoded};
use super::source::{Piece, Wanted, review};
use crate::target::Pod;
use crate::trouble::{Failure, Trouble};

const CONTAINER: &str = "agent";
/// Lines of one agent that wait for older ones of others.
const WAITING: usize = 64;
/// Before a log is opened again, and before it is seen whether there are new agents.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
const AGENTS_EVERY: Duration = Duration::from_secs(10);
/// More than a line has.
const FIRST_LINE_BYTES: u32 = 8192;
/// Parameters of a log: of the container's start before this one, and of this one.
const BEFORE: &str = "&follow=false&previous=true";
const NOW: &str = "&follow=false";
const FOLLOWED: &str = "&follow=true";

/// The pods of the agents.
pub(super) async fn agents(cluster: &Cluster) -> Result<Vec<Pod>, Failure> {
    let labels = [("app.kubernetes.io/name", "kube-tcpstates"), ("app.kubernetes.io/component", "agent")];
    let selector = LabelSelector {
        match_labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..LabelSelector::default()
    };
    cluster.pods(&cluster.agents_namespace, &selector).await
}

/// Whether this user may read their logs.
pub(super) async fn may_read(cluster: &Cluster) -> Result<bool, Trouble> {
    let namespace = &cluster.agents_namespace;
    let attributes = json!({"resource": "pods", "subresource": "log", "verb": "get", "namespace": namespace});
    review(cluster, &attributes).await
}

/// Reads until there is no more, or nobody listens.
pub(super) async fn read(cluster: &Cluster, wanted: &Wanted, out: mpsc::Sender<Piece>) {
    if wanted.follow {
        follow(cluster, wanted, out).await;
    } else {
        look(cluster, wanted, out).await;
    }
}

async fn follow(cluster: &Cluster, wanted: &Wanted, out: mpsc::Sender<Piece>) {
    let (since, past) = (since(wanted), past(wanted));
    let (mut known, mut readings, mut told) = (BTreeSet::new(), JoinSet::new(), false);
    loop {
        match agents(cluster).await {
            Ok(agents) => {
                for agent in agents {
                    if known.insert(agent.name.clone()) {
                        readings.spawn(follow_one(cluster.clone(), agent, since, past, out.clone()));
                    }
                }
            }
            Err(failure) if !told => {
                told = true;
                let _ = out.send(no_agents(cluster, failure)).await;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(AGENTS_EVERY) => {}
            () = out.closed() => return,
        }
    }
}

async fn follow_one(
    cluster: Cluster,
    agent: Pod,
    since: Option<Timestamp>,
    past: Option<Timestamp>,
    out: mpsc::Sender<Piece>,
) {
    let mut since = since;
    let mut told = false;
    if let Some(past) = past {
        copy_past(&cluster, &agent, past, since, &out).await;
    }
    while !out.is_closed() {
        let opened = Timestamp::now();
        match copy(&cluster, &agent, FOLLOWED, since, &out).await {
            // The pod is gone; another has taken its place, which the list of agents will show.
            Err(Failure::NoObject(_)) => return,
            Err(failure) if !told => {
                told = true;
                let _ = out.send(unreadable(&cluster, &agent, failure)).await;
            }
            Ok(()) | Err(_) => {}
        }
        // Read again from where it was opened last: what came before is dropped by its number.
        since = Some(since.map_or(opened, |since| since.max(opened - AGAIN_AFTER)));
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

async fn look(cluster: &Cluster, wanted: &Wanted, out: mpsc::Sender<Piece>) {
    let agents = match agents(cluster).await {
        Ok(agents) => agents,
        Err(failure) => {
            let _ = out.send(no_agents(cluster, failure)).await;
            return;
        }
    };
    let (since, past) = (since(wanted), past(wanted));
    let mut readings = JoinSet::new();
    let mut inlets = Vec::new();
    for agent in agents {
        let (inlet, pieces) = mpsc::channel(WAITING);
        inlets.push(pieces);
        let cluster = cluster.clone();
        readings.spawn(async move {
            if let Some(past) = past {
                copy_past(&cluster, &agent, past, since, &inlet).await;
            }
            if let Err(failure) = copy(&cluster, &agent, NOW, since, &inlet).await {
                let _ = inlet.send(unreadable(&cluster, &agent, failure)).await;
            }
        });
    }
    merge(inlets, &out).await;
}

/// The oldest first. Of each agent the lines stay in their order.
async fn merge(mut inlets: Vec<mpsc::Receiver<Piece>>, out: &mpsc::Sender<Piece>) {
    let mut heads = BTreeMap::new();
    for (place, inlet) in inlets.iter_mut().enumerate() {
        if let Some(piece) = inlet.recv().await {
            heads.insert((time_of(&piece), place), piece);
        }
    }
    while let Some(((_, place), piece)) = heads.pop_first() {
        if out.send(piece).await.is_err() {
            return;
        }
        if let Some(next) = inlets[place].recv().await {
            heads.insert((time_of(&next), place), next);
        }
    }
}

/// As text: RFC 3339 in UTC with nine decimals sorts by time.
fn time_of(piece: &Piece) -> String {
    let Piece::Line { text, .. } = piece else { return String::new() };
    let time = text.strip_prefix(r#"{"time":""#).and_then(|rest| rest.split_once('"'));
    time.map_or_else(String::new, |(time, _)| time.to_owned())
}

fn since(wanted: &Wanted) -> Option<Timestamp> {
    let since = jiff::SignedDuration::try_from(wanted.since?).ok()?;
    Timestamp::now().checked_sub(since).ok()
}

/// From when on lines are wanted that were written before this looks.
fn past(wanted: &Wanted) -> Option<Timestamp> {
    wanted.exists_since.map(|made| since(wanted).map_or(made, |since| since.max(made)))
}

fn no_agents(cluster: &Cluster, failure: Failure) -> Piece {
    let right = format!("list pods -n {}", cluster.agents_namespace);
    Piece::Trouble(failure.trouble("find the agents", &right).to_string())
}

fn unreadable(cluster: &Cluster, agent: &Pod, failure: Failure) -> Piece {
    let node = agent.node.as_deref().unwrap_or("a node");
    let right = format!("get pods/log -n {}", cluster.agents_namespace);
    let trouble = failure.trouble(&format!("read the log of {node}'s agent"), &right);
    Piece::Trouble(trouble.to_string())
}

/// What the container's start before this one wrote, if there was one; and whether its log begins too late.
async fn copy_past(
    cluster: &Cluster,
    agent: &Pod,
    past: Timestamp,
    since: Option<Timestamp>,
    out: &mpsc::Sender<Piece>,
) {
    for log in [BEFORE, NOW] {
        let Ok(first) = first_line(cluster, agent, log).await else { continue };
        // Of a log without a line nothing is known.
        let Some((time, seq)) = first else { continue };
        if seq > 1 && time > past {
            let node = agent.node.as_deref().unwrap_or("a node");
            let told = format!("{node}: its log begins at {time}; what came before is gone");
            let _ = out.send(Piece::Trouble(told)).await;
        }
        break;
    }
    // That there was none is no trouble.
    let _ = copy(cluster, agent, BEFORE, since, out).await;
}

/// Time and number of the first line of a log that has a number: diagnostics have none.
async fn first_line(cluster: &Cluster, agent: &Pod, log: &str) -> Result<Option<(Timestamp, u64)>, Failure> {
    let limit = format!("{log}&limitBytes={FIRST_LINE_BYTES}");
    let mut lines = cluster.stream(&path(cluster, agent, &limit, None)).await?.lines();
    while let Ok(Some(text)) = lines.try_next().await {
        let line = serde_json::from_str::<Value>(&text).unwrap_or_default();
        let time = line["time"].as_str().and_then(|time| time.parse().ok());
        if let Some(first) = time.zip(line["tcpstates"]["seq"].as_u64()) {
            return Ok(Some(first));
        }
    }
    Ok(None)
}

async fn copy(
    cluster: &Cluster,
    agent: &Pod,
    log: &str,
    since: Option<Timestamp>,
    out: &mpsc::Sender<Piece>,
) -> Result<(), Failure> {
    let mut lines = cluster.stream(&path(cluster, agent, log, since)).await?.lines();
    let node = agent.node.clone().unwrap_or_default();
    // A log that breaks is opened again, or told by what is missing then.
    while let Ok(Some(text)) = lines.try_next().await {
        if out.send(Piece::Line { node: node.clone(), text }).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn path(cluster: &Cluster, agent: &Pod, log: &str, since: Option<Timestamp>) -> String {
    let since = since
        .map(|since| format!("&sinceTime={}", encoded(&since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())));
    format!(
        "/api/v1/namespaces/{}/pods/{}/log?container={CONTAINER}{log}{}",
        cluster.agents_namespace,
        agent.name,
        since.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(time: &str) -> Piece {
        Piece::Line { node: String::new(), text: format!(r#"{{"time":"{time}","tcpstates":{{}}}}"#) }
    }

    #[tokio::test]
    async fn lines_of_several_agents_come_by_time() {
        let mut inlets = Vec::new();
        for times in [["1", "4", "2"], ["3", "5", "6"]] {
            let (inlet, pieces) = mpsc::channel(WAITING);
            for time in times {
                inlet.send(line(time)).await.unwrap();
            }
            inlets.push(pieces);
        }
        let (out, mut merged) = mpsc::channel(WAITING);
        merge(inlets, &out).await;
        drop(out);
        let mut times = Vec::new();
        while let Some(piece) = merged.recv().await {
            times.push(time_of(&piece));
        }
        // An agent's own order counts before time.
        assert_eq!(times.concat(), "134256");
    }
}
