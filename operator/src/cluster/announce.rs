//! Which Kubernetes Events tell of a trace. The same said again is the same Event, counted. Pure.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use kube_tcpstates_crds::TraceStatus;
use kube_tcpstates_crds::status::{Condition, ConditionStatus};
use kube_tcpstates_crds::{GROUP, VERSION};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::fold::{Trace, TraceKey};

/// Who tells, and what they have done.
const CONTROLLER: &str = "kube-tcpstates-operator";
const ACTION: &str = "UpdateStatus";
/// Said again within this, it is the same Event. The server forgets Events after an hour.
const SAME_WITHIN: Duration = Duration::from_mins(50);
/// Events remembered.
const REMEMBERED: usize = 4096;
/// The server's limit, in bytes.
const NOTE: usize = 1024;

/// Where Events about what has no namespace are made.
const HOME: &str = "default";
/// Where alone a server takes them that is older than Kubernetes 1.23, 1.22.3, 1.21.6 and 1.20.12.
const OLD_HOME: &str = "kube-system";

/// A request that tells something.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Request {
    /// Make this Event.
    Make(Value),
    /// Change an Event.
    Again { namespace: String, name: String, patch: Value },
}

/// What was said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Said {
    uid: String,
    type_: String,
    reason: String,
    note: String,
}

#[derive(Clone, Debug)]
struct Announced {
    name: String,
    count: u32,
    at: Instant,
}

/// Remembers what was said.
#[derive(Debug)]
pub(super) struct Announcer {
    identity: String,
    /// Where Events about cluster traces are made.
    home: &'static str,
    told: HashMap<Said, Announced>,
    /// In the order in which it was first said.
    order: VecDeque<Said>,
}

impl Announcer {
    /// `identity`: which operator tells.
    pub(super) fn new(identity: &str) -> Self {
        Self {
            identity: cut(identity, 128).to_owned(),
            home: HOME,
            told: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// What to tell of a trace whose status was this and is that.
    pub(super) fn announce(
        &mut self,
        trace: &Trace,
        before: &TraceStatus,
        after: &TraceStatus,
        (now, clock): (Timestamp, Instant),
    ) -> Vec<Request> {
        let news = after.conditions.iter().filter(|condition| is_news(before, condition, after));
        let requests = news.map(|condition| self.request(trace, condition, after, now, clock));
        requests.collect()
    }

    /// What the server does not take as it is: the same where an old one may take it.
    pub(super) fn elsewhere(request: &Request) -> Option<Request> {
        let Request::Make(event) = request else { return None };
        let is_refused_home = is_of_cluster(event) && event["metadata"]["namespace"] == HOME;
        is_refused_home.then(|| {
            let mut event = event.clone();
            event["metadata"]["namespace"] = json!(OLD_HOME);
            Request::Make(event)
        })
    }

    /// The server has taken it: what is said of cluster traces from now on is said where it took this.
    pub(super) fn made(&mut self, request: &Request) {
        if let Request::Make(event) = request
            && is_of_cluster(event)
        {
            self.home = if event["metadata"]["namespace"] == OLD_HOME { OLD_HOME } else { HOME };
        }
    }

    /// An Event is not there any more, or never was.
    pub(super) fn forget(&mut self, request: &Request) {
        let name = match request {
            Request::Make(event) => event["metadata"]["name"].as_str().unwrap_or_default(),
            Request::Again { name, .. } => name,
        };
        self.told.retain(|_, told| told.name != name);
        let Self { told, order, .. } = self;
        order.retain(|said| told.contains_key(said));
    }

    fn request(
        &mut self,
        trace: &Trace,
        condition: &Condition,
        status: &TraceStatus,
        now: Timestamp,
        clock: Instant,
    ) -> Request {
        let said = Said {
            uid: trace.uid.clone(),
            type_: condition.type_.clone(),
            reason: condition.reason.clone(),
            note: note(condition, status),
        };
        let namespace = trace.key.namespace.as_deref().unwrap_or(self.home);
        let micros = now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        if let Some(told) = self.told.get_mut(&said).filter(|told| clock < told.at + SAME_WITHIN) {
            told.count += 1;
            let series = json!({"count": told.count, "lastObservedTime": micros});
            let (namespace, name) = (namespace.to_owned(), told.name.clone());
            return Request::Again { namespace, name, patch: json!({"series": series}) };
        }
        let name = format!("{}.{:x}", cut(&trace.key.name, 200), now.as_nanosecond());
        let event = self.event(&trace.key, (namespace, &name), &said, condition, &micros);
        self.remember(said, Announced { name, count: 1, at: clock });
        Request::Make(event)
    }

    fn event(
        &self,
        key: &TraceKey,
        (namespace, name): (&str, &str),
        said: &Said,
        condition: &Condition,
        now: &str,
    ) -> Value {
        let kind = if key.namespace.is_some() { "TcpStateTrace" } else { "ClusterTcpStateTrace" };
        json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": now, "type": if is_warning(condition) { "Warning" } else { "Normal" },
            "reason": said.reason, "note": said.note, "action": ACTION,
            "reportingController": CONTROLLER, "reportingInstance": self.identity,
            "regarding": {"apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind, "namespace": key.namespace,
                "name": key.name, "uid": said.uid},
        })
    }

