//! Which side of a connection an open socket is, as far as the other open sockets tell.

use std::collections::HashMap;

use kube_tcpstates_common::{
    classify::{Address, normalise},
    record::role,
    state::State,
    walk::OpenSocket,
};

/// A socket with its addresses as lines tell them: IPv4-mapped ones are IPv4.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    pub(crate) socket: OpenSocket,
    pub(crate) family: u8,
}

impl Open {
    pub(crate) fn of(mut socket: OpenSocket) -> Self {
        let mut family = socket.family;
        normalise(&mut family, &mut socket.local, &mut socket.peer);
        Self { socket, family }
    }

    pub(crate) fn listens(&self) -> bool {
        self.socket.state == State::LISTEN.0
    }

    /// Whether a connection with that local address can have come out of this listener: it has that address, or takes
    /// all of the family, or takes both.
    fn takes(&self, connection: &Self) -> bool {
        if self.socket.local == Address::default() {
            let dual = self.socket.family == 6 && self.socket.v6_only == 0;
            return self.family == connection.family || dual;
        }
        self.family == connection.family && self.socket.local == connection.socket.local
    }
}

/// One end of a connection, and the other: between the same two there is one connection in a network namespace.
type Ends = (u8, Address, u16, Address, u16);

/// What the open sockets of all namespaces say together.
#[derive(Debug, Default)]
pub(crate) struct Roles<'a> {
    /// By network namespace and port.
    listeners: HashMap<(u32, u16), Vec<&'a Open>>,
    /// Ends that are servers, and the namespaces where they are.
    servers: HashMap<Ends, Vec<u32>>,
}

impl<'a> Roles<'a> {
    pub(crate) fn of(open: &'a [Open]) -> Self {
        let mut roles = Self::default();
        for listener in open.iter().filter(|open| open.listens()) {
            let key = (listener.socket.netns, listener.socket.local_port);
            roles.listeners.entry(key).or_default().push(listener);
        }
        let mut servers: HashMap<Ends, Vec<u32>> = HashMap::new();
        for server in open.iter().filter(|open| !open.listens() && roles.listener(open).is_some()) {
            servers.entry(ends(server)).or_default().push(server.socket.netns);
        }
        Self { servers, ..roles }
    }

    /// The listener that a connection came out of; of several the one with its very address.
    pub(crate) fn listener(&self, connection: &Open) -> Option<&'a Open> {
        let candidates = self.listeners.get(&(connection.socket.netns, connection.socket.local_port))?;
        let mut taking = candidates.iter().copied().filter(|listener| listener.takes(connection));
        let first = taking.next()?;
        let exact = |listener: &&Open| listener.socket.local == connection.socket.local;
        Some(if exact(&first) { first } else { taking.find(exact).unwrap_or(first) })
    }

    /// Server where a listener says so, client where the other end is such a server or its SYN is out; else not known.
    /// Never a client because no listener is there: it may have been closed.
    pub(crate) fn role(&self, open: &Open) -> u8 {
        if open.listens() || self.listener(open).is_some() {
            return role::SERVER;
        }
        if open.socket.state == State::SYN_SENT.0 || self.other_end_serves(open) {
            return role::CLIENT;
        }
        role::UNKNOWN
    }

    fn other_end_serves(&self, open: &Open) -> bool {
        let (family, local, local_port, peer, peer_port) = ends(open);
        let other = (family, peer, peer_port, local, local_port);
        self.servers
            .get(&other)
            .is_some_and(|namespaces| !is_loopback(open) || namespaces.contains(&open.socket.netns))
    }
}

fn ends(open: &Open) -> Ends {
    let socket = &open.socket;
    (open.family, socket.local, socket.local_port, socket.peer, socket.peer_port)
}

