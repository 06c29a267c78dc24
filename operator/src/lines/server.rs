//! The HTTPS server, for kube-apiserver alone.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::answer::{self, AGAIN_AFTER_S, Refusal};
use super::der::Certificate;
use super::identity::{FrontProxy, Stranger};
use super::keeper::Current;
use super::query::{Place, Query};
use super::readers::Readers;
use super::stream::{self, Lines, Sources};

/// Connections at one time. Readers are bounded on their own, and kube-apiserver keeps a few for what else it asks.
const CONNECTIONS: usize = 512;
/// TLS is set up, and a request's head comes, within this.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
const HEAD_MAX: usize = 64 * 1024;
/// After a failed accept: it will most likely fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What answers.
pub(crate) struct Server {
    /// Reads.
    pub(crate) sources: Arc<Sources>,
    /// Counts who reads.
    pub(crate) readers: Arc<Readers>,
    /// Whom to believe.
    pub(crate) current: watch::Receiver<Option<Arc<Current>>>,
}

impl Server {
    /// Serves for ever. It does not listen before kube-apiserver has been told what to believe; then it says so.
    pub(crate) async fn serve(mut self, address: SocketAddr, listens: impl FnOnce()) -> anyhow::Result<()> {
        self.current.wait_for(Option::is_some).await.context("nobody keeps the certificates")?;
        let listener = kube_tcpstates_probes::listen(address).await;
        let listener = listener.with_context(|| format!("cannot listen on {address} for lines"))?;
        tracing::info!("lines are served on {address}");
        listens();
        let server = Arc::new(self);
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let server = Arc::clone(&server);
            connections.spawn(async move {
                server.connection(stream).await;
                drop(permit);
            });
        }
    }

    async fn connection(&self, stream: TcpStream) {
        let Some(current) = self.current.borrow().clone() else { return };
        let accept = TlsAcceptor::from(Arc::clone(&current.tls)).accept(stream);
        // A client with a certificate of another authority does not get further than this.
        let Ok(Ok(stream)) = tokio::time::timeout(HEAD_WITHIN, accept).await else { return };
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let name = certificate.map(|certificate| {
            Certificate::read(certificate).and_then(|read| read.common_name).unwrap_or_default()
        });
        let name = name.as_deref();
        let proxy = &current.proxy;
        let service = service_fn(async |request| {
            let answer = match self.answer(proxy, name, &request).await {
                Ok(answer) => answer,
                Err(refusal) => refused(&refusal),
            };
            Ok::<_, Infallible>(answer)
        });
        // How a connection ends is nobody's concern: whoever asked has gone.
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(HEAD_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    async fn answer(
        &self,
        proxy: &FrontProxy,
        name: Option<&str>,
        request: &Request<Incoming>,
    ) -> Result<Response<Answer>, Refusal> {
        proxy.admit(name)?;
        let place = Place::of(request.uri().path()).ok_or(Refusal::NoPath)?;
        if let Some(document) = answer::document(&place) {
            return Ok(whole(StatusCode::OK, &document));
        }
        let Place::Lines(trace, subresource) = place else { return Err(Refusal::NoPath) };
        let caller = proxy.caller(request.headers())?;
        if request.method() != Method::GET {
            return Err(Refusal::NoMethod);
        }
        self.sources.access.may_read(&caller, &trace, subresource).await?;
        let query = Query::parse(request.uri().query().unwrap_or_default()).map_err(Refusal::BadRequest)?;
        let found = self.sources.access.find(&trace).await?;
        let reader = self.readers.enter(&caller.user, trace.namespace.as_deref());
        let reader = reader.map_err(|many| Refusal::TooMany(many.to_string()))?;
        let asked = stream::Request { trace, subresource, query, caller };
        let lines = stream::open(&self.sources, asked, found, reader).await?;
        let mut response = Response::new(Answer::Lines(lines));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

impl From<Stranger> for Refusal {
    fn from(stranger: Stranger) -> Self {
        match stranger {
            Stranger::NoCertificate | Stranger::NoUser => Self::Unauthorized(stranger.to_string()),
            Stranger::Name(_) => Self::Stranger(stranger.to_string()),
        }
    }
}

fn refused(refusal: &Refusal) -> Response<Answer> {
    let (status, object) = refusal.answer();
    let mut response = whole(status, &object);
    if matches!(refusal, Refusal::TooMany(_)) {
        response.headers_mut().insert(header::RETRY_AFTER, AGAIN_AFTER_S.into());
    }
    response
}

fn whole(status: StatusCode, document: &Value) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(Full::from(document.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// The body of an answer.
enum Answer {
    Whole(Full<Bytes>),
    Lines(Lines),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context),
            Self::Lines(lines) => Pin::new(lines).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Lines(lines) => lines.is_end_stream(),
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Lines(lines) => lines.size_hint(),
        }
    }
}
