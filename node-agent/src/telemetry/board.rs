//! What there is to tell, gathered in one place: whoever knows something writes it here, a scrape reads it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube_tcpstates_client::{Answer, Resource};
use kube_tcpstates_crds::node::TraceState;

use super::health::Health;
use crate::cluster::{Knowledge, Observer, SyncStatus, resources};
use crate::kernel::boot_ns;
use crate::pipeline::Account;

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
    /// When the agent started, Unix time, seconds.
    pub started_s: i64,
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
    pub syncs: BTreeMap<Resource, (SyncStatus, Option<i64>)>,
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
    pub fn new(facts: Facts, trouble: Option<&str>) -> Arc<Self> {
        let board = Board { facts, ..Board::default() };
        Arc::new(Self { board: Mutex::new(board), health: Health::new(trouble.is_none(), boot_ns()) })
    }

    /// The board.
    pub fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Telemetry {
    fn answered(&self, answer: Answer) {
        let labels = (answer.resource_label(), answer.ending.code());
        *self.board().requests.entry(labels).or_default() += 1;
    }

    fn view_changed(&self) {
        self.board().view_changes += 1;
    }

    fn turned(&self, knowledge: &Knowledge, planned: bool) {
        self.health.loop_turned(boot_ns());
        self.health.synced(knowledge.missing().map(Resource::plural));
        let mut board = self.board();
        for resource in resources::WATCHED {
            let sync = knowledge.sync(resource);
            if sync == SyncStatus::default() && !resources::REQUIRED.contains(&resource) {
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
        board.pods = knowledge.roster().live().count();
        if planned {
            board.plans += 1;
            board.traces = STATES.into_iter().map(|state| (name_of(state), 0)).collect();
            for standing in &knowledge.planned().standings {
                *board.traces.entry(name_of(standing.state)).or_default() += 1;
            }
        }
    }

    fn counted(&self, account: &Account) {
        self.health.pipeline_turned(boot_ns());
        self.board().account = Some(account.clone());
    }

    fn reported(&self, written: bool) {
        *self.board().reports.entry(if written { "ok" } else { "failed" }).or_default() += 1;
    }
}

/// Wall clock, seconds since the Unix epoch.
fn unix_now_s() -> i64 {
    jiff::Timestamp::now().as_second()
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
