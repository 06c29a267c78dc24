//! Whether somebody may read a trace, and whether there is one: asked of the API server.
//!
//! kube-apiserver has authorised the request before it passed it on. It is asked again here, so that nothing depends on
//! one check, and while somebody follows.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{ListParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use kube_tcpstates_client::reason_of;

use super::answer::Refusal;
use super::identity::Caller;
use super::query::{GROUP, Subresource, Trace, VERSION};

/// How long an answer is believed.
const BELIEVED_FOR: Duration = Duration::from_secs(10);
/// Answers that are kept.
const KEPT: usize = 1024;

type Question = (Caller, Trace, Subresource);

/// Asks, and remembers for a moment.
pub(crate) struct Access {
    client: Client,
    answers: Mutex<BTreeMap<Question, (bool, Instant)>>,
}

/// A trace that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// One that is deleted and made again is another.
    pub(crate) uid: String,
    /// Older lines are of another trace of that name, maybe in a namespace that was somebody else's.
    pub(crate) created: Timestamp,
}

impl Access {
    /// With nothing remembered.
    pub(crate) fn new(client: Client) -> Self {
        Self { client, answers: Mutex::default() }
    }

    /// Whether a caller may read a trace.
    pub(crate) async fn may_read(
        &self,
        caller: &Caller,
        trace: &Trace,
        subresource: Subresource,
    ) -> Result<(), Refusal> {
        let question = (caller.clone(), trace.clone(), subresource);
        let allowed = if let Some(allowed) = self.remembered(&question, Instant::now()) {
            allowed
        } else {
            let allowed = self.ask(&question).await?;
            self.remember(question, allowed, Instant::now());
            allowed
        };
        if allowed { Ok(()) } else { Err(Refusal::forbidden(&caller.user, trace, subresource)) }
    }

    async fn ask(&self, (caller, trace, subresource): &Question) -> Result<bool, Refusal> {
        let text = |text: &str| Some(text.to_owned());
        let attributes = ResourceAttributes {
            group: text(GROUP),
            version: text(VERSION),
            resource: text(trace.plural()),
            subresource: text(subresource.as_str()),
            namespace: trace.namespace.clone(),
            name: text(&trace.name),
            verb: text("get"),
            ..ResourceAttributes::default()
        };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: text(&caller.user),
                uid: caller.uid.clone(),
                groups: Some(caller.groups.clone()),
                extra: Some(caller.extra.clone()),
                resource_attributes: Some(attributes),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|error| {
            Refusal::Unavailable(format!("asking whether {:?} may read: {}", caller.user, reason_of(&error)))
        })?;
        Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
    }

    /// The trace as it is now. A list of one name is read like one object, and needs the right to list alone.
    pub(crate) async fn find(&self, trace: &Trace) -> Result<Found, Refusal> {
        let kind = if trace.namespace.is_some() { "TcpStateTrace" } else { "ClusterTcpStateTrace" };
        let kind = GroupVersionKind::gvk("tcpstates.dev", "v1alpha1", kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, trace.plural());
        let traces: Api<DynamicObject> = match &trace.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let named = ListParams::default().fields(&format!("metadata.name={}", trace.name));
        let found = traces.list_metadata(&named).await.map_err(|error| {
            Refusal::Unavailable(format!("looking for the trace {trace}: {}", reason_of(&error)))
        })?;
        let found = found.items.into_iter().find(|found| found.metadata.name.as_ref() == Some(&trace.name));
        let found = found.ok_or_else(|| Refusal::NoTrace(trace.clone()))?.metadata;
        let created = found.creation_timestamp.map_or(Timestamp::MIN, |time| time.0);
        Ok(Found { uid: found.uid.unwrap_or_default(), created })
    }

    fn remembered(&self, question: &Question, now: Instant) -> Option<bool> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (allowed, when) = answers.get(question)?;
        (now < *when + BELIEVED_FOR).then_some(*allowed)
    }

    fn remember(&self, question: Question, allowed: bool, now: Instant) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= KEPT {
            answers.retain(|_, (_, when)| now < *when + BELIEVED_FOR);
        }
        if answers.len() < KEPT {
            answers.insert(question, (allowed, now));
        }
    }
}
