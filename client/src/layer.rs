//! What every request to the API server passes through: the gate, the time limits, the counts.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, RETRY_AFTER};
use http::response::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use kube::client::Body;
use tokio::time::Instant;
use tower::{BoxError, Layer, Service, ServiceExt as _, buffer::Buffer};

use crate::gate::Gate;
use crate::resource::Resource;
use crate::token::TokenFile;

/// A whole answer takes no longer; of a watch, a log, or what is read as it comes, its beginning.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Requests that wait for a connection.
const BACKLOG: usize = 64;

/// A watch that ends by so much before its time has ended by itself: clocks differ.
const EARLY: Duration = Duration::from_secs(5);

/// Marks a request whose answer is read as it comes, by whoever made it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streamed;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestEnd {
    /// With an answer.
    Status(StatusCode),
    /// Without one in time.
    Timeout,
    /// Without one: no connection, or it broke.
    Broken,
}

impl RequestEnd {
    /// Whether the server is in trouble, or refuses the program as a whole. What it refuses of one resource (403, 404)
    /// or of one request says nothing about the rest.
    pub fn is_failure(self) -> bool {
        match self {
            Self::Status(status) => {
                status.is_server_error()
                    || status == StatusCode::TOO_MANY_REQUESTS
                    || status == StatusCode::UNAUTHORIZED
            }
            Self::Timeout | Self::Broken => true,
        }
    }

    /// Whether of a log this may be the failure of the pod's node, which says nothing about the server.
    fn may_be_a_kubelets(self) -> bool {
        match self {
            Self::Status(status) => status.is_server_error(),
            Self::Timeout => true,
            Self::Broken => false,
        }
    }

    /// The bounded set of values it has in metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Status(status) if status.is_success() => "2xx",
            Self::Status(StatusCode::UNAUTHORIZED) => "401",
            Self::Status(StatusCode::FORBIDDEN) => "403",
            Self::Status(StatusCode::NOT_FOUND) => "404",
            Self::Status(StatusCode::CONFLICT) => "409",
            Self::Status(StatusCode::GONE) => "410",
            Self::Status(StatusCode::TOO_MANY_REQUESTS) => "429",
            Self::Status(status) if status.is_server_error() => "5xx",
            Self::Status(_) => "other",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
        }
    }
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it was about, when the program has declared that.
    pub resource: Option<Resource>,
    /// It asked for a watch.
    pub watch: bool,
    /// How it ended.
    pub ending: RequestEnd,
}

impl Answer {
    /// The bounded set of values that the resource has in metrics.
    pub fn resource_label(self) -> &'static str {
        self.resource.map_or("other", Resource::plural)
    }

    /// The resource whose watch it started. One that was broken works again from then on: nothing may happen on it for
    /// hours.
    pub fn started_watch(self) -> Option<Resource> {
        let started = matches!(self.ending, RequestEnd::Status(status) if status.is_success());
        self.resource.filter(|_| self.watch && started)
    }
}

/// Told of every answer.
pub type OnAnswer = Arc<dyn Fn(Answer) + Send + Sync>;

/// Puts [`Guarded`] around a client's service.
#[derive(Clone)]
pub(crate) struct GuardLayer {
    gate: Arc<Gate>,
    resources: &'static [Resource],
    on_answer: OnAnswer,
    token: Option<Arc<TokenFile>>,
}

impl GuardLayer {
    /// With a gate of its own. Answers about one of `resources` are told with it.
    pub(crate) fn new(resources: &'static [Resource], on_answer: OnAnswer) -> Self {
        Self { gate: Arc::default(), resources, on_answer, token: None }
    }

    /// Requests carry the token that is in this file.
    pub(crate) fn with_token(self, token: Option<TokenFile>) -> Self {
        Self { token: token.map(Arc::new), ..self }
    }
}

impl<S, B> Layer<S> for GuardLayer
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError> + Send + Sync, Future: Send>
        + Send
        + 'static,
{
    type Service = Guarded<S::Future>;

    fn layer(&self, service: S) -> Self::Service {
        Guarded { inner: Buffer::new(service, BACKLOG), guard: self.clone() }
    }
}

/// A service behind the gate.
pub(crate) struct Guarded<F> {
    inner: Buffer<Request<Body>, F>,
    guard: GuardLayer,
}

impl<F, B, E> Service<Request<Body>> for Guarded<F>
where
    F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    E: Into<BoxError> + Send + Sync + 'static,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response<Answered<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Each request waits for itself, behind the gate.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (inner, guard) = (self.inner.clone(), self.guard.clone());
        Box::pin(guard.send(inner, request))
    }
}

