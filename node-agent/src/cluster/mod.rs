//! What the agent asks of the Kubernetes API, who runs here, and the report of how tracing does.
//!
//! ```text
//!  API server ─► objects, watched ─ Change ─► drive ◄─► knowledge
//!      ▲                                       │ └─ View ──► pipeline
//!      │                              Snapshot │               │ Account, every two seconds
//!      └──── TcpStateNode ──── report ◄────────┴───────────────┘
//! ```
//!
//! `knowledge` and the report's text and schedule are core: no I/O, time is an argument. While the API server is away
//! everything goes on with what is known. What speaks with the server is `kube_tcpstates_client`; metrics and probes see
//! all this as an [`Observer`].
//!
//! How the agent's command uses it:
//!
//! ```text
//! let telemetry = Telemetry::new(facts, trouble);                // trouble: why the preflight failed
//! let cluster = Cluster::connect(config, Arc::clone(&telemetry)).await?;      // wrong kubeconfig: an error at once
//! let (_, server) = kube_tcpstates_probes::serve(metrics_addr, Arc::clone(&telemetry)).await?;
//! tokio::select! { () = cluster.run(sink) => {}, () = server => {}, () = signal => {} }
//! ```
//! `sink` is `Some(Arc::new(handle))` of the pipeline, `None` when the preflight failed. Dropping the future of
//! [`Cluster::run`] ends every watch.

mod change;
mod drive;
mod installed;
mod knowledge;
mod objects;
mod observer;
mod report;
pub mod resources;
mod slices;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube_tcpstates_client::{AbortOnDrop, ClientConfig, ClientError, OnAnswer, jitter};
use kube_tcpstates_crds::TraceKind;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

pub use change::{Change, NamespaceObject, NodeObject};
pub use drive::{Driver, Sink, Snapshot};
pub use knowledge::{Due, Knowledge, Now, SyncStatus};
pub use observer::Observer;
pub use report::NodeFacts;
pub use slices::EndpointSlice;

use self::report::Report;
use crate::pipeline::Account;
use crate::plan::Remembered;

/// An agent begins to ask the API server within this.
const START_WITHIN: Duration = Duration::from_secs(3);
/// The pipeline is asked for its counts so often.
const COUNT_EVERY: Duration = Duration::from_secs(2);

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
    changes: (UnboundedSender<Change>, UnboundedReceiver<Change>),
    observer: Arc<dyn Observer>,
}

impl Cluster {
    /// Reads the configuration. The server may be away.
    pub async fn connect(config: ClusterConfig, observer: Arc<impl Observer>) -> Result<Self, ClientError> {
        let observer: Arc<dyn Observer> = observer;
        let changes = unbounded_channel();
        let client = ClientConfig {
            user_agent: concat!("kube-tcpstates/", crate::version!()),
            kubeconfig: config.kubeconfig.as_deref(),
            resources: &resources::ALL,
            on_answer: on_answer(changes.0.clone(), Arc::clone(&observer)),
        };
        let client = client.client().await?;
        Ok(Self { config, client, changes, observer })
    }

    /// What asks whether the `DaemonSet` of that name is gone, or about to go.
    pub fn is_removed(&self, (namespace, name): (String, String)) -> impl Future<Output = bool> + use<> {
        let client = self.client.clone();
        async move { installed::is_removed(client, &namespace, &name).await }
    }

    /// Follows the cluster for ever.
    pub async fn run<S: Sink>(self, sink: Option<Arc<S>>, before: Remembered) {
        let Self { config, client, changes: (sender, receiver), observer } = self;
        let mut tasks = vec![AbortOnDrop::spawn(watch_all(
            client.clone(),
            config.node.clone(),
            sender.clone(),
            // The ring fills until there is a plan.
            if before.plan.is_some() { Duration::ZERO } else { START_WITHIN },
        ))];
        let (accounts, counted) = watch::channel(None);
        if let Some(sink) = &sink {
            tasks.push(AbortOnDrop::spawn(count(Arc::clone(sink), accounts, Arc::clone(&observer))));
        }
        let (snapshots, reported) = watch::channel(Snapshot::default());
        let report =
            Report { node: config.node, facts: config.facts, snapshots: reported, accounts: counted };
        tasks.push(AbortOnDrop::spawn(report.write(client.clone(), Arc::clone(&observer))));
        let (peers_client, peers_sender) = (client.clone(), sender.clone());
        let watch_peers = move || {
            [
                AbortOnDrop::spawn(objects::services(&peers_client).follow(peers_sender.clone())),
                AbortOnDrop::spawn(objects::slices(&peers_client).follow(peers_sender.clone())),
            ]
        };
        let watch_namespaces =
            move || AbortOnDrop::spawn(objects::namespaces(&client).follow(sender.clone()));
        let knowledge = Knowledge::new(config.max_traces_per_namespace)
            .after(before.plan.unwrap_or_default())
            .remembering(before.pods);
        Driver { knowledge, changes: receiver, sink, watch_namespaces, watch_peers, snapshots, observer }
            .run()
            .await;
        drop(tasks);
    }
}

