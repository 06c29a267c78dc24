//! The agent's edge to the Kubernetes API: what is asked for, who runs here, and the report of how tracing does.
//!
//! ```text
//!  API server ─► client, gate ─► watch (objects, patience) ─ Change ─► drive ─► state ─► View ─► pipeline
//!                     ▲                                                  └─ Snapshot ─┐
//!                     └──────────────────────────── report ◄─────────────────────────┘
//! ```
//!
//! `gate`, `patience`, `state` and the report's text are core: no I/O, time is an argument. While the API server is
//! away everything goes on with what is known.
//!
//! How the agent's command uses it:
//!
//! ```text
//! let telemetry = Telemetry::new(facts, trouble);                // trouble: why the preflight failed
//! let cluster = Cluster::connect(config, Arc::clone(&telemetry)).await?;      // wrong kubeconfig: an error at once
//! let (_, server) = telemetry::serve(metrics_addr, Arc::clone(&telemetry), sink.clone()).await?;
//! tokio::select! { () = cluster.run(sink) => {}, () = server => {}, () = signal => {} }
//! ```
//! `sink` is `Some(Arc::new(handle))` of the pipeline, `None` when the preflight failed. Dropping the future of
//! [`Cluster::run`] ends every watch. kube logs of its own accord: keep `kube_client` at `off` and `kube_runtime` at
//! `error`.

mod change;
mod client;
mod drive;
mod gate;
mod layer;
mod objects;
mod patience;
mod report;
mod resource;
mod state;
mod teller;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;
use kube_tcpstates_crds::TraceKind;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

pub use change::{Change, NamespaceObject, NodeObject, Told};
pub use client::ClientError;
pub use drive::{Driver, Sink, Snapshot, Task};
pub use layer::{Answer, Outcome};
pub use patience::Trouble;
pub use report::NodeFacts;
pub use resource::Resource;
pub use state::{Now, State, Sync, Turn};

use crate::telemetry::Telemetry;

/// What the command line says of the cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Name of the node that the agent runs on.
    pub node: String,
    /// Where the API server is; `None` for the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// Traces of one namespace that may be active; 0 is no limit.
    pub max_traces_per_namespace: usize,
    /// For the report.
    pub facts: NodeFacts,
}

/// A connection to the cluster, not used yet.
pub struct Cluster {
    config: ClusterConfig,
    client: Client,
    changes: (UnboundedSender<Change>, tokio::sync::mpsc::UnboundedReceiver<Change>),
    telemetry: Arc<Telemetry>,
}

impl Cluster {
    /// Reads the configuration. The server may be away.
    pub async fn connect(config: ClusterConfig, telemetry: Arc<Telemetry>) -> Result<Self, ClientError> {
        let changes = unbounded_channel();
        let on_answer = on_answer(changes.0.clone(), Arc::clone(&telemetry));
        let client = client::client(config.kubeconfig.as_deref(), on_answer).await?;
        Ok(Self { config, client, changes, telemetry })
    }

    /// Follows the cluster for ever.
    pub async fn run<S: Sink>(self, sink: Option<Arc<S>>) {
        let Self { config, client, changes: (sender, receiver), telemetry } = self;
        let node = config.node.clone();
        let mut tasks = vec![
            Task::spawn(objects::pods(&client, &node).follow(sender.clone())),
            Task::spawn(objects::node(&client, &node).follow(sender.clone())),
        ];
        for kind in [TraceKind::Namespaced, TraceKind::Cluster] {
            tasks.push(Task::spawn(objects::traces(&client, kind).follow(sender.clone())));
        }
        if let Some(sink) = &sink {
            tasks.push(Task::spawn(Arc::clone(&telemetry).look_at(Arc::clone(sink))));
        }
        let (snapshots, reported) = tokio::sync::watch::channel(Snapshot::default());
        tasks.push(Task::spawn(report::write(
            client.clone(),
            config.node,
            config.facts,
            reported,
            Arc::clone(&telemetry),
        )));
        let watch_namespaces = move || Task::spawn(objects::namespaces(&client).follow(sender.clone()));
        let state = State::new(config.max_traces_per_namespace);
        Driver { state, changes: receiver, sink, watch_namespaces, snapshots, telemetry }.run().await;
        drop(tasks);
    }
}

/// A watch that was broken works again as soon as it is started: nothing may happen on it for hours.
fn on_answer(changes: UnboundedSender<Change>, telemetry: Arc<Telemetry>) -> layer::OnAnswer {
    Arc::new(move |answer: Answer| {
        telemetry.answered(answer);
        if let (true, Some(resource), Outcome::Status(status)) =
            (answer.watch, answer.resource, answer.outcome)
            && status.is_success()
        {
            // Nobody listens any more when the agent is about to end.
            let _ = changes.send(Change::Works(resource));
        }
    })
}

/// Wall clock, seconds since the Unix epoch.
pub(crate) fn unix_now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}
