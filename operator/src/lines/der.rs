//! The two things that are looked at in a certificate: whose it is, and until when. Pure.
//!
//! That it is genuine has been found by rustls; nothing here decides that.

use jiff::Timestamp;
use jiff::civil;
use jiff::tz::TimeZone;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`, the version of the format.
const VERSION: u8 = 0xa0;
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The subject's CN.
    pub common_name: Option<String>,
    /// The end of its validity.
    pub not_after: Timestamp,
}

impl Certificate {
    /// From DER; None if it is no certificate.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (certificate, _) = expect(der, SEQUENCE)?;
        let (mut fields, _) = expect(certificate, SEQUENCE)?;
        if let Some((_, behind)) = expect(fields, VERSION) {
            fields = behind;
        }
        // The serial number, the algorithm, the issuer.
        for _ in 0..3 {
            (_, _, fields) = element(fields)?;
        }
        let (validity, fields) = expect(fields, SEQUENCE)?;
        let (_, _, end) = element(validity)?;
        let (tag, end, _) = element(end)?;
        let (subject, _) = expect(fields, SEQUENCE)?;
        Some(Self { common_name: common_name(subject), not_after: time(tag, end)? })
    }
}

/// The last one, as Go's readers of certificates have it.
fn common_name(mut subject: &[u8]) -> Option<String> {
    let mut found = None;
    while let Some((mut set, rest)) = expect(subject, SET) {
        subject = rest;
        while let Some((pair, rest)) = expect(set, SEQUENCE) {
            set = rest;
            let (name, value) = expect(pair, OBJECT_IDENTIFIER)?;
            if name == COMMON_NAME {
                let (_, value, _) = element(value)?;
                found = Some(str::from_utf8(value).ok()?.to_owned());
            }
        }
    }
    found
}

fn time(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let text = str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let text = match tag {
        // Two digits stand for the years 1950 to 2049.
        UTC_TIME => format!("{}{text}", if *text.as_bytes().first()? >= b'5' { "19" } else { "20" }),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = civil::DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    TimeZone::UTC.to_timestamp(time).ok()
}

/// What is inside of an element with this tag, and what is behind it.
fn expect(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, inside, behind) = element(input)?;
    (found == tag).then_some((inside, behind))
}

/// The first element: its tag, what is inside, and what is behind it.
fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (inside, behind) = rest.split_at_checked(length)?;
    Some((tag, inside, behind))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(until: i32, common_name: Option<&str>) -> Vec<u8> {
        let mut parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(DnType::OrganizationName, "front-proxy-client");
        if let Some(name) = common_name {
            parameters.distinguished_name.push(DnType::CommonName, name);
        }
        parameters.not_after = date_time_ymd(until, 3, 4);
        parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn subject_and_end_are_read() {
        for (until, expected) in [(2030, "2030-03-04T00:00:00Z"), (2051, "2051-03-04T00:00:00Z")] {
            let read = Certificate::read(&certificate(until, Some("aggregator"))).unwrap();
            assert_eq!(read.common_name.as_deref(), Some("aggregator"));
            assert_eq!(read.not_after, expected.parse().unwrap());
        }
        assert_eq!(Certificate::read(&certificate(2030, None)).unwrap().common_name, None);
    }

    #[test]
    fn what_is_cut_off_is_no_certificate() {
        let whole = certificate(2030, Some("aggregator"));
        assert!((0..whole.len()).all(|end| Certificate::read(&whole[..end]).is_none()));
    }
}
