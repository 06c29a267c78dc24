//! Which of the operators writes: the one that holds the Lease.
//!
//! Whoever holds it renews it every two seconds and may begin a write for six seconds after the last renewal was sent;
//! a write is given up after four. Whoever does not hold it takes it when it has seen it unchanged for twelve seconds, by
//! its own clock. So nobody writes any more when another begins, whatever clocks say, and a holder that is killed is
//! followed within seventeen seconds.

mod election;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use kube_tcpstates_client::{Case, Trouble, jitter, reason_of};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use self::election::{Election, Record, Step};

/// Of the Lease, in the operator's namespace.
pub const NAME: &str = "kube-tcpstates-operator";
/// A lease that has not been renewed for so long is anybody's.
const LEASE: Duration = Duration::from_secs(12);
/// Writes begin within so long after the last renewal was sent.
const TERM: Duration = Duration::from_secs(6);
/// What was begun by then is given up.
pub const WRITE_WITHIN: Duration = Duration::from_secs(4);
/// Between two looks, and two renewals.
const EVERY: Duration = Duration::from_secs(2);

/// Until when writes may begin; `None` for those who do not lead.
#[derive(Clone, Debug)]
pub struct Term(watch::Receiver<Option<Instant>>);

impl Term {
    /// One that a test decides about.
    #[cfg(test)]
    pub(crate) const fn of(held: watch::Receiver<Option<Instant>>) -> Self {
        Self(held)
    }

    /// Whether a write may begin now.
    pub fn may_write(&self, now: Instant) -> bool {
        self.0.borrow().is_some_and(|until| now < until)
    }

    /// Waits until it is another.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // There is no candidate any more: it never changes again.
            std::future::pending::<()>().await;
        }
    }
}

/// One of those who want the Lease.
pub struct Candidate {
    api: Api<Lease>,
    election: Election,
    term: watch::Sender<Option<Instant>>,
    case: Option<Case>,
}

/// Why a try came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Request(#[from] kube::Error),
    #[error("no answer within {} s", WRITE_WITHIN.as_secs())]
    Late,
}

impl Candidate {
    /// Under this name, which no other has or ever had.
    pub fn new(client: Client, namespace: &str, identity: &str) -> (Self, Term) {
        let (term, held) = watch::channel(None);
        let election = Election::new(identity);
        (Self { api: Api::namespaced(client, namespace), election, term, case: None }, Term(held))
    }

    /// Holds the lease whenever it can be had, for ever.
    pub async fn run(&mut self) {
        loop {
            let sent = Instant::now();
            let tried = tokio::time::timeout(WRITE_WITHIN, self.attempt()).await;
            match tried.unwrap_or(Err(Failure::Late)) {
                Ok(holds) => {
                    self.case = None;
                    self.lead(holds.then(|| sent + TERM));
                }
                // What is held is held until the term is over.
                Err(error) => self.tell(&error),
            }
            tokio::time::sleep_until(sent + EVERY.mul_f64(0.9 + 0.2 * jitter())).await;
        }
    }

    fn lead(&self, until: Option<Instant>) {
        let led = self.term.send_replace(until).is_some();
        match (led, until) {
            (false, Some(_)) => tracing::info!("this operator leads: it writes the status of traces"),
            (true, None) => tracing::warn!("this operator leads no more"),
            _ => {}
        }
    }

    /// One look, and what follows from it. Whether the lease is held then.
    async fn attempt(&mut self) -> Result<bool, Failure> {
        let there = self.api.get_opt(NAME).await?;
        let record = there.as_ref().map(Record::of);
        let now = Instant::now();
        let written = match self.election.step(record.as_ref(), now) {
            Step::Wait => return Ok(false),
            Step::Make => self.make().await,
            Step::Take | Step::Renew => {
                let patch = self.election.patch(record.as_ref(), Timestamp::now());
                self.patch(&patch).await
            }
        };
        match written {
            Ok(()) => Ok(true),
            // Another was quicker.
            Err(kube::Error::Api(refusal)) if refusal.code == 409 => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn make(&self) -> kube::Result<()> {
        let now = Some(MicroTime(Timestamp::now()));
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                labels: Some([("app.kubernetes.io/name".to_owned(), "kube-tcpstates".to_owned())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.election.identity().to_owned()),
                lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
                acquire_time: now.clone(),
                renew_time: now,
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
        };
        self.api.create(&PostParams::default(), &lease).await.map(drop)
    }

    async fn patch(&self, patch: &Value) -> kube::Result<()> {
        self.api.patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }

    /// Gives the lease back, so that another need not wait until it is over. Nothing is being written any more.
    pub async fn release(mut self) {
        self.lead(None);
        let released = tokio::time::timeout(WRITE_WITHIN, async {
            let Some(there) = self.api.get_opt(NAME).await? else { return Ok(()) };
            let record = Record::of(&there);
            if record.holder != self.election.identity() {
                return Ok(());
            }
            let patch = json!({
                "metadata": {"resourceVersion": record.version},
                "spec": {"holderIdentity": "", "leaseDurationSeconds": 1},
            });
            self.patch(&patch).await
        });
        match released.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.tell(&error.into()),
            Err(_) => self.tell(&Failure::Late),
        }
    }

    fn tell(&mut self, failure: &Failure) {
        let (trouble, reason) = match failure {
            Failure::Request(error) => (Trouble::of_request(error), reason_of(error)),
            Failure::Late => (Trouble::Failing, failure.to_string()),
        };
        let now = std::time::Instant::now();
        if self.case.get_or_insert_with(|| Case::new(now)).is_news(trouble, now) {
            tracing::warn!("lease {NAME}: trying again: {reason}");
        }
    }
}
