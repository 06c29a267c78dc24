//! Where the lines of a trace come from: the lines API, or else the agents' logs, where the caller may read those.

use std::time::Duration;

use futures_util::{AsyncBufRead, AsyncBufReadExt as _, TryStreamExt as _};
use jiff::Timestamp;
use kube_tcpstates_client::AbortOnDrop;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::api::Cluster;
use super::logs;
use super::screen::Screen;
use crate::heard::From;
use crate::name::TraceName;
use crate::trouble::{Failure, Trouble};

const API: &str = "/apis/lines.tcpstates.dev/v1alpha1";
/// Lines that wait to be shown; behind that the server waits.
const WAITING: usize = 256;
/// Before a stream that broke is opened again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A trace that the lines API does not know after this is not there.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);
/// The API goes back no further.
const SINCE_AT_MOST_S: u64 = 2_592_000;

/// Which lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) trace: TraceName,
    /// Those to come as well.
    pub(crate) follow: bool,
    /// None older; else all that there are.
    pub(crate) since: Option<Duration>,
    /// Since when there can be any; `None` for a trace that has just been made.
    pub(crate) exists_since: Option<Timestamp>,
}

/// Where they are to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Api,
    Logs,
}

/// What comes.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A line, and whose log it is from; of the API nobody's.
    Line { node: String, text: String },
    /// For people: something could not be read.
    Trouble(String),
}

/// Lines that come, until this is dropped.
pub(crate) struct Stream {
    pub(crate) pieces: mpsc::Receiver<Piece>,
    _reading: AbortOnDrop,
}

impl Stream {
    /// The next line and the node it is of; what troubles the reading is told on the way. `None`: that was all.
    pub(crate) async fn line(&mut self, screen: &Screen) -> Option<(String, String)> {
        loop {
            match self.pieces.recv().await? {
                Piece::Line { node, text } => return Some((node, text)),
                Piece::Trouble(text) => screen.warn(&text),
            }
        }
    }
}

impl Source {
    /// Finds where this user can read. What cannot be read anywhere is told before anything is made.
    pub(crate) async fn find(cluster: &Cluster, trace: &TraceName) -> Result<Self, Trouble> {
        let why = match cluster.get::<Value>(API).await {
            Ok(_) if may(cluster, trace).await? => return Ok(Self::Api),
            Ok(_) => format!("you may not read tcpstatetraces/log of lines.tcpstates.dev {}", place(trace)),
            Err(Failure::NoResource | Failure::NoObject(_)) => "this cluster has no lines API".to_owned(),
            Err(Failure::Unavailable(why)) => format!("the lines API does not answer ({why})"),
            Err(Failure::Forbidden(why)) => format!("the lines API is not for you ({why})"),
            Err(failure) => return Err(failure.trouble("ask the API server", "get --raw /apis")),
        };
        let system = &cluster.agents_namespace;
        match logs::agents(cluster).await {
            Ok(agents) if agents.is_empty() => Err(Trouble::new(format!(
                "no agent runs in the namespace {system}: name theirs with --agents-namespace, install them with kubectl \
                 apply -f tcptrace.yaml, or see kubectl -n {system} get pods"
            ))),
            Ok(_) if logs::may_read(cluster).await? => Ok(Self::Logs),
            Ok(_) | Err(Failure::Forbidden(_)) => Err(Trouble::new(format!(
                "the lines cannot be read: {why}, and you may not read the agents' logs (pods/log in the namespace \
                 {system}); ask an administrator for one of the two"
            ))),
            Err(failure) => Err(failure.trouble("find the agents", &format!("list pods -n {system}"))),
        }
    }

