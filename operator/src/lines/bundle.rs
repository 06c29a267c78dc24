//! The `caBundle` of the `APIService`: certificates of every operator that lives. Pure.
//!
//! Each makes its own, and its key never leaves its memory. It adds what it has made, and takes away what has expired:
//! that is how the certificate of one that ended goes.

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::der::Certificate;

/// Operators that start again and again each leave one until it expires.
const AT_MOST: usize = 32;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// The bundle with `ours` in it; None if it is as it should be. Both are PEM.
pub fn renewed(present: &str, ours: &[String], now: Timestamp) -> Option<String> {
    let mut kept: Vec<(Timestamp, &str)> = blocks(present)
        .filter_map(|block| Some((end_of(block)?, block)))
        .filter(|(end, block)| *end > now && !ours.iter().any(|our| our.trim() == *block))
        .collect();
    // The youngest are those that are used.
    kept.sort_by_key(|(end, _)| std::cmp::Reverse(*end));
    kept.truncate(AT_MOST.saturating_sub(ours.len()));
    let mut wanted: Vec<&str> =
        kept.iter().map(|(_, block)| *block).chain(ours.iter().map(|our| our.trim())).collect();
    wanted.sort_unstable();
    let mut found: Vec<&str> = blocks(present).collect();
    found.sort_unstable();
    (wanted != found).then(|| wanted.iter().flat_map(|block| [*block, "\n"]).collect())
}

/// The certificates of a PEM text, each with its first and last line.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(BEGIN).map(|(begin, _)| {
        let rest = &text[begin..];
        let end = rest[BEGIN.len()..].find("-----BEGIN").map_or(rest.len(), |end| end + BEGIN.len());
        rest[..end].trim()
    })
}

fn end_of(block: &str) -> Option<Timestamp> {
    let der = CertificateDer::from_pem_slice(block.as_bytes()).ok()?;
    Some(Certificate::read(&der)?.not_after)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(until: i32) -> String {
        let mut parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.not_after = date_time_ymd(until, 1, 1);
        parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn now() -> Timestamp {
        "2026-11-27T00:00:00Z".parse().unwrap()
    }

    fn holds(bundle: &str, certificate: &str) -> bool {
        blocks(bundle).any(|block| block == certificate.trim())
    }

    #[test]
    fn ours_is_added_to_the_others_once() {
        let (theirs, ours) = (certificate(2027), certificate(2027));
        let bundle = renewed(&theirs, std::slice::from_ref(&ours), now()).unwrap();
        assert!(holds(&bundle, &theirs) && holds(&bundle, &ours));
        assert_eq!(renewed(&bundle, &[ours], now()), None);
        assert_eq!(renewed(&bundle, &[theirs], now()), None);
    }

    #[test]
    fn what_has_expired_and_what_is_no_certificate_goes() {
        let (old, ours) = (certificate(2025), certificate(2027));
        let broken = format!("{BEGIN}\nAAAA\n-----END CERTIFICATE-----\n");
        let bundle = renewed(&format!("{old}{broken}"), std::slice::from_ref(&ours), now()).unwrap();
        assert_eq!(blocks(&bundle).collect::<Vec<_>>(), [ours.trim()]);
        assert!(renewed("", &[ours], now()).is_some());
    }

    #[test]
    fn a_crash_loop_does_not_fill_the_bundle() {
        let ours = certificate(2027);
        let many: String =
            (0..AT_MOST + 5).map(|number| certificate(2028 + i32::try_from(number).unwrap())).collect();
        let bundle = renewed(&many, std::slice::from_ref(&ours), now()).unwrap();
        assert_eq!(blocks(&bundle).count(), AT_MOST);
        assert!(holds(&bundle, &ours));
    }
}
