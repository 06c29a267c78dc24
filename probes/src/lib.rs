//! The HTTP server of metrics and probes. Everybody in the cluster may reach it, so nobody may hold it: one request a
//! connection, a limit on its time, and the oldest connection makes room for the newest.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// What a program tells of itself. Whoever asks waits, so an answer is made of what is known already.
pub trait Pages: Send + Sync + 'static {
    /// `/metrics`, in the `OpenMetrics` format.
    fn metrics(self: &Arc<Self>) -> Result<String, std::fmt::Error>;

    /// `/livez`: what hangs, if anything does.
    fn live(&self) -> Result<(), String>;

    /// `/readyz`: what is waited for, if anything is.
    fn ready(&self) -> Result<(), String>;
}

/// Of `/metrics`.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Connections at one time.
pub const CONNECTIONS: usize = 32;
/// The head of a request comes within this.
const HEAD_WITHIN: Duration = Duration::from_secs(3);
/// A connection lives no longer.
const DONE_WITHIN: Duration = Duration::from_secs(10);
/// A request's head is no longer.
const HEAD_MAX: usize = 16 * 1024;
/// After a failed accept: it will most likely fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for metrics and probes: {source}")]
pub struct ServeError {
    address: SocketAddr,
    source: io::Error,
}

/// Listens on an address. `::` is every address of both families, unless `net.ipv6.bindv6only` says otherwise; where there
/// is no IPv6, `0.0.0.0` stands for it.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) => match of_v4(address, error.kind()) {
            Some(other) => TcpListener::bind(other).await.map_err(|_| error),
            None => Err(error),
        },
        listener => listener,
    }
}

/// What to listen on where `address` could not be. Somebody else's port stays theirs.
fn of_v4(address: SocketAddr, why: io::ErrorKind) -> Option<SocketAddr> {
    let is_everything = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let is_taken = why == io::ErrorKind::AddrInUse;
    (is_everything && !is_taken).then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
}

/// Listens, and returns what serves for ever, with the address it got.
pub async fn serve(
    address: SocketAddr,
    pages: Arc<impl Pages>,
) -> Result<(SocketAddr, impl Future<Output = ()> + Send), ServeError> {
    let failed = |source| ServeError { address, source };
    let listener = listen(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((bound, accept(listener, pages)))
}

async fn accept(listener: TcpListener, pages: Arc<impl Pages>) {
    let mut connections: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() >= CONNECTIONS
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        let task = tokio::spawn(connection(stream, Arc::clone(&pages)));
        connections.push_back(task.abort_handle());
    }
}

async fn connection(stream: TcpStream, pages: Arc<impl Pages>) {
    let service = service_fn(|request| {
        let answered = answer(&request, &pages);
        async move { Ok::<_, Infallible>(answered) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .keep_alive(false)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever asked is gone or too slow: there is nobody to tell.
    let _ = tokio::time::timeout(DONE_WITHIN, serving).await;
}

fn answer(request: &Request<Incoming>, pages: &Arc<impl Pages>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
    }
    match request.uri().path() {
        "/metrics" => match pages.metrics() {
            Ok(body) => response(StatusCode::OK, OPEN_METRICS, body),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        "/livez" => probe(pages.live()),
        "/readyz" => probe(pages.ready()),
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /livez and /readyz\n".to_owned()),
    }
}

fn probe(verdict: Result<(), String>) -> Response<Full<Bytes>> {
    match verdict {
        Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", body)
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    /// Of a program that has just started.
    struct Starting;

    impl Pages for Starting {
        fn metrics(self: &Arc<Self>) -> Result<String, std::fmt::Error> {
            Ok("# EOF\n".to_owned())
        }

        fn live(&self) -> Result<(), String> {
            Ok(())
        }

        fn ready(&self) -> Result<(), String> {
            Err("not listed yet".to_owned())
        }
    }

    async fn server() -> SocketAddr {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, serving) = serve(loopback, Arc::new(Starting)).await.unwrap();
        tokio::spawn(serving);
        address
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: probes\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn each_path_answers_with_its_status_and_type() {
        let address = server().await;
        for (path, status, contains) in [
            ("/livez", "200 OK", "ok"),
            ("/readyz", "503 Service Unavailable", "not listed yet"),
            ("/metrics", "200 OK", "application/openmetrics-text; version=1.0.0"),
            ("/", "404 Not Found", "/metrics"),
        ] {
            let answer = get(address, path).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
            assert!(answer.contains(contains), "{path}: {answer}");
        }
    }

    #[tokio::test]
    async fn every_address_is_one_of_both_families() {
        let everything = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let (address, serving) = serve(everything, Arc::new(Starting)).await.unwrap();
        tokio::spawn(serving);
        let of_v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
        assert!(get(of_v4, "/livez").await.starts_with("HTTP/1.1 200"));
        // This machine may have no IPv6.
        if address.is_ipv6() && std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            let of_v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, address.port()));
            assert!(get(of_v6, "/livez").await.starts_with("HTTP/1.1 200"));
        }
    }

    #[test]
    fn without_ipv6_every_address_is_one_of_ipv4() {
        let instead = |address: &str, why| of_v4(address.parse().unwrap(), why);
        let unsupported = io::Error::from_raw_os_error(97).kind();
        assert_eq!(instead("[::]:9464", unsupported), Some("0.0.0.0:9464".parse().unwrap()));
        assert_eq!(instead("[::]:9464", io::ErrorKind::AddrInUse), None);
        assert_eq!(instead("[::1]:9464", unsupported), None);
        assert_eq!(instead("127.0.0.1:9464", unsupported), None);
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_an_error() {
        let taken = server().await;
        let error = listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, taken.port()))).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn clients_that_send_nothing_do_not_keep_others_from_an_answer() {
        let address = server().await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS * 3 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let answer = tokio::time::timeout(Duration::from_secs(2), get(address, "/livez")).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let mut first = silent.swap_remove(0);
        let closed = tokio::time::timeout(Duration::from_secs(2), first.read(&mut [0; 1])).await;
        assert!(matches!(closed, Ok(Ok(0) | Err(_))), "the oldest connection makes room");
    }
}
