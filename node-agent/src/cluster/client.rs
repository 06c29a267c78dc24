//! The connection to the API server: where it is, who the agent is to it, how long anything may take.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderValue, header::USER_AGENT};
use kube::client::{Client, ClientBuilder};
use kube::config::{Config, InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::layer::{GuardLayer, OnAnswer};

/// A TCP and TLS connection takes no longer. What is under way when the server comes back must fail soon enough for the
/// agent to be in step within five seconds.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// A request is sent within this.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// A connection that has been silent for so long is dead: a watch has a bookmark about once a minute.
const SILENT_FOR: Duration = Duration::from_secs(95);

/// Why there is no client. The server itself is not asked yet: it may be away.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig is not usable.
    #[error("kubeconfig {path}: {source}")]
    Kubeconfig {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        source: KubeconfigError,
    },
    /// Neither in a pod nor with a kubeconfig.
    #[error(
        "not in a pod with a service account ({0}); outside of a cluster name a kubeconfig with --kubeconfig"
    )]
    NotInCluster(#[from] InClusterError),
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
    #[error("client of {url}: {source}")]
    Build {
        /// The server.
        url: String,
        /// What is wrong.
        source: Box<kube::Error>,
    },
}

/// A client from a kubeconfig, or from the service account of the pod. `on_answer` is told of every answer.
pub(super) async fn client(kubeconfig: Option<&Path>, on_answer: OnAnswer) -> Result<Client, ClientError> {
    let (mut config, origin) = match kubeconfig {
        Some(path) => (from_file(path).await?, format!("kubeconfig {}", path.display())),
        None => (Config::incluster()?, "service account".to_owned()),
    };
    let https = config.cluster_url.scheme_str() == Some("https");
    let ca_missing = config.root_cert.as_ref().is_none_or(Vec::is_empty);
    if https && ca_missing && !config.accept_invalid_certs && !has_system_certificates() {
        return Err(ClientError::NoCaCertificates { origin });
    }
    config.connect_timeout = Some(CONNECT_WITHIN);
    config.read_timeout = Some(SILENT_FOR);
    config.write_timeout = Some(WRITE_WITHIN);
    // The watches and the gate decide when to try again.
    config.default_retry = false;
    let agent = concat!("kube-tcpstates/", crate::version!());
    config.headers.push((USER_AGENT, HeaderValue::from_static(agent)));
    let url = config.cluster_url.to_string();
    let builder = ClientBuilder::try_from(config).map_err(|source| {
        if source.to_string().contains("No CA certificates") {
            return ClientError::NoCaCertificates { origin };
        }
        ClientError::Build { url, source: Box::new(source) }
    })?;
    Ok(builder.with_layer(&GuardLayer::new(on_answer)).build())
}

async fn from_file(path: &Path) -> Result<Config, ClientError> {
    let wrong = |source| ClientError::Kubeconfig { path: path.to_owned(), source };
    let file = Kubeconfig::read_from(path).map_err(wrong)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(wrong)
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

/// What an error says, with its causes, in one line. What the server says stands for itself.
pub(super) fn reason_of(error: &(dyn Error + 'static)) -> String {
    let api = |error: &(dyn Error + 'static)| match error.downcast_ref() {
        Some(kube::Error::Api(status)) if !status.message.is_empty() => Some(status.message.clone()),
        _ => None,
    };
    if let Some(message) = api(error).or_else(|| error.source().and_then(api)) {
        return message;
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::client;

    async fn error_of(kubeconfig: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), kubeconfig).unwrap();
        let error = client(Some(file.path()), Arc::new(|_| ())).await.err().unwrap().to_string();
        error.replace(&file.path().display().to_string(), "FILE")
    }

    #[tokio::test]
    async fn an_unusable_kubeconfig_is_named_with_what_is_wrong() {
        let missing = client(Some("/nowhere/kubeconfig".as_ref()), Arc::new(|_| ())).await.err().unwrap();
        assert!(missing.to_string().starts_with("kubeconfig /nowhere/kubeconfig: "), "{missing}");
        let error = error_of("apiVersion: v1\nkind: Config\n").await;
        assert!(error.starts_with("kubeconfig FILE: ") && error.contains("context"), "{error}");
        let error = error_of(
            "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1', \
             certificate-authority: /nowhere/ca.crt}}]\nusers: [{name: u, user: {}}]\n\
             contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n",
        )
        .await;
        assert!(error.contains("certificate authority") && error.contains("/nowhere/ca.crt"), "{error}");
    }
}