/// Follows what every agent does. Not at once: after an outage of power thousands start together.
async fn watch_all(client: Client, node: String, sender: UnboundedSender<Change>, start_within: Duration) {
    tokio::time::sleep(start_within.mul_f64(jitter())).await;
    let pods = objects::pods(&client, &node).follow(sender.clone());
    let node = objects::node(&client, &node).follow(sender.clone());
    let traces = objects::traces(&client, TraceKind::Namespaced).follow(sender.clone());
    let of_cluster = objects::traces(&client, TraceKind::Cluster).follow(sender);
    tokio::join!(pods, node, traces, of_cluster);
}

fn on_answer(changes: UnboundedSender<Change>, observer: Arc<dyn Observer>) -> OnAnswer {
    Arc::new(move |answer| {
        observer.answered(answer);
        if let Some(resource) = answer.started_watch() {
            // Nobody listens any more when the agent is about to end.
            let _ = changes.send(Change::Works(resource));
        }
    })
}

/// Asks the pipeline for its counts every now and then, for ever. One that hangs leaves this waiting, and the time of
/// its last answer grows old.
async fn count(sink: Arc<impl Sink>, accounts: watch::Sender<Option<Account>>, observer: Arc<dyn Observer>) {
    loop {
        if let Ok(account) = sink.account().await {
            observer.counted(&account);
            accounts.send_replace(Some(account));
        }
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use kube_tcpstates_client::Answer;
    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::*;
    use crate::peers::News;
    use crate::plan::View;

    /// A pipeline that answers twice and then never again.
    #[derive(Default)]
    struct Twice {
        asked: AtomicU64,
        hangs: Mutex<Vec<oneshot::Sender<Account>>>,
    }

    impl Sink for Twice {
        fn view(&self, _: View) {}
        fn news(&self, _: News) {}

        fn account(&self) -> oneshot::Receiver<Account> {
            let (sender, receiver) = oneshot::channel();
            match self.asked.fetch_add(1, Ordering::Relaxed) + 1 {
                held @ 1..=2 => sender.send(Account { held, ..Account::default() }).unwrap(),
                _ => self.hangs.lock().unwrap().push(sender),
            }
            receiver
        }
    }

    /// When counts came, and which.
    #[derive(Default)]
    struct Seen(Mutex<Vec<(Instant, u64)>>);

    impl Observer for Seen {
        fn answered(&self, _: Answer) {}
        fn view_changed(&self) {}
        fn turned(&self, _: &Knowledge, _: bool) {}
        fn counted(&self, account: &Account) {
            self.0.lock().unwrap().push((Instant::now(), account.held));
        }
        fn reported(&self, _: bool) {}
    }

    #[tokio::test(start_paused = true)]
    async fn counts_reach_report_and_observer_every_two_seconds_until_the_pipeline_hangs() {
        let (pipeline, seen, start) = (Arc::new(Twice::default()), Arc::new(Seen::default()), Instant::now());
        let (accounts, counted) = watch::channel(None);
        let observer: Arc<dyn Observer> = Arc::clone(&seen) as _;
        let _task = AbortOnDrop::spawn(count(Arc::clone(&pipeline), accounts, observer));
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(*seen.0.lock().unwrap(), [(start, 1), (start + COUNT_EVERY, 2)]);
        assert_eq!(counted.borrow().as_ref().map(|account| account.held), Some(2), "the last stands");
        assert_eq!(pipeline.asked.load(Ordering::Relaxed), 3, "nobody asks again before there is an answer");
    }
}
