//! The loop around the fold: takes what the watches tell, and writes what is due, while this operator leads.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use kube::Client;
use kube_tcpstates_client::{Case, Resource, Teller, Trouble, jitter};
use kube_tcpstates_crds::{TraceKind, TraceStatus};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::announce::{Announcer, Request};
use super::objects::Message;
use super::queue::Queue;
use super::write::{self, Failure};
use crate::fold::{Account, Due, Fleet, Now, Pace, Trace, TraceKey, due};
use crate::lease::Term;
use crate::telemetry::Board;

/// What is due is looked for so often at most: reports of thousands of nodes come one by one.
const TURN_EVERY: Duration = Duration::from_millis(200);
/// And at least so often, or the loop hangs.
const TURN_WITHIN: Duration = Duration::from_secs(5);
/// Writes under way at a time.
const AT_ONCE: usize = 8;

/// A write that has ended.
struct Written {
    trace: Trace,
    /// What stood there before.
    before: TraceStatus,
    status: TraceStatus,
    outcome: Result<(), Failure>,
}

/// What is written, as rights tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Right {
    Status(TraceKind),
    Make,
    Again,
}

impl Right {
    fn of(request: &Request) -> Self {
        match request {
            Request::Make(_) => Self::Make,
            Request::Again { .. } => Self::Again,
        }
    }
}

/// Drives the fold.
pub(super) struct Driver {
    client: Client,
    messages: UnboundedReceiver<Message>,
    term: Term,
    board: Board,
    fleet: Fleet,
    teller: Teller,
    accounts: HashMap<TraceKey, Account>,
    /// What is to be looked at again then.
    later: HashMap<TraceKey, Instant>,
    /// When time alone changes something.
    next: Option<Instant>,
    turned: Option<Instant>,
    queue: Queue,
    pace: Pace,
    /// Traces that are being written.
    busy: HashSet<TraceKey>,
    writing: FuturesUnordered<BoxFuture<'static, Written>>,
    announcer: Announcer,
    announcing: FuturesUnordered<BoxFuture<'static, (Request, Result<(), Failure>)>>,
    /// What is refused, by the right that it needs: others may work meanwhile.
    cases: HashMap<Right, Case>,
}

impl Driver {
    pub(super) fn new(
        client: Client,
        messages: UnboundedReceiver<Message>,
        term: Term,
        identity: &str,
        board: Board,
    ) -> Self {
        Self {
            client,
            messages,
            term,
            board,
            fleet: Fleet::default(),
            teller: Teller::new("operator"),
            accounts: HashMap::new(),
            later: HashMap::new(),
            next: None,
            turned: None,
            queue: Queue::default(),
            pace: Pace::new(Instant::now()),
            busy: HashSet::new(),
            writing: FuturesUnordered::new(),
            announcer: Announcer::new(identity),
            announcing: FuturesUnordered::new(),
            cases: HashMap::new(),
        }
    }

