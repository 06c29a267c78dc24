//! The loop around [`State`]: takes what the watches tell, hands views to the pipeline, tells the status writer and
//! the metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube_tcpstates_crds::node::TraceState;
use tokio::sync::{mpsc::UnboundedReceiver, watch};

use super::change::{Change, NodeObject};
use super::resource::Resource;
use super::state::{Now, State};
use super::teller::Teller;
use crate::kernel::boot_ns;
use crate::pipeline::{Account, Handle};
use crate::plan::{TraceStanding, View};
use crate::telemetry::Telemetry;

/// Whoever traces by views. A trait, so that the state can be driven without a kernel.
pub trait Sink: Send + Sync + 'static {
    /// Trace by this from now on.
    fn view(&self, view: View);
    /// Asks for the counts.
    fn account(&self) -> tokio::sync::oneshot::Receiver<Account>;
}

impl Sink for Handle {
    fn view(&self, view: View) {
        Self::view(self, view);
    }

    fn account(&self) -> tokio::sync::oneshot::Receiver<Account> {
        Self::account(self)
    }
}

/// What the status writer reports of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The node, while it exists.
    pub node: Option<NodeObject>,
    /// How each trace stands.
    pub standings: Arc<Vec<TraceStanding>>,
    /// The traces that are active.
    pub loaded: usize,
    /// The lists that have not come yet.
    pub missing: Vec<Resource>,
}

/// Ends a task when it is dropped.
pub struct Task(tokio::task::AbortHandle);

impl Task {
    /// Starts it.
    pub fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Drives a state.
pub struct Driver<S, F> {
    /// What is known.
    pub state: State,
    /// What the watches tell.
    pub changes: UnboundedReceiver<Change>,
    /// Who traces; `None` when nothing can be traced here.
    pub sink: Option<Arc<S>>,
    /// Starts to watch namespaces.
    pub watch_namespaces: F,
    /// For the status writer.
    pub snapshots: watch::Sender<Snapshot>,
    /// For metrics and probes.
    pub telemetry: Arc<Telemetry>,
}

impl<S: Sink, F: Fn() -> Task + Send> Driver<S, F> {
    /// Until nobody can tell anything any more.
    pub async fn run(mut self) {
        let mut namespaces = None;
        let mut refused = Refused::default();
        let mut teller = Teller::default();
        loop {
            let now = now();
            let turn = self.state.turn(now);
            if let Some(view) = turn.view {
                self.telemetry.view_changed();
                if let Some(sink) = &self.sink {
                    sink.view(view);
                }
            }
            if turn.planned {
                refused.log(&self.state.planned().standings);
                let needed = self.state.planned().needs_namespaces;
                if needed && namespaces.is_none() {
                    namespaces = Some((self.watch_namespaces)());
                } else if !needed && namespaces.take().is_some() {
                    self.state.forget_namespaces(now);
                }
            }
            self.publish(turn.planned);
            let wake = Duration::from_nanos(self.state.wake_ns(now).saturating_sub(boot_ns()));
            let Ok(told) = tokio::time::timeout(wake, self.changes.recv()).await else { continue };
            let Some(change) = told else { return };
            self.take(change, &mut teller);
        }
    }

    /// What came together is taken together.
    fn take(&mut self, change: Change, teller: &mut Teller) {
        let now = now();
        let mut next = Some(change);
        while let Some(change) = next {
            teller.note(&change, Instant::now());
            self.state.take(change, now);
            next = self.changes.try_recv().ok();
        }
    }

    fn publish(&self, planned: bool) {
        let state = &self.state;
        self.telemetry.cluster_turned(state, planned);
        self.snapshots.send_if_modified(|last| {
            let missing: Vec<Resource> = state.missing().collect();
            if !planned && last.node.as_ref() == state.node() && last.missing == missing {
                return false;
            }
            let standings = Arc::new(state.planned().standings.clone());
            let loaded = state.planned().plan.active().count();
            let next = Snapshot { node: state.node().cloned(), standings, loaded, missing };
            let changed = *last != next;
            *last = next;
            changed
        });
    }
}

/// Both clocks, now.
pub(super) fn now() -> Now {
    Now { boot_ns: boot_ns(), unix_ms: jiff::Timestamp::now().as_millisecond() }
}

/// Says once of each trace that it is refused: its author may have nothing else to read.
#[derive(Default)]
struct Refused {
    told: std::collections::HashSet<(String, i64)>,
}

impl Refused {
    fn log(&mut self, standings: &[TraceStanding]) {
        let refused = standings.iter().filter(|standing| standing.state == TraceState::Refused);
        let mut still = std::collections::HashSet::new();
        for standing in refused {
            let id = (standing.uid.clone(), standing.generation);
            if !self.told.contains(&id) {
                let key = &standing.key;
                tracing::warn!(
                    "trace {}{} is refused: {}: {}",
                    key.namespace.as_deref().map_or_else(String::new, |namespace| format!("{namespace}/")),
                    key.name,
                    standing.reason.unwrap_or("Refused"),
                    standing.message.as_deref().unwrap_or("no more is known"),
                );
            }
            still.insert(id);
        }
        self.told = still;
    }
}
