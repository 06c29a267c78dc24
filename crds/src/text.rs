//! The small texts in a spec (prefixes, durations, labels, names): what the schema says of each, and its parser.
//!
//! The types here are never made. They stand in `#[schemars(with = ...)]` for a `String` that has a form of its
//! own. Patterns say the same as the parsers, so that a server and the agent agree.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::duration;

/// Longest name of a label prefix, in characters (a DNS subdomain).
const PREFIX_MAX: usize = 253;
/// Longest name of a label behind its prefix, longest label value, longest container name.
const NAME_MAX: usize = 63;

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $schema:tt) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

text!(
    /// Name of a container: a DNS label.
    ContainerName,
    { "type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" }
);
text!(
    /// Key of a label, with or without a prefix.
    LabelKey,
    {
        "type": "string",
        "minLength": 1,
        "maxLength": 317,
        "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?\
                    [A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
        "x-kubernetes-validations": [{
            "rule": "!self.contains('/') || self.indexOf('/') <= 253",
            "message": "the prefix of a label key has at most 253 characters",
        }],
    }
);
text!(
    /// Value of a label; may be empty.
    LabelValue,
    { "type": "string", "maxLength": 63, "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$" }
);
text!(
    /// Address prefix. The pattern keeps out leading zeros, which old servers take and new ones do not; of host bits
    /// CEL of Kubernetes 1.25 can only see those of IPv4 (`isCIDR` and `cidr` came later). The rule splits once, after a
    /// replacement: of the pieces of a split a server knows no greatest length, so splitting them again would cost more
    /// than it allows.
    Cidr,
    {
        "type": "string",
        "format": "cidr",
        "maxLength": 49,
        "pattern": "^(((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\
                    /(3[0-2]|[12]?[0-9])|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$",
        "x-kubernetes-validations": [{
            "rule": "self.contains(':') || (int(self.replace('/', '.').split('.')[0]) * 16777216 + \
                     int(self.replace('/', '.').split('.')[1]) * 65536 + int(self.replace('/', \
                     '.').split('.')[2]) * 256 + int(self.replace('/', '.').split('.')[3])) % [4294967296, \
                     2147483648, 1073741824, 536870912, 268435456, 134217728, 67108864, 33554432, 16777216, \
                     8388608, 4194304, 2097152, 1048576, 524288, 262144, 131072, 65536, 32768, 16384, 8192, \
                     4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1][int(self.replace('/', \
                     '.').split('.')[4])] == 0",
            "message": "has bits set behind its prefix length",
        }],
    }
);
text!(
    /// Least time in a state.
    MinStateDuration,
    {
        "type": "string",
        "minLength": 2,
        "maxLength": 35,
        "pattern": "^([0-9]{1,5}(h|m|s|ms|us)){1,5}$",
        "x-kubernetes-validations": [{
            "rule": "duration(self) > duration('0s') && duration(self) <= duration('720h')",
            "message": "must be more than 0s and at most 720h",
        }],
    }
);
text!(
    /// How long a trace runs.
    Ttl,
    {
        "type": "string",
        "minLength": 2,
        "maxLength": 18,
        "pattern": "^([0-9]{1,5}(h|m|s)){1,3}$",
        "x-kubernetes-validations": [{
            "rule": "duration(self) >= duration('10s') && duration(self) <= duration('720h')",
            "message": "must be from 10s to 720h",
        }],
    }
);
text!(
    /// Time between two snapshots of what is open.
    SnapshotInterval,
    {
        "type": "string",
        "minLength": 2,
        "maxLength": 18,
        "pattern": "^([0-9]{1,5}(h|m|s)){1,3}$",
        "x-kubernetes-validations": [{
            "rule": "duration(self) >= duration('10s') && duration(self) <= duration('1h')",
            "message": "must be from 10s to 1h",
        }],
    }
);
text!(
    /// Time between two summaries.
    SummaryInterval,
    {
        "type": "string",
        "minLength": 2,
        "maxLength": 18,
        "pattern": "^([0-9]{1,5}(h|m|s)){1,3}$",
        "x-kubernetes-validations": [{
            "rule": "duration(self) >= duration('10s') && duration(self) <= duration('1h')",
            "message": "must be from 10s to 1h",
        }],
    }
);
text!(
    /// A point in time as RFC 3339 writes it.
    Timestamp,
    { "type": "string", "format": "date-time", "maxLength": 64 }
);

