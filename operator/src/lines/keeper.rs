//! Keeps up what the server needs: whom to believe, what to show, and that kube-apiserver believes it in turn.
//!
//! ```text
//!  ConfigMap kube-system/extension-apiserver-authentication ─► FrontProxy ─┐
//!                                                                          ├─► Current ─► server
//!  own certificate, or files ──────────────────────────────────────────────┘
//!        └─► caBundle of the APIService, unless files
//! ```

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use kube_tcpstates_client::reason_of;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::bundle;
use super::certificate::{Certificate, Files};
use super::identity::FrontProxy;
use super::query::{GROUP, VERSION};

const MANAGER: &str = "kube-tcpstates-operator";
const CONFIG_MAP: &str = "extension-apiserver-authentication";
/// How often all of it is looked at; and how soon again, the first time that it did not work.
const EVERY: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_secs(2);
/// A renewed certificate is shown once kube-apiserver has had time to read the bundle that holds it.
const SHOWN_AFTER: Duration = Duration::from_mins(2);
/// Two operators that write the bundle at the same time.
const ATTEMPTS: u32 = 5;

/// What the server works with now.
pub(crate) struct Current {
    /// Takes connections.
    pub(crate) tls: Arc<ServerConfig>,
    /// Believes what they say.
    pub(crate) proxy: FrontProxy,
}

/// See the module.
pub(crate) struct Keeper {
    client: Client,
    files: Option<Files>,
    /// The names under which kube-apiserver reaches the server.
    names: Vec<String>,
    /// The one to show, and the one that will be; since when the `APIService` has it.
    certificates: Vec<(Certificate, Option<Instant>)>,
    /// The one that is shown.
    shown: Option<Certificate>,
    current: watch::Sender<Option<Arc<Current>>>,
    said: Option<String>,
}

impl Keeper {
    /// Nothing is there yet.
    pub(crate) fn new(
        client: Client,
        files: Option<Files>,
        names: Vec<String>,
        current: watch::Sender<Option<Arc<Current>>>,
    ) -> Self {
        Self { client, files, names, certificates: Vec::new(), shown: None, current, said: None }
    }

    /// For ever. Each trouble is logged once, and its end.
    pub(crate) async fn run(mut self) {
        let mut again = AGAIN;
        loop {
            let trouble = self.look().await.err().map(|error| told(&error));
            match (&trouble, &self.said) {
                (Some(trouble), said) if said.as_ref() != Some(trouble) => tracing::warn!("lines: {trouble}"),
                (None, Some(_)) => tracing::info!("lines: in order again"),
                _ => {}
            }
            let pause = if trouble.is_some() { again } else { EVERY };
            again = if trouble.is_some() { (again * 2).min(EVERY) } else { AGAIN };
            self.said = trouble;
            tokio::time::sleep(pause).await;
        }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        let proxy = self.front_proxy().await?;
        self.renew(Timestamp::now())?;
        if self.files.is_none() {
            self.tell_api_server().await?;
            let now = Instant::now();
            self.certificates.iter_mut().for_each(|(_, since)| *since = since.or(Some(now)));
        }
        let is_known = self.current.borrow().as_ref().is_some_and(|current| current.proxy == proxy);
        let (certificate, _) = self.certificates.first().context("there is a certificate")?;
        if self.shown.as_ref() != Some(certificate) || !is_known {
            let tls = tls(&proxy, certificate)?;
            self.shown = Some(certificate.clone());
            self.current.send_replace(Some(Arc::new(Current { tls, proxy })));
        }
        Ok(())
    }

    async fn front_proxy(&self) -> anyhow::Result<FrontProxy> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), "kube-system");
        let map = maps
            .get(CONFIG_MAP)
            .await
            .with_context(|| format!("read the ConfigMap kube-system/{CONFIG_MAP}"))?;
        let proxy = FrontProxy::read(&map.data.unwrap_or_default());
        proxy.map_err(anyhow::Error::msg).with_context(|| format!("the ConfigMap kube-system/{CONFIG_MAP}"))
    }

    /// Sees to the certificates.
    fn renew(&mut self, now: Timestamp) -> anyhow::Result<()> {
        if let Some(files) = &self.files {
            self.certificates = vec![(Certificate::read(files)?, None)];
            return Ok(());
        }
        let due = self.certificates.last().is_none_or(|(last, _)| last.renewed_at <= now);
        if due {
            self.certificates.push((Certificate::make(self.names.clone(), now)?, None));
        }
        let is_next = self
            .certificates
            .get(1)
            .and_then(|(_, since)| *since)
            .is_some_and(|since| since.elapsed() >= SHOWN_AFTER);
        if is_next {
            self.certificates.remove(0);
        }
        Ok(())
    }

    /// The bundle is read and written at one version: what another operator wrote meanwhile is not lost.
    async fn tell_api_server(&self) -> anyhow::Result<()> {
        let kind = GroupVersionKind::gvk("apiregistration.k8s.io", "v1", "APIService");
        let services: Api<DynamicObject> = Api::all_with(self.client.clone(), &ApiResource::from_gvk(&kind));
        let name = format!("{VERSION}.{GROUP}");
        let ours: Vec<String> =
            self.certificates.iter().map(|(certificate, _)| certificate.pem.clone()).collect();
        for _ in 0..ATTEMPTS {
            let service = services.get(&name).await.with_context(|| format!("read the APIService {name}"))?;
            let present = service.data["spec"]["caBundle"].as_str().unwrap_or_default();
            let present = decoded(present);
            let Some(bundle) = bundle::renewed(&present, &ours, Timestamp::now()) else { return Ok(()) };
            let patch = json!({
                "metadata": {"resourceVersion": service.metadata.resource_version},
                "spec": {"caBundle": k8s_openapi::ByteString(bundle.into_bytes())},
            });
            let parameters =
                PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            // Of the API server's own resources, those of this group know no server-side apply in 1.20: it panics.
            match services.patch(&name, &parameters, &Patch::Merge(&patch)).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("patch the caBundle of the APIService {name}"));
                }
            }
        }
        bail!("the caBundle of the APIService {name} changes too often")
    }
}

