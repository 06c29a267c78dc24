//! Answers that are one document: what the API has, and why something is refused, as kubectl shows it. Pure.

use http::StatusCode;
use serde_json::{Value, json};

use super::query::{GROUP, Place, Subresource, Trace, VERSION};

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nobody knows who asks.
    Unauthorized(String),
    /// Who asks is not the API server.
    Stranger(String),
    /// The reader has no right to it.
    Forbidden(String),
    /// There is no such path.
    NoPath,
    /// There is nothing but reading.
    NoMethod,
    /// There is no such trace.
    NoTrace(Trace),
    /// A parameter is wrong.
    BadRequest(String),
    /// Others read already.
    TooMany(String),
    /// It cannot be answered now.
    Unavailable(String),
}

/// When to ask again. kubectl does so by itself, ten times.
pub(crate) const AGAIN_AFTER_S: u32 = 1;

impl Refusal {
    /// That a user may not read a trace, as kube-apiserver says it.
    pub(crate) fn forbidden(user: &str, trace: &Trace, subresource: Subresource) -> Self {
        let place = match &trace.namespace {
            Some(namespace) => format!("in the namespace {namespace:?}"),
            None => "at the cluster scope".to_owned(),
        };
        Self::Forbidden(format!(
            "{plural}.{GROUP} {name:?} is forbidden: User {user:?} cannot get resource \"{plural}/{subresource}\" in API group \
             {GROUP:?} {place}",
            plural = trace.plural(),
            name = trace.name,
            subresource = subresource.as_str(),
        ))
    }

    /// Its status, and the object that says why.
    pub(crate) fn answer(&self) -> (StatusCode, Value) {
        let (code, reason, message) = match self {
            Self::Unauthorized(why) => (StatusCode::UNAUTHORIZED, "Unauthorized", why.clone()),
            Self::Stranger(why) | Self::Forbidden(why) => (StatusCode::FORBIDDEN, "Forbidden", why.clone()),
            Self::NoPath => (
                StatusCode::NOT_FOUND,
                "NotFound",
                "the server could not find the requested resource".to_owned(),
            ),
            Self::NoMethod => {
                (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "lines can only be read: get".to_owned())
            }
            // The trace itself is an object of another group.
            Self::NoTrace(trace) => (
                StatusCode::NOT_FOUND,
                "NotFound",
                format!("{}.tcpstates.dev {:?} not found", trace.plural(), trace.name),
            ),
            Self::BadRequest(why) => (StatusCode::BAD_REQUEST, "BadRequest", why.clone()),
            Self::TooMany(why) => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", why.clone()),
            Self::Unavailable(why) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", why.clone()),
        };
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code.as_u16(),
        });
        match self {
            Self::NoTrace(trace) => {
                status["details"] =
                    json!({"name": trace.name, "group": "tcpstates.dev", "kind": trace.plural()});
            }
            Self::TooMany(_) => status["details"] = json!({"retryAfterSeconds": AGAIN_AFTER_S}),
            _ => {}
        }
        (code, status)
    }
}

/// The document at a place; None where there are lines.
pub(crate) fn document(place: &Place) -> Option<Value> {
    let version = json!({"groupVersion": format!("{GROUP}/{VERSION}"), "version": VERSION});
    let group = json!({"name": GROUP, "versions": [version], "preferredVersion": version});
    let of_kind = |kind: &str, mut object: Value| {
        object["kind"] = json!(kind);
        object["apiVersion"] = json!("v1");
        object
    };
    Some(match place {
        Place::Health => json!("ok"),
        Place::Groups => of_kind("APIGroupList", json!({"groups": [group]})),
        Place::Group => of_kind("APIGroup", group),
        Place::Resources => of_kind(
            "APIResourceList",
            json!({"groupVersion": format!("{GROUP}/{VERSION}"), "resources": resources()}),
        ),
        // No objects are stored here, so there is nothing to describe.
        Place::OpenApi2 => {
            json!({"swagger": "2.0", "info": {"title": "kube-tcpstates", "version": VERSION}, "paths": {}})
        }
        Place::OpenApi3 => json!({"paths": {}}),
        Place::Lines(..) => return None,
    })
}

fn resources() -> Vec<Value> {
    let kinds = [("tcpstatetraces", true), ("clustertcpstatetraces", false)];
    let all = kinds.into_iter().flat_map(|kind| [Subresource::Lines, Subresource::Log].map(|it| (kind, it)));
    all.map(|((plural, namespaced), subresource)| {
        json!({
            "name": format!("{plural}/{}", subresource.as_str()), "singularName": "", "namespaced": namespaced,
            "kind": "TraceLines", "verbs": ["get"],
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(namespace: Option<&str>) -> Trace {
        Trace { namespace: namespace.map(str::to_owned), name: "checkout".to_owned() }
    }

    #[test]
    fn a_refusal_says_what_kubectl_shows() {
        let forbidden = |namespace| Refusal::forbidden("tenant", &trace(namespace), Subresource::Lines);
        for (refusal, code, reason, message) in [
            (
                forbidden(Some("shop")),
                403,
                "Forbidden",
                r#"tcpstatetraces.lines.tcpstates.dev "checkout" is forbidden: User "tenant" cannot get resource "tcpstatetraces/lines" in API group "lines.tcpstates.dev" in the namespace "shop""#,
            ),
            (
                forbidden(None),
                403,
                "Forbidden",
                r#"clustertcpstatetraces.lines.tcpstates.dev "checkout" is forbidden: User "tenant" cannot get resource "clustertcpstatetraces/lines" in API group "lines.tcpstates.dev" at the cluster scope"#,
            ),
            (
                Refusal::NoTrace(trace(Some("shop"))),
                404,
                "NotFound",
                r#"tcpstatetraces.tcpstates.dev "checkout" not found"#,
            ),
            (Refusal::TooMany("many".to_owned()), 429, "TooManyRequests", "many"),
        ] {
            let (status, object) = refusal.answer();
            assert_eq!(status.as_u16(), code);
            assert_eq!((&object["code"], &object["kind"]), (&json!(code), &json!("Status")));
            assert_eq!(
                (object["reason"].as_str(), object["message"].as_str()),
                (Some(reason), Some(message))
            );
        }
        assert_eq!(Refusal::TooMany(String::new()).answer().1["details"]["retryAfterSeconds"], AGAIN_AFTER_S);
    }

    #[test]
    fn the_resources_are_those_that_paths_lead_to() {
        let resources = document(&Place::Resources).unwrap();
        for resource in resources["resources"].as_array().unwrap() {
            let (plural, subresource) = resource["name"].as_str().unwrap().split_once('/').unwrap();
            let namespace = if resource["namespaced"] == true { "/namespaces/shop" } else { "" };
            let path = format!("/apis/{GROUP}/{VERSION}{namespace}/{plural}/checkout/{subresource}");
            let Some(Place::Lines(trace, found)) = Place::of(&path) else { panic!("{path}") };
            assert_eq!((trace.plural(), found.as_str()), (plural, subresource));
        }
        assert_eq!(resources["resources"].as_array().unwrap().len(), 4);
    }
}