    /// For people.
    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::Api => "lines come from the lines API",
            Self::Logs => "lines come from the agents' logs (no lines API that you may read)",
        }
    }

    /// Whom the lines are heard from.
    pub(crate) const fn from(self) -> From {
        match self {
            Self::Api => From::Api,
            Self::Logs => From::Logs,
        }
    }

    /// Begins to read.
    pub(crate) fn open(self, cluster: &Cluster, wanted: Wanted) -> Stream {
        let (sender, pieces) = mpsc::channel(WAITING);
        let cluster = cluster.clone();
        let reading = AbortOnDrop::spawn(async move {
            match self {
                Self::Api => read_api(&cluster, &wanted, &sender).await,
                Self::Logs => logs::read(&cluster, &wanted, sender).await,
            }
        });
        Stream { pieces, _reading: reading }
    }
}

fn place(trace: &TraceName) -> String {
    trace
        .namespace
        .as_ref()
        .map_or_else(|| "of the cluster".to_owned(), |it| format!("in the namespace {it}"))
}

/// Asks whether this user may read the trace's lines by the API.
async fn may(cluster: &Cluster, trace: &TraceName) -> Result<bool, Trouble> {
    let resource = if trace.namespace.is_some() { "tcpstatetraces" } else { "clustertcpstatetraces" };
    let attributes = json!({
        "group": "lines.tcpstates.dev", "resource": resource, "subresource": "log", "verb": "get",
        "namespace": trace.namespace, "name": trace.name,
    });
    review(cluster, &attributes).await
}

/// Asks what this user may do.
pub(super) async fn review(cluster: &Cluster, attributes: &Value) -> Result<bool, Trouble> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    match cluster.create::<Value>(path, &review).await {
        Ok(answer) => Ok(answer["status"]["allowed"] == true),
        // Nothing is known then: the request itself will tell.
        Err(Failure::Forbidden(_)) => Ok(true),
        Err(failure) => Err(failure.trouble("ask what you may do", "create selfsubjectaccessreviews")),
    }
}

/// Reads `log`: of the two names that the lines have, the one that the API server does not cut off after a minute.
async fn read_api(cluster: &Cluster, wanted: &Wanted, out: &mpsc::Sender<Piece>) {
    let begun = Instant::now();
    let mut told = false;
    while !out.is_closed() {
        let opened = match cluster.stream(&api_path(wanted, begun.elapsed())).await {
            Ok(stream) => {
                pass_on(stream, out).await.map_err(|why| Trouble::new(format!("the lines broke off: {why}")))
            }
            // The operator may not have heard yet of a trace that has just been made.
            Err(Failure::NoObject(_)) if begun.elapsed() < KNOWN_WITHIN => {
                tokio::time::sleep(AGAIN_AFTER).await;
                continue;
            }
            Err(failure) => {
                let is_final =
                    matches!(failure, Failure::NoObject(_) | Failure::Forbidden(_) | Failure::Refused(_));
                let trouble = failure.trouble("read the lines", "get tcpstatetraces/log.lines.tcpstates.dev");
                if is_final {
                    let _ = out.send(Piece::Trouble(trouble.to_string())).await;
                    return;
                }
                Err(trouble)
            }
        };
        if let (Err(trouble), false) = (opened, told) {
            told = true;
            let _ = out.send(Piece::Trouble(trouble.to_string())).await;
        }
        if !wanted.follow {
            return;
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// `running` is how long it has been read already: what came before is told again, and dropped by its number.
fn api_path(wanted: &Wanted, running: Duration) -> String {
    let since = wanted.since.map(|since| (since + running).as_secs().clamp(1, SINCE_AT_MOST_S));
    let since = since.map(|since| format!("&sinceSeconds={since}")).unwrap_or_default();
    format!("{}?follow={}{since}", wanted.trace.lines_path("log"), wanted.follow)
}

async fn pass_on(stream: impl AsyncBufRead, out: &mpsc::Sender<Piece>) -> std::io::Result<()> {
    let stream = std::pin::pin!(stream);
    let mut lines = stream.lines();
    while let Some(text) = lines.try_next().await? {
        if out.send(Piece::Line { node: String::new(), text }).await.is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
