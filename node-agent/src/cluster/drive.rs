//! The loop around [`Knowledge`]: takes what the watches tell, hands views to the pipeline, tells the report and the
//! observer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube_tcpstates_client::{AbortOnDrop, Resource, Teller};
use kube_tcpstates_crds::node::{Observed, TraceState};
use tokio::sync::{mpsc::UnboundedReceiver, watch};

use super::change::{Change, NodeObject};
use super::knowledge::{Knowledge, Now};
use super::observer::Observer;
use crate::kernel::boot_ns;
use crate::peers::News;
use crate::pipeline::{Account, Handle};
use crate::plan::{TraceStanding, View};

/// Whoever traces by views. A trait, so that the cluster can be followed without a kernel.
pub trait Sink: Send + Sync + 'static {
    /// Trace by this from now on.
    fn view(&self, view: View);
    /// This is new of who has which address. It belongs to the last view, and is of no use to one in which no trace asks.
    fn news(&self, news: News);
    /// Asks for the counts.
    fn account(&self) -> tokio::sync::oneshot::Receiver<Account>;
}

impl Sink for Handle {
    fn view(&self, view: View) {
        Self::view(self, view);
    }

    fn news(&self, news: News) {
        Self::news(self, news);
    }

    fn account(&self) -> tokio::sync::oneshot::Receiver<Account> {
        Self::account(self)
    }
}

/// What is reported of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The node, while it exists.
    pub node: Option<NodeObject>,
    /// How each trace stands.
    pub standings: Arc<Vec<TraceStanding>>,
    /// Up to which versions traces are known.
    pub observed: Observed,
    /// The traces that are active.
    pub loaded: usize,
    /// The lists that have not come yet.
    pub missing: Vec<Resource>,
    /// Why lines go without the names of other ends that traces ask for.
    pub nameless: Option<String>,
}

/// Drives what is known.
pub struct Driver<S, F, G> {
    /// What is known.
    pub knowledge: Knowledge,
    /// What the watches tell.
    pub changes: UnboundedReceiver<Change>,
    /// Who traces; `None` when nothing can be traced here.
    pub sink: Option<Arc<S>>,
    /// Starts to watch namespaces.
    pub watch_namespaces: F,
    /// Starts to watch Services and their slices.
    pub watch_peers: G,
    /// For the report.
    pub snapshots: watch::Sender<Snapshot>,
    /// Told of every turn of the loop.
    pub observer: Arc<dyn Observer>,
}

impl<S: Sink, F: Fn() -> AbortOnDrop + Send, G: Fn() -> [AbortOnDrop; 2] + Send> Driver<S, F, G> {
    /// Until nobody can tell anything any more.
    pub async fn run(mut self) {
        let (mut namespaces, mut peers) = (None, None);
        let mut refused = Refused::default();
        let mut teller = Teller::new("agent");
        loop {
            let now = now();
            let due = self.knowledge.due(now);
            if let Some(view) = due.view {
                self.observer.view_changed();
                if let Some(sink) = &self.sink {
                    sink.view(view);
                }
            }
            if let Some(sink) = &self.sink {
                due.news.into_iter().for_each(|news| sink.news(news));
            }
            if due.planned {
                refused.log(&self.knowledge.planned().standings, Instant::now());
                let needed = self.knowledge.planned().needs_namespaces;
                if needed && namespaces.is_none() {
                    namespaces = Some((self.watch_namespaces)());
                } else if !needed && namespaces.take().is_some() {
                    self.knowledge.forget_namespaces(now);
                }
                if !self.knowledge.asks_peers() {
                    if peers.take().is_some() {
                        self.knowledge.forget_peers();
                    }
                } else if peers.is_none() {
                    peers = Some((self.watch_peers)());
                }
            }
            self.publish(due.planned);
            let wake = Duration::from_nanos(self.knowledge.wake_ns(now).saturating_sub(boot_ns()));
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
            match &change {
                Change::Broken(broken) => teller.broken(broken, Instant::now()),
                works => teller.works(works.resource(), Instant::now()),
            }
            self.knowledge.take(change, now);
            next = self.changes.try_recv().ok();
        }
    }