    /// For ever, or until nobody can tell anything any more.
    pub(super) async fn run(&mut self) {
        loop {
            let now = Now::read();
            self.turn(now);
            self.write(now);
            let leads = self.term.may_write(now.clock);
            self.board.turned(leads, self.queue.len(), self.fleet.sizes(), now.clock);
            let wake = self.wake(now.clock);
            tokio::select! {
                message = self.messages.recv() => {
                    let Some(message) = message else { return };
                    self.take(message);
                }
                Some(written) = self.writing.next() => self.finish(written),
                Some((request, outcome)) = self.announcing.next() => self.announced(&request, outcome),
                () = self.term.changed() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// Waits for the writes under way; none begins any more.
    pub(super) async fn end(mut self) {
        while self.writing.next().await.is_some() {}
    }

    /// What came together is taken together.
    fn take(&mut self, message: Message) {
        let (now, mut next) = (Now::read(), Some(message));
        while let Some(message) = next {
            let (resource, is_list) = (message.resource(), message.is_list());
            match message {
                Message::Broken(broken) => {
                    self.teller.broken(&broken, now.clock.into_std());
                    self.board.broken(resource);
                }
                Message::Works(_) => self.works(resource, is_list, now),
                Message::Change(change) => {
                    self.works(resource, is_list, now);
                    self.fleet.take(*change, now);
                }
            }
            next = self.messages.try_recv().ok();
        }
    }

    fn works(&mut self, resource: Resource, is_list: bool, now: Now) {
        self.teller.works(resource, now.clock.into_std());
        self.board.works(resource, is_list);
    }

    /// Finds what is due.
    fn turn(&mut self, now: Now) {
        if self.turned.is_some_and(|turned| now.clock < turned + TURN_EVERY) {
            return;
        }
        self.turned = Some(now.clock);
        let (changed, next) = self.fleet.changed(now);
        self.next = next;
        let is_due = |(_, at): &(&TraceKey, &Instant)| **at <= now.clock;
        let due: Vec<_> = self.later.iter().filter(is_due).map(|(key, _)| key.clone()).collect();
        for key in changed.into_iter().chain(due) {
            if self.judge(&key, now).is_some() {
                self.queue.push(key);
            }
        }
    }

    /// The status to write now; what is to be written later is looked at again then.
    fn judge(&mut self, key: &TraceKey, now: Now) -> Option<TraceStatus> {
        self.later.remove(key);
        let Some(wanted) = self.fleet.wanted(key, now) else {
            self.accounts.remove(key);
            return None;
        };
        let there = &self.fleet.trace(key)?.status;
        let account = self.accounts.entry(key.clone()).or_insert_with(|| Account::new(now.clock));
        match due(account, there, &wanted, now.clock) {
            Due::Never => None,
            Due::At(at) if at <= now.clock => Some(wanted),
            Due::At(at) => {
                self.later.insert(key.clone(), at);
                None
            }
        }
    }

    /// Begins what may begin.
    fn write(&mut self, now: Now) {
        while self.writing.len() < AT_ONCE
            && self.pace.ready_at() <= now.clock
            && self.term.may_write(now.clock)
            && let Some(key) = self.queue.pop()
        {
            // It is looked at again when that write has ended.
            if self.busy.contains(&key) {
                continue;
            }
            let Some(wanted) = self.judge(&key, now) else { continue };
            self.begin(&key, wanted, now.clock);
        }
    }

    fn begin(&mut self, key: &TraceKey, status: TraceStatus, now: Instant) {
        let Some(trace) = self.fleet.trace(key).cloned() else { return };
        self.pace.spend(now);
        if let Some(account) = self.accounts.get_mut(key) {
            account.spend(now);
        }
        self.busy.insert(key.clone());
        let client = self.client.clone();
        self.writing.push(Box::pin(async move {
            let outcome = write::status(client, &trace, &status).await;
            Written { before: trace.status.clone(), trace, status, outcome }
        }));
    }

    fn finish(&mut self, written: Written) {
        let Written { trace, before, status, outcome } = written;
        let now = Now::read();
        self.busy.remove(&trace.key);
        self.board.wrote(outcome.as_ref().map_or_else(Failure::outcome, |()| "ok"));
        if let Some(account) = self.accounts.get_mut(&trace.key) {
            match &outcome {
                Ok(()) => account.written(now.clock),
                Err(_) => account.failed(jitter(), now.clock),
            }
        }
        let what = format!("the status of trace {}, trying again", trace.key);
        self.note(Right::Status(trace.key.kind()), &what, outcome.as_ref().err(), now);
        if outcome.is_ok() {
            self.announce(&trace, &before, &status, now);
            self.fleet.written(&trace.key, &trace.uid, status);
        }
        if self.judge(&trace.key, now).is_some() {
            self.queue.push(trace.key);
        }
    }

    fn note(&mut self, right: Right, what: &str, failure: Option<&Failure>, now: Now) {
        if let Some(reason) = self.news(right, failure, now.clock) {
            tracing::warn!("cannot write {what}: {reason}");
        }
    }

    /// What the server says of a write, unless that has been said.
    fn news<'a>(&mut self, right: Right, failure: Option<&'a Failure>, now: Instant) -> Option<&'a str> {
        let (trouble, reason) = match failure {
            None => {
                self.cases.remove(&right);
                return None;
            }
            Some(Failure::Gone) => return None,
            Some(Failure::Busy(pause)) => {
                self.pace.pause(*pause, now);
                return None;
            }
            Some(Failure::Invalid(reason)) => (Trouble::Failing, reason),
            Some(Failure::Failed(trouble, reason)) => (*trouble, reason),
        };
        let now = now.into_std();
        let case = self.cases.entry(right).or_insert_with(|| Case::new(now));
        case.is_news(trouble, now).then_some(reason)
    }

    fn announce(&mut self, trace: &Trace, before: &TraceStatus, after: &TraceStatus, now: Now) {
        if !self.term.may_write(now.clock) {
            return;
        }
        for request in self.announcer.announce(trace, before, after, (now.wall, now.clock)) {
            self.say(request);
        }
    }

    fn say(&mut self, request: Request) {
        let client = self.client.clone();
        self.announcing.push(Box::pin(async move {
            let outcome = write::event(client, &request).await;
            (request, outcome)
        }));
    }

    /// An Event that could not be made is not made: the status says the same.
    fn announced(&mut self, request: &Request, outcome: Result<(), Failure>) {
        if let Err(Failure::Invalid(_)) = outcome
            && let Some(elsewhere) = Announcer::elsewhere(request)
        {
            return self.say(elsewhere);
        }
        self.board.announced(outcome.as_ref().map_or_else(Failure::outcome, |()| "ok"));
        match &outcome {
            Ok(()) => self.announcer.made(request),
            Err(_) => self.announcer.forget(request),
        }
        let right = Right::of(request);
        self.note(right, "an Event, and leave it out", outcome.err().as_ref(), Now::read());
    }

    fn wake(&self, now: Instant) -> Instant {
        let turned = self.turned.unwrap_or(now);
        let soonest = turned + TURN_EVERY;
        let timed = self.later.values().copied().chain(self.next).min();
        // A message that has come since the last turn is looked at in the next.
        let mut wake = timed.unwrap_or(now + TURN_WITHIN).clamp(soonest, (now + TURN_WITHIN).max(soonest));
        if self.fleet.has_changed() {
            wake = soonest;
        }
        if self.queue.len() > 0 && self.writing.len() < AT_ONCE && self.term.may_write(now) {
            wake = wake.min(self.pace.ready_at());
        }
        wake
    }
}

#[cfg(test)]
#[path = "drive_tests.rs"]
mod tests;
