//! What went wrong, in one sentence that says what to do. Pure.

use std::fmt;

use kube_tcpstates_client::{ClientError, reason_of};

/// One sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble(String);

impl Trouble {
    /// Says this.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        // Servers and libraries write more than one line at times.
        Self(text.into().split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<String> for Trouble {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        Self::new(reason_of(&error))
    }
}

/// Why a request was not answered as it should.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The API server does not know who asks.
    Unauthenticated,
    /// Who asks may not.
    Forbidden(String),
    /// It has no object of this name.
    NoObject(String),
    /// It has no such resource: what defines it is not installed.
    NoResource,
    /// It is not there now.
    Unavailable(String),
    /// It refuses what was sent.
    Refused(String),
    /// It could not be asked.
    Unreachable(String),
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = &error else { return Self::Unreachable(reason_of(&error)) };
        let message = status.message.trim().to_owned();
        match status.code {
            401 => Self::Unauthenticated,
            403 => Self::Forbidden(message),
            // Of an object the server says its name; of a resource nobody has defined, that there is none.
            404 if message.contains("not found") && !message.starts_with("404 page") => {
                Self::NoObject(message)
            }
            404 => Self::NoResource,
            429 | 500..=599 => Self::Unavailable(message),
            _ => Self::Refused(message),
        }
    }
}

impl Failure {
    /// As a sentence. `what` was tried, such as "make a trace in the namespace shop"; `right` is what one needs for it, as
    /// `kubectl auth can-i` takes it.
    pub(crate) fn trouble(self, what: &str, right: &str) -> Trouble {
        Trouble::new(match self {
            Self::Unauthenticated => {
                format!(
                    "cannot {what}: the API server does not know you; log in again, or choose another --context"
                )
            }
            Self::Forbidden(why) => {
                format!("you may not {what}: ask for the right (kubectl auth can-i {right} tells): {why}")
            }
            Self::NoObject(why) => format!("cannot {what}: {why}; see kubectl get, or choose another -n"),
            Self::NoResource => format!(
                "cannot {what}: kube-tcpstates is not installed in this cluster; an administrator does it with kubectl \
                 apply -f tcptrace.yaml"
            ),
            Self::Unavailable(why) => format!("cannot {what} now: {why}; try again"),
            Self::Refused(why) => format!("cannot {what}: the API server refuses it: {why}"),
            Self::Unreachable(why) => format!(
                "cannot {what}: the API server cannot be reached: {why}; see whether kubectl get --raw /livez works"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn of(code: u16, message: &str) -> String {
        let status = Status::failure(message, "").with_code(code);
        let failure = Failure::from(kube::Error::Api(Box::new(status)));
        failure.trouble("make a trace in shop", "create tcpstatetraces.tcpstates.dev -n shop").to_string()
    }

    #[test]
    fn every_refusal_is_one_sentence_that_says_what_to_do() {
        for (code, message, expected) in [
            (
                401,
                "Unauthorized",
                "cannot make a trace in shop: the API server does not know you; log in again",
            ),
            (
                403,
                "forbidden: User",
                "you may not make a trace in shop: ask for the right (kubectl auth can-i create",
            ),
            (404, "the server could not find the requested resource", "kube-tcpstates is not installed"),
            (404, "404 page not found\n", "kube-tcpstates is not installed"),
            (404, "namespaces \"shop\" not found", "namespaces \"shop\" not found; see kubectl get"),
            (429, "too many", "cannot make a trace in shop now: too many; try again"),
            (503, "the server is\ncurrently unable", "now: the server is currently unable; try again"),
            (422, "spec.ttl: Invalid value", "the API server refuses it: spec.ttl: Invalid value"),
        ] {
            let sentence = of(code, message);
            assert!(sentence.contains(expected) && !sentence.contains('\n'), "{sentence}");
        }
        let away = Failure::Unreachable("connection refused".to_owned()).trouble("look", "get pods");
        assert!(away.to_string().contains("cannot be reached: connection refused"), "{away}");
    }
}