    fn publish(&self, planned: bool) {
        let knowledge = &self.knowledge;
        self.observer.turned(knowledge, planned);
        self.snapshots.send_if_modified(|last| {
            let missing: Vec<Resource> = knowledge.missing().collect();
            let nameless = knowledge.nameless();
            let is_same = last.node.as_ref() == knowledge.node()
                && last.missing == missing
                && last.observed == *knowledge.observed();
            if !planned && is_same && last.nameless == nameless {
                return false;
            }
            let standings = Arc::new(knowledge.planned().standings.clone());
            let loaded = knowledge.planned().plan.active().count();
            let (node, observed) = (knowledge.node().cloned(), knowledge.observed().clone());
            let next = Snapshot { node, standings, observed, loaded, missing, nameless };
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

/// Says of a trace that it is refused once an hour, however often it is edited meanwhile. Its own status says more; but
/// where no operator runs its author may have nothing else to read.
#[derive(Default)]
struct Refused {
    told: HashMap<String, Instant>,
}

/// Between two lines about one trace.
const TELL_EVERY: Duration = Duration::from_hours(1);
/// Traces that are told of within that time. Whoever may make traces can make many.
const TOLD: usize = 32;

impl Refused {
    fn log(&mut self, standings: &[TraceStanding], now: Instant) {
        for line in self.lines(standings, now) {
            tracing::warn!("{line}");
        }
    }

    fn lines(&mut self, standings: &[TraceStanding], now: Instant) -> Vec<String> {
        self.told.retain(|_, at| now.saturating_duration_since(*at) < TELL_EVERY);
        let mut lines = Vec::new();
        let refused = standings.iter().filter(|standing| standing.state == TraceState::Refused);
        for standing in refused.filter(|standing| standing.reason != Some("TooMany")) {
            if self.told.len() >= TOLD || self.told.contains_key(&standing.uid) {
                continue;
            }
            self.told.insert(standing.uid.clone(), now);
            let key = &standing.key;
            let more = if self.told.len() == TOLD { "; no more of such traces within an hour" } else { "" };
            lines.push(format!(
                "trace {}{} is refused: {}: {}{more}",
                key.namespace.as_deref().map_or_else(String::new, |namespace| format!("{namespace}/")),
                key.name,
                standing.reason.unwrap_or("Refused"),
                standing.message.as_deref().unwrap_or("no more is known"),
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::TraceKey;

    fn refused(uid: usize, generation: i64) -> TraceStanding {
        TraceStanding {
            uid: uid.to_string(),
            key: TraceKey { namespace: Some("shop".to_owned()), name: format!("t{uid}") },
            generation,
            state: TraceState::Refused,
            reason: Some("InvalidSpec"),
            field: None,
            message: Some("spec.ttl: no".to_owned()),
            pods: 0,
            peer_names: false,
        }
    }

    #[test]
    fn a_trace_that_is_edited_all_the_time_is_told_of_once_an_hour() {
        let (mut told, start) = (Refused::default(), Instant::now());
        let mut lines = Vec::new();
        for second in 0..7_200_u32 {
            let generation = i64::from(second);
            lines.extend(told.lines(&[refused(1, generation)], start + Duration::from_secs(second.into())));
        }
        assert_eq!(lines, ["trace shop/t1 is refused: InvalidSpec: spec.ttl: no"; 2]);
    }

    #[test]
    fn however_many_are_refused_the_log_stays_readable() {
        let (mut told, now) = (Refused::default(), Instant::now());
        let many: Vec<_> = (0..5_000).map(|uid| refused(uid, 1)).collect();
        let lines = told.lines(&many, now);
        assert_eq!(lines.len(), TOLD);
        assert!(lines[TOLD - 1].ends_with("; no more of such traces within an hour"), "{}", lines[TOLD - 1]);
        assert!(told.lines(&many, now + Duration::from_mins(59)).is_empty());
    }
}
