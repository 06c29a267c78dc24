//! Small pieces of text, appended to a buffer without allocating.

use std::io::Write as _;
use std::net::IpAddr;

use kube_tcpstates_common::state::State;

use super::escape;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Text that needs no escaping.
pub(super) fn literal(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// A decimal number.
pub(super) fn decimal(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Sixteen hex digits.
pub(super) fn hex16(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 16];
    for (digit, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(number.to_be_bytes()) {
        *digit = hex_byte(byte);
    }
    out.extend_from_slice(&digits);
}

/// The two hex digits of a byte.
pub(super) fn hex_byte(byte: u8) -> [u8; 2] {
    [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]
}

/// A numeric address, IPv6 as in RFC 5952.
pub(super) fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => ipv4(out, v4.octets()),
        // These end in dotted decimal: rare here, so left to std. A Vec takes every write.
        IpAddr::V6(v6) if v6.to_ipv4().is_some() => _ = write!(out, "{v6}"),
        IpAddr::V6(v6) => ipv6(out, v6.segments()),
    }
}

/// The same with the zone behind a link-local address (RFC 4007): the number of its interface.
pub(super) fn zoned_address(out: &mut Vec<u8>, end: IpAddr, interface: Option<u32>) {
    address(out, end);
    if let (IpAddr::V6(v6), Some(interface)) = (end, interface)
        && v6.is_unicast_link_local()
    {
        out.push(b'%');
        decimal(out, interface);
    }
}

/// Put together before it is appended: that takes half as long as to append each octet.
fn ipv4(out: &mut Vec<u8>, octets: [u8; 4]) {
    let mut text = [b'.'; 16];
    let mut len = 0;
    for octet in octets {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let leading = if octet < 10 { 2 } else { usize::from(octet < 100) };
        for digit in &digits[leading..] {
            text[len] = b'0' + digit;
            len += 1;
        }
        len += 1;
    }
    out.extend_from_slice(&text[..len - 1]);
}

/// RFC 5952: the first of the longest runs of two or more zeros becomes `::`. Std's way through `fmt` costs 300 ns.
fn ipv6(out: &mut Vec<u8>, segments: [u16; 8]) {
    let (mut longest, mut run) = (0..0, 0..0);
    for (index, &segment) in segments.iter().enumerate() {
        run = if segment == 0 { run.start..index + 1 } else { index + 1..index + 1 };
        if run.len() > longest.len() && run.len() > 1 {
            longest = run.clone();
        }
    }
    let mut index = 0;
    while index < segments.len() {
        if index == longest.start && !longest.is_empty() {
            out.extend_from_slice(b"::");
            index = longest.end;
            continue;
        }
        if index > 0 && (longest.is_empty() || index != longest.end) {
            out.push(b':');
        }
        let [high, low] = segments[index].to_be_bytes();
        let ([a, b], [c, d]) = (hex_byte(high), hex_byte(low));
        let digits = [a, b, c, d];
        let leading = digits[..3].iter().take_while(|&&digit| digit == b'0').count();
        out.extend_from_slice(&digits[leading..]);
        index += 1;
    }
}

/// The kernel's name of a state, or its number.
pub(super) fn state(out: &mut Vec<u8>, state: State) {
    match state.name() {
        Some(name) => out.extend_from_slice(name.as_bytes()),
        None => decimal(out, state.0),
    }
}

/// Milliseconds with three decimals, from nanoseconds, rounded down.
pub(super) fn milliseconds(out: &mut Vec<u8>, ns: u64) {
    let us = ns / 1000;
    decimal(out, us / 1000);
    out.push(b'.');
    fraction(out, us % 1000, 3);
}

/// A number with leading zeros up to `digits`, at most 9; what it has more of them is left out.
pub(super) fn fraction(out: &mut Vec<u8>, number: u64, digits: usize) {
    // With a digit before them the zeros are no longer leading.
    const BEFORE: u64 = 1_000_000_000;
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(BEFORE + number % BEFORE).as_bytes();
    out.extend_from_slice(&text[text.len() - digits..]);
}

