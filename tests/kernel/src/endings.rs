//! A stage on which connections end, and what must be told of them.

use std::net::SocketAddr;
use std::time::Duration;

use crate::line::Event;
use crate::netns::{Addresses, Netns, Network};
use crate::place::Place;
use crate::puppet::Puppet;
use crate::tracer::{Finished, Setup, Tracer};

/// Both ways to read what a socket says.
const HOOKS: [&str; 2] = ["tp_btf", "raw_tp"];

/// What a line must say of one side of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The client's end: it names the connection.
    pub client: SocketAddr,
    /// `client` or `server`.
    pub role: String,
    /// How it ended.
    pub outcome: String,
    /// Why.
    pub cause: Option<String>,
    /// Who ended it.
    pub closed_by: Option<String>,
    /// Bytes sent, received, unread (where that is final) and unsent.
    pub bytes: [Option<u64>; 4],
}

impl Told {
    /// `ending` is outcome, who ended it, and cause; `bytes` are as in [`Self::bytes`].
    pub fn new(client: SocketAddr, role: &str, ending: &str, bytes: (u64, u64, Option<u64>, u64)) -> Self {
        let mut words = ending.split(' ').map(str::to_owned);
        let (outcome, closed_by) = (words.next().expect("an outcome"), words.next());
        let (sent, received, unread, unsent) = bytes;
        Self {
            client,
            role: role.to_owned(),
            outcome,
            closed_by,
            cause: words.next(),
            bytes: [Some(sent), Some(received), unread, Some(unsent)],
        }
    }

    /// What a line says.
    pub fn of(line: &Event) -> Self {
        let role = line.must("tcpstates.role").to_owned();
        let near = if role == "client" { "network.local" } else { "network.peer" };
        let address = line.must(&format!("{near}.address")).parse().expect("an address");
        let port = line.number(&format!("{near}.port")).unwrap_or(0);
        let text = |path| line.text(path).map(str::to_owned);
        let fields = ["sent.bytes", "received.bytes", "unread_bytes", "unsent_bytes"];
        Self {
            client: SocketAddr::new(address, u16::try_from(port).expect("a port")),
            role,
            outcome: line.must("tcpstates.outcome").to_owned(),
            cause: text("tcpstates.cause"),
            closed_by: text("tcpstates.closed_by"),
            bytes: fields.map(|field| line.number(&format!("tcpstates.{field}"))),
        }
    }
}

/// A client and a server, each in a namespace of its own, with a network between them that can be cut.
pub struct Stage {
    /// Connects.
    pub client: Puppet,
    /// Listens.
    pub server: Puppet,
    /// The client's.
    pub own: Addresses,
    /// The server's.
    pub at: Addresses,
    /// Between them.
    pub network: Network,
    /// Who traces both, by its hook.
    pub tracers: Vec<(&'static str, Tracer)>,
    /// How many sockets have a name.
    pub names: u32,
    /// What is to be told.
    pub expected: Vec<Told>,
    /// The client's and the server's.
    pub namespaces: [Netns; 2],
}

/// A connection of a stage: the names of its sockets, and the client's end.
pub struct Pair {
    /// The client's socket.
    pub near: String,
    /// The accepted socket.
    pub far: String,
    /// What it was accepted from.
    pub listener: String,
    /// The client's end.
    pub client: SocketAddr,
}

impl Stage {
    /// `settings` are of both namespaces.
    pub fn new(settings: &[(&str, &str)]) -> Self {
        let (network, near, far) = (Network::new(), Netns::new(), Netns::new());
        let own = network.join(&near);
        let at = network.join(&far);
        for namespace in [&near, &far] {
            for (path, value) in settings {
                namespace.set(path, value);
            }
        }
        // Nobody answers behind these.
        near.ip("route add blackhole 10.99.3.0/24\nroute add unreachable 10.99.1.0/24");
        far.ip("route add blackhole 10.99.3.0/24");
        near.ip(&format!("route add 10.98.0.0/16 via {}", at.v4));
        let place = |namespace| Place::default().netns(namespace);
        let (client, server) = (Puppet::start(&place(&near)), Puppet::start(&place(&far)));
        let inodes = [near.inode().to_string(), far.inode().to_string()];
        let tracers = HOOKS.map(|hook| {
            let options =
                ["--hook", hook, "--mode", "connections", "--netns", &inodes[0], "--netns", &inodes[1]];
            (hook, Setup::json(options).start_ready())
        });
        let (names, expected) = (0, Vec::new());
        let tracers = tracers.into();
        Self { client, server, own, at, network, tracers, names, expected, namespaces: [near, far] }
    }