/// Each namespace has its own.
fn is_loopback(open: &Open) -> bool {
    let peer = &open.socket.peer;
    if open.family == 4 { peer[0].to_ne_bytes()[0] == 127 } else { *peer == [0, 0, 0, 1_u32.to_be()] }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use bytemuck::Zeroable as _;

    use super::*;

    fn words(address: IpAddr) -> Address {
        match address {
            IpAddr::V4(v4) => [u32::from_ne_bytes(v4.octets()), 0, 0, 0],
            IpAddr::V6(v6) => kube_tcpstates_common::classify::address_words(v6.octets()),
        }
    }

    fn mk_socket(netns: u32, state: State, local: &str, peer: &str) -> OpenSocket {
        let [local, peer]: [SocketAddr; 2] = [local, peer].map(|end| end.parse().unwrap());
        OpenSocket {
            netns,
            state: state.0,
            family: if local.is_ipv4() { 4 } else { 6 },
            local: words(local.ip()),
            peer: words(peer.ip()),
            local_port: local.port(),
            peer_port: peer.port(),
            ..OpenSocket::zeroed()
        }
    }

    fn listener(local: &str) -> OpenSocket {
        let peer = if local.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        mk_socket(1, State::LISTEN, local, peer)
    }

    fn connection(local: &str, peer: &str) -> OpenSocket {
        mk_socket(1, State::ESTABLISHED, local, peer)
    }

    /// The role of the first of these sockets.
    fn role_among(sockets: &[OpenSocket]) -> u8 {
        let open: Vec<Open> = sockets.iter().map(|socket| Open::of(*socket)).collect();
        Roles::of(&open).role(&open[0])
    }

    #[test]
    fn a_connection_on_a_listeners_port_is_its() {
        let v4 = connection("10.0.0.1:80", "10.9.9.9:4000");
        let mapped = connection("[::ffff:10.0.0.1]:80", "[::ffff:10.9.9.9]:4000");
        let v6 = connection("[fd00::1]:80", "[fd00::9]:4000");
        for (of, listening) in [
            (v4, "0.0.0.0:80"),
            (v4, "10.0.0.1:80"),
            (v4, "[::]:80"),
            (mapped, "[::]:80"),
            (mapped, "[::ffff:10.0.0.1]:80"),
            (v6, "[::]:80"),
            (v6, "[fd00::1]:80"),
        ] {
            assert_eq!(role_among(&[of, listener(listening)]), role::SERVER, "{of:?} {listening}");
        }
        for (of, listening) in
            [(v4, "0.0.0.0:81"), (v4, "10.0.0.2:80"), (v6, "0.0.0.0:80"), (v6, "[fd00::2]:80")]
        {
            assert_eq!(role_among(&[of, listener(listening)]), role::UNKNOWN, "{of:?} {listening}");
        }
    }

    #[test]
    fn a_listener_for_ipv6_alone_takes_no_ipv4() {
        let only = OpenSocket { v6_only: 1, ..listener("[::]:80") };
        assert_eq!(role_among(&[connection("10.0.0.1:80", "10.9.9.9:4000"), only]), role::UNKNOWN);
        assert_eq!(role_among(&[connection("[fd00::1]:80", "[fd00::9]:4000"), only]), role::SERVER);
    }

    #[test]
    fn a_listener_of_another_namespace_says_nothing() {
        let other = OpenSocket { netns: 2, ..listener("0.0.0.0:80") };
        assert_eq!(role_among(&[connection("10.0.0.1:80", "10.9.9.9:4000"), other]), role::UNKNOWN);
    }

    #[test]
    fn the_other_end_of_a_server_is_a_client() {
        let server = connection("10.0.0.1:80", "10.0.0.2:4000");
        let client = OpenSocket { netns: 2, ..connection("10.0.0.2:4000", "10.0.0.1:80") };
        assert_eq!(role_among(&[client, server, listener("0.0.0.0:80")]), role::CLIENT);
        assert_eq!(role_among(&[client, server]), role::UNKNOWN);
    }

    #[test]
    fn loopback_is_another_in_each_namespace() {
        for (client, server, listening) in
            [("127.0.0.1:4000", "127.0.0.1:80", "0.0.0.0:80"), ("[::1]:4000", "[::1]:80", "[::]:80")]
        {
            let sockets = |netns| {
                [
                    OpenSocket { netns, ..connection(client, server) },
                    connection(server, client),
                    listener(listening),
                ]
            };
            assert_eq!(role_among(&sockets(1)), role::CLIENT);
            assert_eq!(role_among(&sockets(2)), role::UNKNOWN);
        }
    }

    #[test]
    fn a_syn_on_its_way_is_a_clients() {
        let syn = mk_socket(1, State::SYN_SENT, "10.0.0.1:4000", "10.0.0.2:80");
        assert_eq!(role_among(&[syn]), role::CLIENT);
    }

    #[test]
    fn of_two_listeners_the_one_with_the_address_counts() {
        let sockets =
            [connection("10.0.0.1:80", "10.9.9.9:4000"), listener("0.0.0.0:80"), listener("10.0.0.1:80")];
        let open: Vec<Open> = sockets.iter().map(|socket| Open::of(*socket)).collect();
        let found = Roles::of(&open).listener(&open[0]).map(|listener| listener.socket.local);
        assert_eq!(found, Some(words("10.0.0.1".parse().unwrap())));
    }
}