/// Spaces, so that what was written since `start` is `width` bytes wide.
pub(super) fn pad(out: &mut Vec<u8>, start: usize, width: usize) {
    // By characters, so that the next column stands where it should: of each, the bytes behind its first count nothing.
    let continued = out[start..].iter().filter(|byte| **byte & 0xc0 == 0x80).count();
    let end = start + width + continued;
    if out.len() < end {
        out.resize(end, b' ');
    }
}

/// Fields of one JSON object: `{"a":1,"b":"x"}`, and nothing at all when no field was written.
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
    /// Length before the key and the brace: what to go back to.
    start: usize,
}

impl<'o> Object<'o> {
    /// The members of an object whose braces the caller writes. Not to be closed.
    pub(super) const fn inner(out: &'o mut Vec<u8>) -> Self {
        Self { out, start: 0 }
    }

    /// Opens an object as the next member of the one before it: `,"key":{`. `close` takes it back if it stays empty.
    pub(super) fn member(out: &'o mut Vec<u8>, key: &str) -> Self {
        let start = out.len();
        if out.last().is_some_and(|&byte| byte != b'{') {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":{");
        Self { out, start }
    }

    /// Opens an object inside this one.
    pub(super) fn object(&mut self, key: &str) -> Object<'_> {
        Object::member(self.out, key)
    }

    /// The bytes so far.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        self.out
    }

    /// `"key":`, for a value that the caller appends.
    pub(super) fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if self.out.last().is_some_and(|&byte| byte != b'{') {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// A string of at most `max` escaped bytes, if there is one.
    pub(super) fn text(&mut self, key: &str, value: Option<&str>, max: usize) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let out = self.key(key);
            out.push(b'"');
            escape::json_clipped(out, value, max);
            out.push(b'"');
        }
    }

    /// Closes the object, or takes it back when nothing was written since it was opened.
    pub(super) fn close(self) {
        let Self { out, start } = self;
        if out.last() == Some(&b'{') {
            out.truncate(start);
        } else {
            out.push(b'}');
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::{Object, address, fraction, hex16, milliseconds, zoned_address};

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_keep_their_leading_zeros_where_they_must() {
        assert_eq!(text(|out| hex16(out, 0xbeef)), "000000000000beef");
        assert_eq!(text(|out| fraction(out, 42, 6)), "000042");
        assert_eq!(text(|out| milliseconds(out, 1_002_999)), "1.002");
        assert_eq!(text(|out| milliseconds(out, 999)), "0.000");
        assert_eq!(text(|out| milliseconds(out, u64::MAX)), "18446744073709.551");
    }

    proptest! {
        #[test]
        fn an_address_shows_as_std_shows_it(parts in prop::collection::vec(prop_oneof![Just(0), 0..20_u16, any::<u16>()], 8)) {
            let v6 = Ipv6Addr::from(<[u16; 8]>::try_from(parts).unwrap());
            prop_assert_eq!(text(|out| address(out, v6.into())), v6.to_string());
        }
    }

    #[test]
    fn every_octet_shows_as_std_shows_it() {
        for octet in 0..=u8::MAX {
            let v4 = Ipv4Addr::new(octet, 255 - octet, 7, octet);
            assert_eq!(text(|out| address(out, v4.into())), v4.to_string());
        }
    }

    #[test]
    fn only_a_link_local_address_has_a_zone() {
        let zoned = |end: &str, interface| text(|out| zoned_address(out, end.parse().unwrap(), interface));
        assert_eq!(zoned("fe80::1", Some(7)), "fe80::1%7");
        assert_eq!(zoned("fe80::1", None), "fe80::1");
        assert_eq!(zoned("fd00::1", Some(7)), "fd00::1");
        assert_eq!(zoned("10.0.0.1", Some(7)), "10.0.0.1");
    }

    #[test]
    fn an_object_without_fields_leaves_no_trace() {
        let nested = text(|out| {
            out.push(b'{');
            let mut outer = Object::member(out, "a");
            outer.object("b").close();
            outer.text("c", Some(""), 9);
            outer.close();
            let mut outer = Object::member(out, "d");
            outer.object("e").close();
            outer.text("f", Some("g"), 9);
            outer.text("h", Some("i"), 9);
            outer.close();
            out.push(b'}');
        });
        assert_eq!(nested, r#"{"d":{"f":"g","h":"i"}}"#);
    }
}
