//! This node's `TcpStateNode`: written through server-side apply, never read.

mod content;
mod schedule;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use kube_tcpstates_client::{Case, Trouble, jitter, reason_of, write_status};
use kube_tcpstates_crds::node::TcpStateNodeStatus;
use kube_tcpstates_crds::{GROUP, TcpStateNode, VERSION};
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until};

pub use content::NodeFacts;

use self::content::{ReadySince, essence, is_busy, is_settled, status};
use self::schedule::Schedule;
use super::drive::Snapshot;
use super::observer::Observer;
use crate::pipeline::Account;

/// Owner of the object's own fields, and owner of its status. Before 1.22 a server keeps one set of fields for a name,
/// whichever endpoint it wrote to: under one name, making the object would give up the status, and what is not in the
/// next one, such as a trace that is gone, would stay for ever.
const OBJECT_MANAGER: &str = "kube-tcpstates-agent-object";
const STATUS_MANAGER: &str = "kube-tcpstates-agent";
/// The server does not say which right is missing where a patch would make the object.
const NEEDED: &str =
    "; it takes the rights to create and patch tcpstatenodes and to patch tcpstatenodes/status";
/// The pipeline's own troubles are looked for so often.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is reported, and of what.
pub(super) struct Report {
    /// Name of the node.
    pub node: String,
    /// What does not change.
    pub facts: NodeFacts,
    /// How the traces stand.
    pub snapshots: Receiver<Snapshot>,
    /// The pipeline's counts; none where nothing can be traced.
    pub accounts: Receiver<Option<Account>>,
}

impl Report {
    /// Writes it for ever, as often as it should be.
    pub(super) async fn write(self, client: Client, observer: Arc<dyn Observer>) {
        let Self { node, facts, mut snapshots, accounts } = self;
        let mut writer = Writer { api: Api::all(client), node, owner: None };
        let mut schedule = Schedule::new(Instant::now(), jitter());
        let mut since = ReadySince::default();
        let mut case: Option<Case> = None;
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            let account = accounts.borrow().clone();
            let status = status(&facts, &snapshot, account.as_ref(), &mut since, Timestamp::now());
            let state = essence(&status);
            let now = Instant::now();
            let due = schedule.due(&state, is_settled(&facts, &snapshot), now);
            // Without a Node nobody would ever clean up the report.
            let Some(owner) = snapshot.node.map(|node| node.uid).filter(|_| due <= now) else {
                tokio::select! {
                    changed = snapshots.changed() => if changed.is_err() { return },
                    () = sleep_until(due.clamp(now + Duration::from_millis(10), now + LOOK_EVERY)) => {}
                }
                continue;
            };
            let written = writer.write(&owner, &status).await;
            observer.reported(written.is_ok());
            match written {
                Ok(()) => {
                    schedule.written(state, is_busy(&status), Instant::now());
                    case = None;
                }
                Err(error) => {
                    let now = Instant::now();
                    schedule.failed(now);
                    let case = case.get_or_insert_with(|| Case::new(now.into_std()));
                    let trouble = Trouble::of_request(&error);
                    if case.is_news(trouble, now.into_std()) {
                        let needed = if trouble == Trouble::Forbidden { NEEDED } else { "" };
                        let reason = reason_of(&error);
                        tracing::warn!(
                            "cannot write TcpStateNode {}, trying again{needed}: {reason}",
                            writer.node
                        );
                    }
                }
            }
        }
    }
}

struct Writer {
    api: Api<TcpStateNode>,
    node: String,
    /// UID of the Node that the object was last made for.
    owner: Option<String>,
}

impl Writer {
    async fn write(&mut self, owner: &str, status: &TcpStateNodeStatus) -> kube::Result<()> {
        if self.owner.as_deref() != Some(owner) {
            self.apply(owner).await?;
        }
        match self.apply_status(status).await {
            // It went away with a Node of the same name, or somebody deleted it.
            Err(kube::Error::Api(refusal)) if refusal.code == 404 => {
                self.apply(owner).await?;
                self.apply_status(status).await
            }
            other => other,
        }
    }

    async fn apply(&mut self, owner: &str) -> kube::Result<()> {
        self.owner = None;
        let object = object(&self.node, owner);
        // Nobody else has a say in these fields.
        let parameters = PatchParams::apply(OBJECT_MANAGER).force();
        let made = self.api.patch(&self.node, &parameters, &Patch::Apply(&object)).await?;
        self.owner = Some(owner.to_owned());
        tracing::debug!("TcpStateNode {} has UID {:?}", self.node, made.uid());
        Ok(())
    }

    async fn apply_status(&self, status: &TcpStateNodeStatus) -> kube::Result<()> {
        let object = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": "TcpStateNode",
            "metadata": {"name": self.node},
            "status": whole(status),
        });
        write_status(&self.api, &self.node, STATUS_MANAGER, &object).await
    }
}

/// What is empty is said to be. A server before 1.22 leaves null where server-side apply takes a list or an object away, and
/// then refuses every report.
fn whole(status: &TcpStateNodeStatus) -> Value {
    let mut told = json!(status);
    for (list, empty) in [("traces", json!([])), ("preflight", json!([])), ("observed", json!({}))] {
        if told.get(list).is_none() {
            told[list] = empty;
        }
    }
    told
}

/// The object without its status. It goes away with the Node.
fn object(node: &str, owner: &str) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "TcpStateNode",
        "metadata": {
            "name": node,
            "labels": {"app.kubernetes.io/name": "kube-tcpstates"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node, "uid": owner}],
        },
    })
}