text!(
    /// Name of a node or of an object.
    NodeName,
    { "type": "string", "maxLength": 253 }
);
text!(
    /// A word for programs.
    Word,
    { "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z][A-Za-z0-9_]*$" }
);
text!(
    /// A few characters.
    Short,
    { "type": "string", "maxLength": 128 }
);
text!(
    /// A line for people.
    Sentence,
    { "type": "string", "maxLength": 512 }
);

/// Why a text is not what its field holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// Not a DNS label.
    #[error("is not the name of a container (lower-case letters, digits and '-', at most 63)")]
    ContainerName,
    /// Not a label key.
    #[error("is not the key of a label, such as app or example.com/team")]
    LabelKey,
    /// Not a label value.
    #[error(
        "is not the value of a label (letters, digits, '-', '_', '.', at most 63, a letter or digit at both ends)"
    )]
    LabelValue,
    /// Not `address/length`.
    #[error("is not an address with a prefix length, such as 10.0.0.0/8 or 2001:db8::/32")]
    Cidr,
    /// Bits are set behind the prefix.
    #[error("has bits set behind its prefix length; did you mean {0}?")]
    HostBits(String),
    /// Not a duration of the units allowed here.
    #[error("is not a duration such as 1m30s: whole numbers of at most five digits with the units {0}")]
    Duration(&'static str),
    /// Outside of what the field takes.
    #[error("must be {0}")]
    DurationRange(&'static str),
}

/// Whether every character may stand in the text, and the first and last are letters or digits.
fn is_framed(text: &str, inner: fn(u8) -> bool, ends: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|byte| ends(*byte))
        && bytes.last().is_some_and(|byte| ends(*byte))
        && bytes.iter().all(|byte| inner(*byte))
}

const fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_dns_label(text: &str) -> bool {
    is_framed(text, |byte| is_lower(byte) || byte == b'-', is_lower)
}

fn is_qualified(text: &str) -> bool {
    text.len() <= NAME_MAX
        && is_framed(
            text,
            |byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte),
            |byte| byte.is_ascii_alphanumeric(),
        )
}

/// Whether a container can have this name.
pub fn check_container_name(text: &str) -> Result<(), TextError> {
    if text.len() <= NAME_MAX && is_dns_label(text) { Ok(()) } else { Err(TextError::ContainerName) }
}

/// Whether a label can have this key.
pub fn check_label_key(text: &str) -> Result<(), TextError> {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let prefix_fits =
        prefix.is_none_or(|prefix| prefix.len() <= PREFIX_MAX && prefix.split('.').all(is_dns_label));
    if prefix_fits && is_qualified(name) { Ok(()) } else { Err(TextError::LabelKey) }
}

/// Whether a label can have this value.
pub fn check_label_value(text: &str) -> Result<(), TextError> {
    if text.is_empty() || is_qualified(text) { Ok(()) } else { Err(TextError::LabelValue) }
}

/// Reads an address prefix. Host bits are refused, since their writer meant something else.
pub fn parse_cidr(text: &str) -> Result<(IpAddr, u8), TextError> {
    let (address, length) = text.split_once('/').ok_or(TextError::Cidr)?;
    let address: IpAddr = address.parse().map_err(|_| TextError::Cidr)?;
    let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || (length.len() > 1 && length.starts_with('0')) {
        return Err(TextError::Cidr);
    }
    let length: u8 = length.parse().map_err(|_| TextError::Cidr)?;
    let network: IpAddr = match address {
        IpAddr::V4(v4) => {
            let shift = 32_u32.checked_sub(length.into()).ok_or(TextError::Cidr)?;
            Ipv4Addr::from_bits(v4.to_bits() & u32::MAX.checked_shl(shift).unwrap_or(0)).into()
        }
        IpAddr::V6(v6) => {
            let shift = 128_u32.checked_sub(length.into()).ok_or(TextError::Cidr)?;
            Ipv6Addr::from_bits(v6.to_bits() & u128::MAX.checked_shl(shift).unwrap_or(0)).into()
        }
    };
    if network == address {
        Ok((address, length))
    } else {
        Err(TextError::HostBits(format!("{network}/{length}")))
    }
}

