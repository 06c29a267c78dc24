//! Community ID, version 1 (<https://github.com/corelight/community-id-spec>): a name of a connection that both ends, and
//! other tools, make of its addresses and ports alone.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha1::{Digest as _, Sha1};

use crate::decode::{Endpoint, Transition};

/// Its length as text: `1:` and 20 bytes in base64.
const LEN: usize = 30;
const TCP: u8 = 6;

/// A Community ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommunityId([u8; LEN]);

/// What is hashed: at once, which is quicker than piece by piece.
struct Input {
    /// Room for two addresses of 16 bytes, two ports and four bytes more.
    bytes: [u8; 40],
    len: usize,
}

impl Input {
    fn append(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }
}

impl CommunityId {
    /// Of a connection; `None` where one of its ends is not known.
    pub fn of(transition: &Transition) -> Option<Self> {
        let peer = transition.peer?;
        let known = |end: &Endpoint| end.port != 0 && !end.address.is_unspecified();
        (known(&transition.local) && known(&peer)).then(|| Self::between(transition.local, peer))
    }

    fn between(one: Endpoint, other: Endpoint) -> Self {
        let ordered = |end: &Endpoint| (end.address, end.port);
        let (low, high) = if ordered(&one) <= ordered(&other) { (one, other) } else { (other, one) };
        let mut input = Input { bytes: [0; 40], len: 0 };
        // The seed, 0.
        input.append(&[0, 0]);
        for end in [low, high] {
            match end.address {
                IpAddr::V4(address) => input.append(&address.octets()),
                IpAddr::V6(address) => input.append(&address.octets()),
            }
        }
        input.append(&[TCP, 0]);
        for end in [low, high] {
            input.append(&end.port.to_be_bytes());
        }
        let mut text = [0; LEN];
        text[..2].copy_from_slice(b"1:");
        // Twenty bytes are 28 in base64, which is the room there is.
        let _ = STANDARD.encode_slice(Sha1::digest(&input.bytes[..input.len]), &mut text[2..]);
        Self(text)
    }

    /// As it stands on a line.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::CommunityId;
    use crate::decode::Endpoint;

    fn id(one: (&str, u16), other: (&str, u16)) -> String {
        let end = |(address, port): (&str, u16)| Endpoint { address: address.parse().unwrap(), port };
        String::from_utf8(CommunityId::between(end(one), end(other)).as_bytes().into()).unwrap()
    }

    #[test]
    fn both_ends_have_the_one_that_the_specification_has() {
        // The first example of the specification's baseline.
        let (client, server) = (("128.232.110.120", 34_855), ("66.35.250.204", 80));
        assert_eq!(id(client, server), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
        assert_eq!(id(server, client), id(client, server));
        assert_ne!(id(client, ("66.35.250.204", 81)), id(client, server));
    }

    #[test]
    fn ports_order_two_ends_of_one_address() {
        assert_eq!(id(("::1", 1), ("::1", 2)), id(("::1", 2), ("::1", 1)));
    }
}
