//! The connection to the API server: where it is, who the program is to it, how long anything may take.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderValue, Request, Response, header::USER_AGENT};
use hyper::body::Incoming;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::{Builder, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, Client, ConfigExt as _};
use kube::config::{Config, InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use tower::{BoxError, Layer as _, ServiceBuilder, ServiceExt as _, util::BoxService};

use crate::layer::{GuardLayer, OnAnswer};
use crate::reason::reason_of;
use crate::resource::Resource;
use crate::token::{TokenError, TokenFile};

/// A TCP and TLS connection takes no longer. What is under way when the server comes back must fail soon enough for the
/// program to be in step within five seconds.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// A request is sent within this.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// A connection on which nothing has come for so long is dead, though whoever stands between confirms each packet. A watch
/// has a bookmark about once a minute, but of a current server the first only after two.
const SILENT_FOR: Duration = Duration::from_secs(150);
/// A connection on which nothing has come for so long is probed. With what follows, one whose packets are dropped ends
/// within 15 s, though the kernel's timers may be an eighth late.
const PROBED_AFTER: Duration = Duration::from_secs(4);
/// Between two probes.
const PROBED_EVERY: Duration = Duration::from_secs(3);
/// Probes without an answer.
const PROBES: u32 = 3;
/// What was sent is confirmed within this, probes too: else the connection is dead.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(10);

/// Why there is no client. The server itself is not asked yet: it may be away. Each says all that is known, and has no
/// cause to be added: those of kube's errors stand in their texts already.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig is not usable.
    #[error("kubeconfig {path}: {reason}")]
    Kubeconfig {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Neither in a pod nor with a kubeconfig.
    #[error(
        "not in a pod with a service account ({reason}); outside of a cluster name a kubeconfig with --kubeconfig"
    )]
    NotInCluster {
        /// What is not as it is in a pod.
        reason: String,
    },
    /// Neither a kubeconfig anywhere nor a pod.
    #[error("no kubeconfig: there is none at ~/.kube/config and in KUBECONFIG; name one with --kubeconfig")]
    NoKubeconfig,
    /// What is to be the server's address is none.
    #[error("{origin}: the API server's address {url} is none: it is like https://10.0.0.1:6443")]
    NoAddress {
        /// Whose configuration it is.
        origin: String,
        /// What stands there.
        url: String,
    },
    /// Nothing to check the server's certificate by.
    #[error(
        "{origin}: no CA certificates to check the API server's certificate by: give the cluster a \
         certificate-authority or certificate-authority-data"
    )]
    NoCaCertificates {
        /// Whose configuration it is.
        origin: String,
    },
    /// Certificates or tokens that cannot be used.
    #[error("client of {url}: {reason}")]
    Build {
        /// The server.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A way to the server that is not built in.
    #[error("{origin}: proxies are not supported: {proxy}")]
    Proxy {
        /// Whose configuration it is.
        origin: String,
        /// The proxy.
        proxy: String,
    },
    /// The token's file.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl ClientError {
    /// The kubeconfig is not usable.
    pub(crate) fn kubeconfig(path: impl Into<PathBuf>, error: &KubeconfigError) -> Self {
        Self::Kubeconfig { path: path.into(), reason: reason_of(error) }
    }

    /// Certificates or tokens cannot be used.
    pub(crate) fn build(url: String, error: &kube::Error) -> Self {
        Self::Build { url, reason: reason_of(error) }
    }

    fn not_in_cluster(error: &InClusterError) -> Self {
        Self::NotInCluster { reason: reason_of(error) }
    }
}

/// What a client is made from.
pub struct ClientConfig<'a> {
    /// Name and version of the program, as they stand in the server's audit log.
    pub user_agent: &'static str,
    /// Where the server is and who the program is to it; `None` for the service account of the pod.
    pub kubeconfig: Option<&'a Path>,
    /// The resources that answers are told of by name.
    pub resources: &'static [Resource],
    /// Told of every answer.
    pub on_answer: OnAnswer,
}

impl ClientConfig<'_> {
    /// The client. Nothing is sent yet.
    pub async fn client(self) -> Result<Client, ClientError> {
        let (mut config, origin) = match self.kubeconfig {
            Some(path) => (from_file(path).await?, format!("kubeconfig {}", path.display())),
            None => (in_pod()?, "service account".to_owned()),
        };
        require_address(&mut config, &origin)?;
        require_ca_certificates(&config, &origin)?;
        if let Some(proxy) = &config.proxy_url {
            return Err(ClientError::Proxy { origin, proxy: proxy.to_string() });
        }
        config.headers.push((USER_AGENT, HeaderValue::from_static(self.user_agent)));
        let token = token_of(&mut config)?;
        let url = config.cluster_url.to_string();
        let service = service(&config).map_err(|source| {
            if source.to_string().contains("No CA certificates") {
                return ClientError::NoCaCertificates { origin };
            }
            ClientError::build(url, &source)
        })?;
        let guarded = GuardLayer::new(self.resources, self.on_answer).with_token(token).layer(service);
        Ok(Client::new(guarded, config.default_namespace))
    }
}

/// The token's file, which is read here from now on and no more by kube, to which the newline at the end of one is part of
/// the token.
fn token_of(config: &mut Config) -> Result<Option<TokenFile>, TokenError> {
    if config.auth_info.token.is_some() {
        return Ok(None);
    }
    config.auth_info.token_file.take().map(TokenFile::open).transpose()
}

