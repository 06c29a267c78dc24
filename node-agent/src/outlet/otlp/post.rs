//! One request, and what the answer means.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use flate2::{Compression, write::GzEncoder};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use prost::Message as _;
use ureq::{
    Agent,
    http::{HeaderMap, StatusCode},
    tls::{ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem},
};

use super::target::OtlpTarget;

/// An answer is short.
const ANSWER_AT_MOST: u64 = 64 << 10;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It arrived, all but so many records that the endpoint refused.
    Arrived {
        /// How many.
        refused: u64,
    },
    /// Make it again, not before the time the endpoint asks for.
    Again {
        /// That time from now.
        after: Option<Duration>,
        /// For people.
        why: String,
    },
    /// It will never be taken.
    Refused {
        /// For people.
        why: String,
    },
}

/// Posts requests to one endpoint.
pub(super) struct Post {
    agent: Agent,
    target: OtlpTarget,
}

impl Post {
    /// Reads the certificates. Nothing is sent yet.
    pub(super) fn new(target: OtlpTarget) -> anyhow::Result<Self> {
        let mut tls = TlsConfig::builder();
        if let Some(path) = &target.certificate {
            let roots = pem(path)?.into_iter().filter_map(|item| match item {
                PemItem::Certificate(certificate) => Some(certificate),
                _ => None,
            });
            tls = tls.root_certs(RootCerts::from(roots));
        }
        if let Some((certificate, key)) = &target.client {
            let chain: Vec<_> = pem(certificate)?
                .into_iter()
                .filter_map(|item| match item {
                    PemItem::Certificate(certificate) => Some(certificate),
                    _ => None,
                })
                .collect();
            let bytes = std::fs::read(key).with_context(|| format!("read {}", key.display()))?;
            let key =
                PrivateKey::from_pem(&bytes).with_context(|| format!("read the key in {}", key.display()))?;
            tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
        }
        let config = Agent::config_builder()
            .timeout_global(Some(target.timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("kube-tcpstates/", crate::version!()))
            .tls_config(tls.build())
            .build();
        Ok(Self { agent: Agent::new_with_config(config), target })
    }

    /// Where it goes.
    pub(super) fn url(&self) -> &str {
        &self.target.url
    }

    /// Makes a request.
    pub(super) fn send(&self, request: &ExportLogsServiceRequest) -> Verdict {
        let mut body = request.encode_to_vec();
        let mut post = self.agent.post(&self.target.url).header("content-type", "application/x-protobuf");
        if self.target.gzip
            && let Ok(smaller) = gzip(&body)
        {
            body = smaller;
            post = post.header("content-encoding", "gzip");
        }
        for (name, value) in &self.target.headers {
            post = post.header(name, value);
        }
        match post.send(&body[..]) {
            Ok(answer) => {
                let (parts, body) = answer.into_parts();
                let body = body.into_with_config().limit(ANSWER_AT_MOST).read_to_vec().unwrap_or_default();
                verdict(parts.status, &parts.headers, &body)
            }
            Err(error @ (ureq::Error::BadUri(_) | ureq::Error::Http(_))) => {
                Verdict::Refused { why: error.to_string() }
            }
            Err(error) => Verdict::Again { after: None, why: error.to_string() },
        }
    }
}

fn pem(path: &std::path::Path) -> anyhow::Result<Vec<PemItem<'static>>> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let items: Result<Vec<_>, _> = parse_pem(&bytes).collect();
    let items = items.with_context(|| format!("read certificates in {}", path.display()))?;
    anyhow::ensure!(!items.is_empty(), "no certificate in {}", path.display());
    Ok(items)
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

/// 429, 502, 503 and 504 may be made again, others not (OTLP specification, "Failures").
pub fn verdict(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Verdict {
    if status.is_success() {
        let answer = ExportLogsServiceResponse::decode(body).unwrap_or_default();
        let refused = answer.partial_success.map_or(0, |partial| partial.rejected_log_records);
        return Verdict::Arrived { refused: u64::try_from(refused).unwrap_or(0) };
    }
    let why = match std::str::from_utf8(body) {
        Ok(text) if !text.trim().is_empty() && text.len() < 200 => format!("{status}: {}", text.trim()),
        _ => status.to_string(),
    };
    if !matches!(status.as_u16(), 429 | 502 | 503 | 504) {
        return Verdict::Refused { why };
    }
    let after = headers.get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Verdict::Again { after: after.map(Duration::from_secs), why }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsPartialSuccess;

    use super::*;

    fn of(status: u16, after: Option<&str>, body: &[u8]) -> Verdict {
        let mut headers = HeaderMap::new();
        if let Some(after) = after {
            headers.insert("retry-after", after.parse().unwrap());
        }
        verdict(StatusCode::from_u16(status).unwrap(), &headers, body)
    }

    #[test]
    fn an_answer_means_what_the_specification_says() {
        assert_eq!(of(200, None, b""), Verdict::Arrived { refused: 0 });
        let partial = ExportLogsPartialSuccess { rejected_log_records: 3, error_message: "no".to_owned() };
        let answer = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        assert_eq!(of(200, None, &answer), Verdict::Arrived { refused: 3 });
        for status in [429, 502, 503, 504] {
            assert!(matches!(of(status, None, b""), Verdict::Again { after: None, .. }), "{status}");
        }
        let later = of(429, Some("7"), b"slow down");
        let why = "429 Too Many Requests: slow down".to_owned();
        assert_eq!(later, Verdict::Again { after: Some(Duration::from_secs(7)), why });
        for status in [301, 400, 401, 404, 413, 500, 501] {
            assert!(matches!(of(status, None, b""), Verdict::Refused { .. }), "{status}");
        }
    }
}