/// Reads what [`MinStateDuration`] describes.
pub fn parse_min_state_duration(text: &str) -> Result<Duration, TextError> {
    let duration =
        parse_duration(text, &["h", "m", "s", "ms", "us"]).ok_or(TextError::Duration("h, m, s, ms, us"))?;
    if duration.is_zero() || duration > LONGEST {
        return Err(TextError::DurationRange("more than 0s and at most 720h"));
    }
    Ok(duration)
}

/// Reads what [`SnapshotInterval`] describes.
pub fn parse_snapshot_interval(text: &str) -> Result<Duration, TextError> {
    parse_interval(text)
}

/// Reads what [`SummaryInterval`] describes.
pub fn parse_summary_interval(text: &str) -> Result<Duration, TextError> {
    parse_interval(text)
}

fn parse_interval(text: &str) -> Result<Duration, TextError> {
    let duration = parse_duration(text, &["h", "m", "s"]).ok_or(TextError::Duration("h, m, s"))?;
    if duration < Duration::from_secs(10) || duration > Duration::from_hours(1) {
        return Err(TextError::DurationRange("from 10s to 1h"));
    }
    Ok(duration)
}

/// Reads what [`Ttl`] describes.
pub fn parse_ttl(text: &str) -> Result<Duration, TextError> {
    let duration = parse_duration(text, &["h", "m", "s"]).ok_or(TextError::Duration("h, m, s"))?;
    if duration < Duration::from_secs(10) || duration > LONGEST {
        return Err(TextError::DurationRange("from 10s to 720h"));
    }
    Ok(duration)
}

const LONGEST: Duration = Duration::from_hours(720);

/// The part of Go's durations that everybody reads alike: whole numbers, these units, as many groups as there are units,
/// at most five digits each, so that nothing overflows.
fn parse_duration(text: &str, units: &[&str]) -> Option<Duration> {
    let is_plain = |group: Option<(&str, &str)>| {
        group
            .is_some_and(|(number, unit)| number.len() <= 5 && !number.contains('.') && units.contains(&unit))
    };
    let is_ours = duration::groups(text).all(is_plain) && duration::groups(text).count() <= units.len();
    is_ours.then(|| duration::parse(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_exactly_and_only_in_their_form() {
        assert_eq!(parse_min_state_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_min_state_duration("1s500us"), Ok(Duration::from_micros(1_000_500)));
        assert_eq!(parse_ttl("720h"), Ok(LONGEST));
        for text in ["", "5", "s", "1.5s", "-1s", "+1s", "1 s", "123456s", "1ns", "1d", "1h1h1h1h1h1h", "1s5"]
        {
            assert!(matches!(parse_min_state_duration(text), Err(TextError::Duration(_))), "{text:?}");
        }
        assert!(matches!(parse_ttl("15000ms"), Err(TextError::Duration(_))));
        for text in ["9s", "720h1s"] {
            assert!(matches!(parse_ttl(text), Err(TextError::DurationRange(_))), "{text:?}");
        }
    }

    #[test]
    fn a_prefix_with_host_bits_is_told_with_the_one_that_was_meant() {
        assert_eq!(parse_cidr("10.0.0.1/8"), Err(TextError::HostBits("10.0.0.0/8".into())));
        assert_eq!(parse_cidr("2001:db8::1/32"), Err(TextError::HostBits("2001:db8::/32".into())));
        assert_eq!(parse_cidr("0.0.0.0/0"), Ok((Ipv4Addr::UNSPECIFIED.into(), 0)));
        assert_eq!(parse_cidr("::1/128"), Ok((Ipv6Addr::LOCALHOST.into(), 128)));
    }

    #[test]
    fn label_keys_and_values_are_those_of_kubernetes() {
        let longest = format!("{}.{}/{}", "a".repeat(126), "b".repeat(126), "c".repeat(63));
        for key in ["app", "a", "app.kubernetes.io/name", "A_b.c", longest.as_str()] {
            assert_eq!(check_label_key(key), Ok(()), "{key}");
        }
        let too_long = format!("{}/a", "b".repeat(254));
        for key in ["", "/a", "a/", "a/b/c", "-a", "a-", "A.example/x", "a..b/x", too_long.as_str()] {
            assert!(check_label_key(key).is_err(), "{key}");
        }
        assert_eq!(check_label_value(""), Ok(()));
        assert!(check_label_value(&"v".repeat(64)).is_err());
        assert!(check_label_value("no spaces").is_err());
    }
}