/// What sends requests: as kube's own, but on sockets that notice when nobody answers any more.
fn service(config: &Config) -> kube::Result<BoxService<Request<Body>, Response<Incoming>, BoxError>> {
    let tls = config.rustls_https_connector_with_connector(connector())?;
    let mut connector = TimeoutConnector::new(tls);
    connector.set_connect_timeout(Some(CONNECT_WITHIN));
    connector.set_read_timeout(Some(SILENT_FOR));
    connector.set_write_timeout(Some(WRITE_WITHIN));
    let client = Builder::new(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(service.map_err(BoxError::from).boxed())
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(PROBED_AFTER));
    connector.set_keepalive_interval(Some(PROBED_EVERY));
    connector.set_keepalive_retries(Some(PROBES));
    connector.set_tcp_user_timeout(Some(CONFIRMED_WITHIN));
    connector
}

fn in_pod() -> Result<Config, ClientError> {
    Config::incluster().map_err(|error| ClientError::not_in_cluster(&error))
}

async fn from_file(path: &Path) -> Result<Config, ClientError> {
    let wrong = |error| ClientError::kubeconfig(path, &error);
    let file = Kubeconfig::read_from(path).map_err(wrong)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(wrong)
}

/// Requires an address that requests can be sent to. Without a scheme it is one of `https`.
pub(crate) fn require_address(config: &mut Config, origin: &str) -> Result<(), ClientError> {
    if config.cluster_url.scheme().is_some() && config.cluster_url.host().is_some() {
        return Ok(());
    }
    let wrong = || ClientError::NoAddress { origin: origin.to_owned(), url: config.cluster_url.to_string() };
    let authority = config.cluster_url.authority().ok_or_else(wrong)?;
    let address = http::Uri::builder().scheme("https").authority(authority.as_str()).path_and_query("/");
    config.cluster_url = address.build().map_err(|_| wrong())?;
    Ok(())
}

/// An error where the server's certificate could be checked by nothing.
pub(crate) fn require_ca_certificates(config: &Config, origin: &str) -> Result<(), ClientError> {
    let https = config.cluster_url.scheme_str() == Some("https");
    let ca_missing = config.root_cert.as_ref().is_none_or(Vec::is_empty);
    if https && ca_missing && !config.accept_invalid_certs && !has_system_certificates() {
        return Err(ClientError::NoCaCertificates { origin: origin.to_owned() });
    }
    Ok(())
}

/// Where distributions keep the certificates of public authorities; an image made from nothing has none.
fn has_system_certificates() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|path| Path::new(&path).exists());
    set("SSL_CERT_FILE")
        || set("SSL_CERT_DIR")
        || ["/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/ssl/cert.pem"]
            .iter()
            .any(|path| Path::new(path).exists())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use kube::Config;

    use super::{ClientConfig, ClientError, InClusterError, require_address};

    async fn error_with(kubeconfig: &Path) -> ClientError {
        let config = ClientConfig {
            user_agent: "test",
            kubeconfig: Some(kubeconfig),
            resources: &[],
            on_answer: Arc::new(|_| ()),
        };
        config.client().await.err().unwrap()
    }

    async fn error_of(kubeconfig: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), kubeconfig).unwrap();
        error_with(file.path()).await.to_string().replace(&file.path().display().to_string(), "FILE")
    }

    #[tokio::test]
    async fn an_unusable_kubeconfig_is_named_with_what_is_wrong() {
        let missing = error_with("/nowhere/kubeconfig".as_ref()).await;
        assert!(missing.to_string().starts_with("kubeconfig /nowhere/kubeconfig: "), "{missing}");
        let error = error_of("apiVersion: v1\nkind: Config\n").await;
        assert!(error.starts_with("kubeconfig FILE: ") && error.contains("context"), "{error}");
        let error = error_of(
            "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:1', \
             proxy-url: 'http://proxy:3128'}}]\nusers: [{name: u, user: {}}]\n\
             contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n",
        )
        .await;
        assert_eq!(error, "kubeconfig FILE: proxies are not supported: http://proxy:3128/");
        let error = error_of(
            "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1', \
             certificate-authority: /nowhere/ca.crt}}]\nusers: [{name: u, user: {}}]\n\
             contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n",
        )
        .await;
        assert!(error.contains("certificate authority") && error.contains("/nowhere/ca.crt"), "{error}");
    }

    /// As the programs print errors, with their causes.
    fn told(error: &ClientError) -> String {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        text
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_once() {
        let missing = told(&error_with("/nowhere/kubeconfig".as_ref()).await);
        assert_eq!(missing.matches("No such file").count(), 1, "{missing}");
        let no_variable = InClusterError::ReadEnvironmentVariable(std::env::VarError::NotPresent);
        let outside = told(&ClientError::not_in_cluster(&no_variable));
        let reason = outside.split_once('(').unwrap().1.split_once("); ").unwrap().0;
        let innermost = reason.rsplit(": ").next().unwrap();
        assert_eq!(outside.matches(innermost).count(), 1, "{outside}");
    }

    #[test]
    fn an_address_without_a_scheme_is_one_of_https_and_what_is_none_is_named() {
        let address = |text: &str| {
            let mut config = Config::new(text.parse().unwrap());
            require_address(&mut config, "the flags").map(|()| config.cluster_url.to_string())
        };
        assert_eq!(address("10.0.0.1:6443").unwrap(), "https://10.0.0.1:6443/");
        assert_eq!(address("api.example").unwrap(), "https://api.example/");
        assert_eq!(address("http://127.0.0.1:1/behind").unwrap(), "http://127.0.0.1:1/behind");
        let error = address("/api").unwrap_err().to_string();
        assert!(error.starts_with("the flags:") && error.contains("/api"), "{error}");
    }
}