    /// A name for another socket.
    pub fn name(&mut self) -> String {
        self.names += 1;
        format!("s{}", self.names)
    }

    /// A connection.
    pub fn open(&mut self) -> Pair {
        self.open_over(false)
    }

    /// The same over IPv4 or IPv6.
    pub fn open_over(&mut self, v6: bool) -> Pair {
        self.pair(v6, |stage, near, to| stage.client.connect(near, to).expect("it listens").local)
    }

    /// A connection of one more process beside the stage's client.
    pub fn open_by(&mut self, client: &mut Puppet) -> Pair {
        self.pair(false, |_, near, to| client.connect(near, to).expect("it listens").local)
    }

    fn pair(&mut self, v6: bool, connect: impl FnOnce(&mut Self, &str, SocketAddr) -> SocketAddr) -> Pair {
        let [near, far, listener] = [(); 3].map(|()| self.name());
        let to = self.server.listen(&listener, (self.at.of(v6), 0).into());
        let client = connect(self, &near, to);
        self.server.accept(&far, &listener);
        Pair { near, far, listener, client }
    }

    /// What is to be told of both sides.
    pub fn expect(&mut self, pair: &Pair, client: Expected<'_>, server: Expected<'_>) {
        for (role, (ending, bytes)) in [("client", client), ("server", server)] {
            self.expected.push(Told::new(pair.client, role, ending, bytes));
        }
        self.server.close(&pair.listener);
    }

    /// What is to be told of a connect that came to nothing.
    pub fn expect_failed(&mut self, client: SocketAddr, ending: &str) {
        self.expected.push(Told::new(client, "client", ending, (0, 0, Some(0), 0)));
    }

    /// A connect that is only begun.
    pub fn begin(&mut self, to: SocketAddr) -> (String, SocketAddr) {
        let name = self.name();
        let local = self.client.begin_connect(&name, to);
        (name, local)
    }

    /// Every connection was told as expected, each side once, and nothing else was told.
    pub fn judge(self) -> Vec<(&'static str, Finished)> {
        let Self { tracers, mut expected, client, server, namespaces, .. } = self;
        expected.sort_by_key(|told| (told.client, told.role.clone()));
        let finished = tracers.into_iter().map(|(hook, tracer)| {
            tracer.settle(Duration::from_millis(300));
            let finished = tracer.stop();
            finished.assert_clean();
            let mut told: Vec<_> = connections(&finished).iter().map(Told::of).collect();
            told.sort_by_key(|told| (told.client, told.role.clone()));
            let wrong: Vec<_> = expected.iter().filter(|one| !told.contains(one)).collect();
            let more: Vec<_> = told.iter().filter(|one| !expected.contains(one)).collect();
            assert!(
                wrong.is_empty() && more.is_empty(),
                "{hook}: expected {wrong:#?}, and was told {more:#?}"
            );
            assert_eq!(told.len(), expected.len(), "{hook}: each once");
            (hook, finished)
        });
        let finished = finished.collect();
        drop((client, server, namespaces));
        finished
    }
}

/// `outcome closed_by cause`, and bytes sent, received, unread and unsent.
pub type Expected<'a> = (&'a str, (u64, u64, Option<u64>, u64));

/// The lines of connections.
pub fn connections(finished: &Finished) -> Vec<Event> {
    finished.events().into_iter().filter(|line| line.kind() == "connection").collect()
}