    fn remember(&mut self, said: Said, told: Announced) {
        if self.told.insert(said.clone(), told).is_some() {
            self.order.retain(|other| *other != said);
        }
        self.order.push_back(said);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.told.remove(&oldest);
        }
    }
}

fn is_of_cluster(event: &Value) -> bool {
    event["regarding"]["namespace"].is_null()
}

/// Whether a condition is worth an Event: it is another one, and not merely what was to be expected.
fn is_news(before: &TraceStatus, condition: &Condition, after: &TraceStatus) -> bool {
    let of = |status: &TraceStatus| status.conditions.iter().find(|it| it.type_ == condition.type_).cloned();
    let was = of(before);
    let is_accepted = |status: &TraceStatus| {
        status.conditions.iter().any(|it| it.type_ == "Accepted" && it.status == ConditionStatus::True)
    };
    if condition.type_ == "Accepted" {
        let is_refused = condition.status == ConditionStatus::False;
        return match was {
            None => is_refused,
            // Another mistake is news to whoever tries to mend the first.
            Some(was) => is_another(&was, condition) || is_refused && was.message != condition.message,
        };
    }
    // One that is not accepted is not ready either: that is no news.
    condition.reason != "Pending" && is_accepted(after) && was.is_none_or(|was| is_another(&was, condition))
}

fn is_another(was: &Condition, is: &Condition) -> bool {
    (was.status, &was.reason) != (is.status, &is.reason)
}

/// What somebody may want to do something about.
fn is_warning(condition: &Condition) -> bool {
    let harmless = ["Expired", "NoMatchingPods", "NoMatchingNodes"];
    condition.status != ConditionStatus::True && !harmless.contains(&condition.reason.as_str())
}

fn note(condition: &Condition, status: &TraceStatus) -> String {
    if !condition.message.is_empty() {
        return cut(&condition.message, NOTE).to_owned();
    }
    let traced = || format!("traced on {} nodes", status.nodes.as_ref()?.summary).into();
    let note: Option<String> =
        if condition.type_ == "Accepted" { Some("the spec is valid".to_owned()) } else { traced() };
    note.unwrap_or_default()
}

