//! What there is to tell, gathered in one place: whoever knows something writes it here, a scrape reads it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube_tcpstates_crds::node::TraceState;

use super::health::Health;
use crate::cluster::{Answer, Resource, Sink, State, Sync, unix_now_s};
use crate::kernel::boot_ns;
use crate::pipeline::Account;

/// Between two looks at the pipeline.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A scrape waits no longer for the pipeline's counts; then it tells the last ones.
const COUNTS_WITHIN: Duration = Duration::from_millis(500);

/// What does not change while the agent runs.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Version of the agent.
    pub version: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Where transitions are taken from; `None` when nothing can be traced.
    pub hook: Option<String>,
    /// How cgroups are mounted.
    pub cgroup_mode: String,
}

/// Everything that metrics tell.
#[derive(Debug, Default)]
pub struct Board {
    /// What does not change.
    pub facts: Facts,
    /// The pipeline's last account.
    pub account: Option<Account>,
    /// Requests to the API server by resource and how they ended.
    pub requests: BTreeMap<(&'static str, &'static str), u64>,
    /// How each watch does, and the wall clock of when it last brought something.
    pub syncs: BTreeMap<Resource, (Sync, Option<i64>)>,
    /// Pods that exist on the node.
    pub pods: usize,
    /// Traces by what became of them.
    pub traces: BTreeMap<&'static str, usize>,
    /// Views handed to the pipeline.
    pub view_changes: u64,
    /// Plans made.
    pub plans: u64,
    /// Writes of the node's report, by whether they succeeded.
    pub reports: BTreeMap<&'static str, u64>,
}

/// The board, shared, and what the probes look at.
#[derive(Debug)]
pub struct Telemetry {
    board: Mutex<Board>,
    /// For the probes.
    pub health: Health,
}

impl Telemetry {
    /// With nothing known but the facts. `trouble`: why nothing can be traced here.
    pub fn new(facts: Facts, trouble: Option<String>) -> Arc<Self> {
        let board = Board { facts, ..Board::default() };
        Arc::new(Self { board: Mutex::new(board), health: Health::new(trouble, boot_ns()) })
    }

    /// The board.
    pub fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The API server answered, or did not.
    pub fn answered(&self, answer: Answer) {
        let resource = answer.resource.map_or("other", Resource::plural);
        *self.board().requests.entry((resource, answer.outcome.code())).or_default() += 1;
    }

    /// A view went to the pipeline.
    pub fn view_changed(&self) {
        self.board().view_changes += 1;
    }

    /// The report was written, or not.
    pub fn reported(&self, written: bool) {
        *self.board().reports.entry(if written { "ok" } else { "failed" }).or_default() += 1;
    }

    /// The loop around the cluster's state has turned.
    pub fn cluster_turned(&self, state: &State, planned: bool) {
        self.health.loop_turned(boot_ns());
        self.health.synced(state.missing().map(Resource::plural));
        let mut board = self.board();
        for resource in Resource::WATCHED {
            let sync = state.sync(resource);
            if sync == Sync::default() && !Resource::REQUIRED.contains(&resource) {
                // Not watched now: nobody should be alarmed that it is not in sync.
                board.syncs.remove(&resource);
                continue;
            }
            let (known, at) = board.syncs.entry(resource).or_default();
            if known.last_ns != sync.last_ns {
                *at = Some(unix_now_s());
            }
            *known = sync;
        }
        board.pods = state.roster().live().count();
        if planned {
            board.plans += 1;
            board.traces = STATES.into_iter().map(|state| (name_of(state), 0)).collect();
            for standing in &state.planned().standings {
                *board.traces.entry(name_of(standing.state)).or_default() += 1;
            }
        }
    }

    /// Looks at the pipeline every now and then, for ever.
    pub async fn look_at(self: Arc<Self>, sink: Arc<impl Sink>) {
        loop {
            // A pipeline that hangs leaves this waiting, and the time of its last answer grows old.
            self.account_of(&*sink).await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The newest counts there are.
    pub(super) async fn refresh(&self, sink: &impl Sink) {
        let _ = tokio::time::timeout(COUNTS_WITHIN, self.account_of(sink)).await;
    }

    async fn account_of(&self, sink: &impl Sink) {
        if let Ok(account) = sink.account().await {
            self.health.pipeline_turned(boot_ns());
            self.board().account = Some(account);
        }
    }
}

const STATES: [TraceState; 6] = [
    TraceState::Tracing,
    TraceState::Idle,
    TraceState::Waiting,
    TraceState::Refused,
    TraceState::Expired,
    TraceState::Failed,
];

const fn name_of(state: TraceState) -> &'static str {
    match state {
        TraceState::Tracing => "tracing",
        TraceState::Idle => "idle",
        TraceState::Waiting => "waiting",
        TraceState::Refused => "refused",
        TraceState::Expired => "expired",
        TraceState::Failed => "failed",
    }
}