/// What was tried, and why it did not work. What the server says stands for itself.
fn told(error: &anyhow::Error) -> String {
    let mut told = Vec::new();
    for cause in error.chain() {
        if cause.is::<kube::Error>() {
            told.push(reason_of(cause));
            break;
        }
        told.push(cause.to_string());
    }
    told.join(": ")
}

/// Base64, as the API has bytes. What is not that holds no certificate.
fn decoded(text: &str) -> String {
    let bytes: Option<k8s_openapi::ByteString> = serde_json::from_value(json!(text)).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes.0).ok()).unwrap_or_default()
}

/// TLS 1.3, and certificates of the front proxy's authority. Without one a connection is answered, by 401.
fn tls(proxy: &FrontProxy, certificate: &Certificate) -> anyhow::Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(proxy.authority.as_bytes()) {
        roots
            .add(authority.context("requestheader-client-ca-file")?)
            .context("requestheader-client-ca-file")?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = verifier.allow_unauthenticated().build().context("requestheader-client-ca-file")?;
    let (chain, key) = certificate.parse()?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("TLS 1.3")?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .context("the serving certificate")?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicBool, Ordering};

    use http::{Request, Response, StatusCode};
    use kube::client::Body;

    use super::*;

    /// An API server that has what is asked for, or is down for the `APIService`.
    fn server(is_down: Arc<AtomicBool>) -> Client {
        let authority = Certificate::make(vec!["proxy".to_owned()], Timestamp::now()).unwrap().pem;
        let service = tower::service_fn(move |request: Request<Body>| {
            let data = json!({"requestheader-client-ca-file": authority,
                "requestheader-username-headers": "[\"X-Remote-User\"]"});
            let (status, object) = if request.uri().path().contains("configmaps") {
                (StatusCode::OK, json!({"metadata": {}, "data": data}))
            } else if is_down.load(Ordering::Relaxed) {
                (StatusCode::SERVICE_UNAVAILABLE, json!({"message": "down", "code": 503}))
            } else {
                (StatusCode::OK, json!({"metadata": {"name": "v1alpha1.lines.tcpstates.dev"}, "spec": {}}))
            };
            let body = Body::from(object.to_string().into_bytes());
            let answer = Response::builder().status(status).body(body).unwrap();
            async move { Ok::<_, Infallible>(answer) }
        });
        Client::new(service, "kube-tcpstates")
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewed_certificate_is_shown_though_the_api_server_is_away_when_its_time_comes() {
        let is_down = Arc::new(AtomicBool::new(false));
        let (sender, current) = watch::channel(None);
        let names = vec!["lines.kube-tcpstates.svc".to_owned()];
        let mut keeper = Keeper::new(server(Arc::clone(&is_down)), None, names, sender);
        keeper.look().await.unwrap();
        keeper.certificates[0].0.renewed_at = Timestamp::UNIX_EPOCH;
        let old = keeper.certificates[0].0.clone();
        is_down.store(true, Ordering::Relaxed);
        keeper.look().await.unwrap_err();
        let new = keeper.certificates[1].0.clone();
        tokio::time::advance(SHOWN_AFTER).await;
        is_down.store(false, Ordering::Relaxed);
        for _ in 0..2 {
            keeper.look().await.unwrap();
            assert_eq!(keeper.shown, Some(old.clone()), "it is shown before the API server believes it");
        }

        tokio::time::advance(SHOWN_AFTER).await;
        is_down.store(true, Ordering::Relaxed);
        keeper.look().await.unwrap_err();
        assert_eq!(keeper.shown, Some(old));
        is_down.store(false, Ordering::Relaxed);
        let before = current.borrow().clone().unwrap();
        keeper.look().await.unwrap();
        assert_eq!(keeper.shown, Some(new));
        assert!(!Arc::ptr_eq(&before, &current.borrow().clone().unwrap()), "the server has it");
    }
}