/// At most so many bytes.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use kube_tcpstates_crds::status::{Condition, ConditionStatus, NodeCounts};
    use kube_tcpstates_crds::{TraceKind, TraceStatus};
    use serde_json::json;
    use tokio::time::Instant;

    use super::{Announcer, Request};
    use crate::fold::Trace;

    fn trace() -> Trace {
        let object = json!({
            "metadata": {"name": "a", "namespace": "shop", "uid": "u1", "generation": 1,
                "creationTimestamp": "2026-11-22T15:00:00Z"},
            "spec": {"podSelector": {}},
        });
        Trace::from_api(TraceKind::Namespaced, &object).unwrap()
    }

    fn condition(type_: &str, status: ConditionStatus, reason: &str, message: &str) -> Condition {
        Condition {
            type_: type_.to_owned(),
            status,
            observed_generation: Some(1),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }

    /// Accepted and Ready.
    fn status(is_accepted: bool, ready: ConditionStatus, reason: &str, message: &str) -> TraceStatus {
        let accepted = if is_accepted {
            condition("Accepted", ConditionStatus::True, "Valid", "")
        } else {
            condition("Accepted", ConditionStatus::False, "InvalidSpec", message)
        };
        TraceStatus {
            conditions: vec![accepted, condition("Ready", ready, reason, message)],
            nodes: Some(NodeCounts { summary: "2/2".to_owned(), ..NodeCounts::default() }),
            ..TraceStatus::default()
        }
    }

    /// Type, reason and note of the Events that are made.
    fn made(requests: &[Request]) -> Vec<String> {
        let text = |request: &Request| match request {
            Request::Make(event) => {
                let text = |name: &str| event[name].as_str().unwrap().to_owned();
                format!("{} {}: {}", text("type"), text("reason"), text("note"))
            }
            Request::Again { patch, .. } => format!("again {}", patch["series"]["count"]),
        };
        requests.iter().map(text).collect()
    }

    #[test]
    fn what_changes_is_told_and_what_was_to_be_expected_is_not() {
        use ConditionStatus::{False, True, Unknown};
        let nothing = TraceStatus::default();
        let pending = status(true, Unknown, "Pending", "");
        let tracing = status(true, True, "Tracing", "");
        let invalid = status(false, False, "InvalidSpec", "spec.ttl: is wrong");
        let still_invalid = status(false, False, "InvalidSpec", "spec.role: is wrong");
        for (before, after, expected) in [
            (&nothing, &pending, &[][..]),
            (&pending, &tracing, &["Normal Tracing: traced on 2/2 nodes"]),
            (&nothing, &invalid, &["Warning InvalidSpec: spec.ttl: is wrong"]),
            (&invalid, &still_invalid, &["Warning InvalidSpec: spec.role: is wrong"]),
            (&invalid, &pending, &["Normal Valid: the spec is valid"]),
            (&tracing, &tracing, &[]),
            (&tracing, &status(true, False, "Expired", "over"), &["Normal Expired: over"]),
            (&tracing, &status(true, False, "Degraded", "n1"), &["Warning Degraded: n1"]),
            (&status(true, False, "Degraded", "n1"), &status(true, False, "Degraded", "n2"), &[]),
            (&pending, &status(true, Unknown, "AgentsUnavailable", "n1"), &["Warning AgentsUnavailable: n1"]),
        ] {
            let now = (Timestamp::UNIX_EPOCH, Instant::now());
            let requests = Announcer::new("me").announce(&trace(), before, after, now);
            assert_eq!(made(&requests), expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn what_is_said_again_is_the_same_event_until_the_server_has_forgotten_it() {
        let (mut announcer, start) = (Announcer::new("me"), Instant::now());
        let (pending, tracing) = (
            status(true, ConditionStatus::Unknown, "Pending", ""),
            status(true, ConditionStatus::True, "Tracing", ""),
        );
        let mut say = |minutes: u64| {
            let now = (Timestamp::UNIX_EPOCH, start + Duration::from_mins(minutes));
            announcer.announce(&trace(), &pending, &tracing, now).remove(0)
        };
        let Request::Make(event) = say(0) else { panic!() };
        assert_eq!(event["regarding"]["uid"], "u1");
        let Request::Again { namespace, name, patch } = say(1) else { panic!() };
        assert_eq!((json!(namespace), json!(name)), (json!("shop"), event["metadata"]["name"].clone()));
        assert_eq!(patch["series"]["count"], 2);
        assert!(matches!(say(51), Request::Make(_)));
        let again = say(52);
        assert!(matches!(again, Request::Again { .. }));
        announcer.forget(&again);
        let now = (Timestamp::UNIX_EPOCH, start + Duration::from_mins(53));
        assert!(matches!(announcer.announce(&trace(), &pending, &tracing, now)[0], Request::Make(_)));
    }

    #[test]
    fn a_note_is_no_longer_than_the_server_takes() {
        let long = "ä".repeat(2000);
        let invalid = status(false, ConditionStatus::False, "InvalidSpec", &long);
        let now = (Timestamp::UNIX_EPOCH, Instant::now());
        let requests = Announcer::new("me").announce(&trace(), &TraceStatus::default(), &invalid, now);
        let [Request::Make(event)] = &requests[..] else { panic!() };
        assert_eq!(event["note"].as_str().unwrap().len(), 1024);
    }
}
