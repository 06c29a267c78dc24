//! What the server shows kube-apiserver: a certificate of its own making, or one from files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Of a certificate of our own. What stays in the bundle of an operator that ended does so for as long.
const VALID_FOR: Duration = Duration::from_hours(48);
/// Clocks differ.
const VALID_BEFORE: Duration = Duration::from_hours(1);

/// A certificate, or a chain of them, with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// As PEM, for the bundle.
    pub(crate) pem: String,
    /// The key's PEM never leaves the process.
    key: String,
    /// When another one is due.
    pub(crate) renewed_at: Timestamp,
}

impl Certificate {
    /// A new one for these names. It is its own authority, so its key can sign no other that would be believed.
    pub(crate) fn make(names: Vec<String>, now: Timestamp) -> anyhow::Result<Self> {
        let mut parameters = CertificateParams::new(names).context("names of a certificate")?;
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, "kube-tcpstates lines");
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let since_1970 = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
        let epoch = date_time_ymd(1970, 1, 1);
        parameters.not_before = epoch + since_1970.saturating_sub(VALID_BEFORE);
        parameters.not_after = epoch + since_1970 + VALID_FOR;
        let key = KeyPair::generate().context("make a key")?;
        let certificate = parameters.self_signed(&key).context("make a certificate")?;
        let renewed_at = now.checked_add(VALID_FOR / 2).context("a clock far in the future")?;
        Ok(Self { pem: certificate.pem(), key: key.serialize_pem(), renewed_at })
    }

    /// That of two PEM files, which somebody else renews.
    pub(crate) fn read(files: &Files) -> anyhow::Result<Self> {
        let read =
            |path: &Path| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
        Ok(Self { pem: read(&files.certificate)?, key: read(&files.key)?, renewed_at: Timestamp::MAX })
    }

    /// As rustls wants it.
    pub(crate) fn parse(&self) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let chain = CertificateDer::pem_slice_iter(self.pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.context("a certificate as PEM")?;
        anyhow::ensure!(!chain.is_empty(), "there is no certificate");
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).context("a key as PEM")?;
        Ok((chain, key))
    }
}

/// Where cert-manager, or who else makes certificates, leaves one.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::der;

    #[test]
    fn a_certificate_of_our_own_is_valid_for_two_days_and_renewed_after_one() {
        let now: Timestamp = "2026-11-27T12:00:00Z".parse().unwrap();
        let certificate = Certificate::make(vec!["lines.kube-tcpstates.svc".to_owned()], now).unwrap();
        let (chain, _) = certificate.parse().unwrap();
        let read = der::Certificate::read(&chain[0]).unwrap();
        assert_eq!(read.not_after, "2026-11-29T12:00:00Z".parse().unwrap());
        assert_eq!(certificate.renewed_at, "2026-11-28T12:00:00Z".parse().unwrap());
    }
}
