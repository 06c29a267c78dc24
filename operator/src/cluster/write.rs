//! The requests that write: the status of a trace, and Events about it.

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use kube_tcpstates_client::{Trouble, reason_of, write_status};
use kube_tcpstates_crds::{ClusterTcpStateTrace, GROUP, TcpStateTrace, TraceKind, TraceStatus, VERSION};
use serde_json::json;

use super::announce::Request;
use crate::fold::{Trace, TraceKey};
use crate::lease::WRITE_WITHIN;

/// Nobody else has a say in these fields.
const MANAGER: &str = "kube-tcpstates-operator";
/// A server that asks for patience and does not say how much.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why something was not written.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is gone, or another of the same name is there.
    Gone,
    /// The server asks for so much patience.
    Busy(Duration),
    /// The server does not take what it says, and why.
    Invalid(String),
    /// Anything else, and what it says.
    Failed(Trouble, String),
}

impl Failure {
    /// As metrics have it.
    pub(super) const fn outcome(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Busy(_) => "busy",
            Self::Invalid(_) | Self::Failed(..) => "failed",
        }
    }

    fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(refusal) if matches!(refusal.code, 404 | 409) => Self::Gone,
            kube::Error::Api(refusal) if matches!(refusal.code, 429 | 503) => {
                let asked = refusal.details.as_ref().map_or(0, |details| details.retry_after_seconds);
                Self::Busy(Duration::from_secs(asked.into()).max(PATIENCE))
            }
            kube::Error::Api(refusal) if refusal.code == 422 => Self::Invalid(reason_of(error)),
            error => Self::Failed(Trouble::of_request(error), reason_of(error)),
        }
    }
}

/// Writes what a trace's status is to be. Given up in time for another operator to begin.
pub(super) async fn status(client: Client, trace: &Trace, status: &TraceStatus) -> Result<(), Failure> {
    let TraceKey { namespace, name } = &trace.key;
    let (kind, resource) = match trace.key.kind() {
        TraceKind::Namespaced => ("TcpStateTrace", ApiResource::erase::<TcpStateTrace>(&())),
        TraceKind::Cluster => ("ClusterTcpStateTrace", ApiResource::erase::<ClusterTcpStateTrace>(&())),
    };
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let mut told = json!(status);
    for list in ["failingNodes", "uncoveredNodes"] {
        // A list that is empty is said to be: to leave it out takes it away, which old servers cannot do.
        if told.get(list).is_none() {
            told[list] = json!([]);
        }
    }
    let object = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind,
        // With the uid it is refused where another trace has the name by now.
        "metadata": {"name": name, "namespace": namespace, "uid": trace.uid},
        "status": told,
    });
    in_time(write_status(&api, name, MANAGER, &object)).await
}

/// Tells something of a trace.
pub(super) async fn event(client: Client, request: &Request) -> Result<(), Failure> {
    match request {
        Request::Make(event) => {
            let event: Event = serde_json::from_value(event.clone())
                .map_err(|error| Failure::Failed(Trouble::Failing, error.to_string()))?;
            let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
            let api: Api<Event> = Api::namespaced(client, namespace);
            in_time(api.create(&PostParams::default(), &event)).await
        }
        Request::Again { namespace, name, patch } => {
            let api: Api<Event> = Api::namespaced(client, namespace);
            in_time(api.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await
        }
    }
}

async fn in_time<T>(request: impl Future<Output = kube::Result<T>>) -> Result<(), Failure> {
    match tokio::time::timeout(WRITE_WITHIN, request).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Failure::of(&error)),
        Err(_) => {
            let reason = format!("no answer within {} s", WRITE_WITHIN.as_secs());
            Err(Failure::Failed(Trouble::Failing, reason))
        }
    }
}
