//! Address prefixes, and the sets a longest-prefix map has to hold for them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use kube_tcpstates_common::rule::TraceSet;

use super::error::{FilterError, Reason, list};

/// An address prefix without host bits. An IPv4-mapped one (`::ffff:10.0.0.0/104`) is the IPv4 prefix, since the
/// kernel program turns mapped addresses into IPv4 before it looks; a shorter IPv6 prefix never means IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    network: IpAddr,
    prefix_len: u8,
}

impl Cidr {
    /// Every IPv4 address.
    pub const ANY_V4: Self = Self { network: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix_len: 0 };
    /// Every IPv6 address.
    pub const ANY_V6: Self = Self { network: IpAddr::V6(Ipv6Addr::UNSPECIFIED), prefix_len: 0 };

    /// A prefix, or why it is none: host bits are refused, since their writer meant something else.
    pub fn new(network: IpAddr, prefix_len: u8) -> Result<Self, Reason> {
        let longest = if network.is_ipv4() { 32 } else { 128 };
        if prefix_len > longest {
            return Err(Reason::PrefixLength(longest));
        }
        let masked = mask(network, prefix_len);
        if masked != network {
            return Err(Reason::HostBits(format!("{masked}/{prefix_len}")));
        }
        Ok(match network {
            IpAddr::V6(address) if prefix_len >= 96 => match address.to_ipv4_mapped() {
                Some(v4) => Self { network: v4.into(), prefix_len: prefix_len - 96 },
                None => Self { network, prefix_len },
            },
            _ => Self { network, prefix_len },
        })
    }

    /// First address.
    pub const fn network(self) -> IpAddr {
        self.network
    }

    /// Bits of the network.
    pub const fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// Whether it is one of IPv4.
    pub const fn is_v4(self) -> bool {
        self.network.is_ipv4()
    }

    /// Whether the address lies in it; an address of the other family does not.
    pub fn contains(self, address: IpAddr) -> bool {
        mask(address, self.prefix_len) == self.network
    }
}

/// The address with all but its first bits cleared. A length beyond the address keeps all of it.
fn mask(address: IpAddr, prefix_len: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let shift = 32_u32.saturating_sub(prefix_len.into());
            Ipv4Addr::from_bits(u32::MAX.checked_shl(shift).unwrap_or(0) & v4.to_bits()).into()
        }
        IpAddr::V6(v6) => {
            let shift = 128_u32.saturating_sub(prefix_len.into());
            Ipv6Addr::from_bits(u128::MAX.checked_shl(shift).unwrap_or(0) & v6.to_bits()).into()
        }
    }
}

impl FromStr for Cidr {
    type Err = Reason;

    fn from_str(text: &str) -> Result<Self, Reason> {
        let (network, prefix_len) = text.split_once('/').ok_or(Reason::Cidr)?;
        // Digits only, and no leading zero, as in RFC 4632 and Go's ParseCIDR.
        let digits = !prefix_len.is_empty() && prefix_len.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || (prefix_len.len() > 1 && prefix_len.starts_with('0')) {
            return Err(Reason::Cidr);
        }
        let network: IpAddr = network.parse().map_err(|_| Reason::Cidr)?;
        Self::new(network, prefix_len.parse().unwrap_or(u8::MAX))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_len)
    }
}

/// Reads a comma-separated list of prefixes.
pub fn parse_cidrs(field: &str, text: &str) -> Result<Vec<Cidr>, FilterError> {
    list(field, text, str::parse)
}

/// The set to store for each prefix of one family: a longest-prefix map answers with one prefix only, so each
/// carries the sets of all that contain it. The empty prefix is always there, so that a look-up always answers.
pub(super) fn prefix_sets(prefixes: impl Iterator<Item = (usize, Cidr)>, any: Cidr) -> Vec<(Cidr, TraceSet)> {
    // In this order a prefix stands behind all that contain it.
    let mut sets = BTreeMap::from([(any, 0)]);
    for (bit, prefix) in prefixes {
        *sets.entry(prefix).or_insert(0) |= 1 << bit;
    }
    let mut stored: Vec<(Cidr, TraceSet)> = Vec::with_capacity(sets.len());
    let mut around: Vec<(Cidr, TraceSet)> = Vec::new();
    for (prefix, own) in sets {
        while around.last().is_some_and(|(outer, _)| !outer.contains(prefix.network)) {
            around.pop();
        }
        let set = own | around.last().map_or(0, |(_, set)| *set);
        around.push((prefix, set));
        stored.push((prefix, set));
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::{Cidr, Reason, parse_cidrs};

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_contains_its_own_addresses_and_none_of_the_other_family() {
        for (prefix, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("192.0.2.7/32", "192.0.2.7", "192.0.2.6"),
            ("::/0", "ffff::1", "0.0.0.0"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::"),
            ("::1/128", "::1", "::"),
        ] {
            assert!(cidr(prefix).contains(inside.parse().unwrap()), "{prefix} {inside}");
            assert!(!cidr(prefix).contains(outside.parse().unwrap()), "{prefix} {outside}");
        }
    }

    #[test]
    fn a_mapped_prefix_is_the_ipv4_one_and_a_shorter_ipv6_prefix_is_not() {
        assert_eq!(cidr("::ffff:10.0.0.0/104"), cidr("10.0.0.0/8"));
        assert_eq!(cidr("::ffff:0:0/96"), cidr("0.0.0.0/0"));
        assert!(!cidr("::/80").contains("10.0.0.1".parse().unwrap()));
        assert_eq!(cidr("::ffff:10.0.0.0/104").to_string(), "10.0.0.0/8");
    }

    #[test]
    fn a_bad_prefix_is_refused_with_its_field_and_value() {
        for (text, value, reason) in [
            ("", "", Reason::Empty),
            ("10.0.0.0", "10.0.0.0", Reason::Cidr),
            ("10.0.0.0/", "10.0.0.0/", Reason::Cidr),
            ("10.0.0.0/+8", "10.0.0.0/+8", Reason::Cidr),
            ("10.0.0.0/08", "10.0.0.0/08", Reason::Cidr),
            ("10.0.0/8", "10.0.0/8", Reason::Cidr),
            ("::/0,x/8", "x/8", Reason::Cidr),
            ("10.0.0.0/33", "10.0.0.0/33", Reason::PrefixLength(32)),
            ("10.0.0.0/999", "10.0.0.0/999", Reason::PrefixLength(32)),
            ("::/129", "::/129", Reason::PrefixLength(128)),
            ("10.0.0.1/8", "10.0.0.1/8", Reason::HostBits("10.0.0.0/8".into())),
            ("2001:db8::1/32", "2001:db8::1/32", Reason::HostBits("2001:db8::/32".into())),
            ("1.2.3.4/0", "1.2.3.4/0", Reason::HostBits("0.0.0.0/0".into())),
        ] {
            assert_eq!(
                parse_cidrs("spec.peerCIDRs", text),
                Err(reason.of("spec.peerCIDRs", value)),
                "{text:?}"
            );
        }
    }
}