impl GuardLayer {
    async fn send<F, B, E>(
        self,
        inner: Buffer<Request<Body>, F>,
        mut request: Request<Body>,
    ) -> Result<Response<Answered<B>>, BoxError>
    where
        F: Future<Output = Result<Response<B>, E>> + Send + 'static,
        E: Into<BoxError> + Send + Sync + 'static,
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let resource = Resource::of_path(request.uri().path(), self.resources);
        let watch = watch_of(request.uri().query());
        let log = is_log(request.uri().path());
        let streamed = request.extensions().get::<Streamed>().is_some();
        self.gate.pass().await;
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.header());
        }
        let answered = tokio::time::timeout(ANSWER_WITHIN, async {
            let response = inner.oneshot(request).await?;
            let (head, body) = response.into_parts();
            if !log || head.status == StatusCode::TOO_MANY_REQUESTS {
                self.hold(&head);
            }
            let body = if streamed {
                Answered::Streamed { body, gate: Arc::clone(&self.gate) }
            } else if let (Some(lasts), true) = (watch, head.status.is_success()) {
                let due = Instant::now() + lasts.saturating_sub(EARLY);
                Answered::Watch { body, gate: Arc::clone(&self.gate), due }
            } else if log && head.status.is_success() {
                Answered::Log(body)
            } else {
                Answered::Whole(Full::new(body.collect().await.map_err(Into::into)?.to_bytes()))
            };
            Ok(Response::from_parts(head, body))
        });
        let (ending, result) = match answered.await {
            Ok(Ok(response)) => (RequestEnd::Status(response.status()), Ok(response)),
            Ok(Err(error)) => (RequestEnd::Broken, Err(error)),
            Err(_) => {
                (RequestEnd::Timeout, Err(format!("no answer within {} s", ANSWER_WITHIN.as_secs()).into()))
            }
        };
        if !ending.is_failure() {
            self.gate.succeed();
        } else if !(log && ending.may_be_a_kubelets()) {
            self.gate.fail();
        }
        (self.on_answer)(Answer { resource, watch: watch.is_some(), ending });
        result
    }

    /// A server that says when to come back is believed.
    fn hold(&self, head: &Parts) {
        let seconds = || head.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok();
        if (head.status == StatusCode::TOO_MANY_REQUESTS || head.status.is_server_error())
            && let Some(seconds) = seconds()
        {
            self.gate.hold(Duration::from_secs(seconds));
        }
    }
}

/// How long a watch is to last, if the request is one.
fn watch_of(query: Option<&str>) -> Option<Duration> {
    let pairs = || query.unwrap_or_default().split('&');
    pairs().find(|pair| *pair == "watch=true" || *pair == "watch=1")?;
    let seconds = pairs().find_map(|pair| pair.strip_prefix("timeoutSeconds=")?.parse().ok());
    Some(Duration::from_secs(seconds.unwrap_or(0)))
}

/// Whether it is for what a pod's container says: megabytes, or for as long as the container runs.
fn is_log(path: &str) -> bool {
    path.starts_with("/api/v1/namespaces/") && path.ends_with("/log")
}

/// The body of an answer.
pub(crate) enum Answered<B> {
    /// All of it.
    Whole(Full<Bytes>),
    /// As it comes. What breaks it off makes the server suspect.
    Streamed {
        /// The rest.
        body: B,
        /// The gate to tell.
        gate: Arc<Gate>,
    },
    /// Events as they come. Its end, good or bad, makes the server suspect, unless it was due: all watches end together
    /// when it goes down.
    Watch {
        /// The events.
        body: B,
        /// The gate to tell.
        gate: Arc<Gate>,
        /// It may end by itself from then on.
        due: Instant,
    },
    /// What a container says, as it comes. It ends with the container, which says nothing about the server.
    Log(B),
}

impl<B> HttpBody for Answered<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let (body, gate, due) = match self.get_mut() {
            Self::Whole(body) => return Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Log(body) => return Pin::new(body).poll_frame(context).map_err(Into::into),
            Self::Streamed { body, gate } => (body, gate, None),
            Self::Watch { body, gate, due } => (body, gate, Some(*due)),
        };
        let polled = Pin::new(body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Err(_))) => gate.suspect(),
            Poll::Ready(None) if due.is_some_and(|due| Instant::now() < due) => gate.suspect(),
            _ => {}
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Streamed { body, .. } | Self::Watch { body, .. } | Self::Log(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Streamed { body, .. } | Self::Watch { body, .. } | Self::Log(body) => body.size_hint(),
        }
    }
}
