//! The scene most tests need: a network namespace with loopback only, in it a server in one container, and
//! clients in another.

use std::net::{Ipv4Addr, SocketAddr};

use crate::cgroup::{CgroupTree, Container};
use crate::netns::Netns;
use crate::place::Place;
use crate::traffic::{Churn, Server};
use crate::workload::{Ending, Report};

/// Loopback addresses that clients of a [`Scene`] spread over: each has all local ports to itself, so that none
/// is wanted again while the last connection that had it is in `TIME_WAIT`.
const SPREAD: u16 = 128;

/// A server that listens before any tracer starts, so that only connections make transitions: their number is
/// known exactly.
#[derive(Debug)]
pub struct Scene {
    /// Declared before what it runs in, and so dropped before it.
    pub server: Server,
    /// The server's.
    pub server_container: Container,
    /// The clients'.
    pub client_container: Container,
    /// Of both.
    pub namespace: Netns,
    /// Parent of both containers and of what a test adds.
    pub tree: CgroupTree,
    ending: Ending,
    connections: u64,
}

impl Scene {
    /// Makes it all; connections end as said.
    pub fn new(ending: Ending) -> Self {
        Self::with_listed_server(ending, false)
    }

    /// The same, with a server that can list its connections.
    pub fn with_listed_server(ending: Ending, list: bool) -> Self {
        let tree = CgroupTree::new();
        let namespace = Netns::new();
        namespace.widen_ports();
        let (server_container, client_container) = (tree.container(), tree.container());
        let place = Place::container(&server_container).netns(&namespace);
        let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let server = Server::start(&place, &[listen], ending, list);
        Self { server, server_container, client_container, namespace, tree, ending, connections: 0 }
    }

    /// The options that make a tracer see this scene and nothing else.
    pub fn only_this(&self) -> [String; 2] {
        ["--netns".to_owned(), self.namespace.inode().to_string()]
    }

    /// A loopback address of the server.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::new(127, 77, 0, 1), self.port()).into()
    }

    /// Where the server listens, on every address.
    pub fn port(&self) -> u16 {
        self.server.addresses()[0].port()
    }

    /// Where clients run.
    pub fn client_place(&self) -> Place {
        Place::container(&self.client_container).netns(&self.namespace)
    }

    /// So many connections, two at a time, not yet started.
    pub fn churn(&self, count: u64) -> Churn {
        Churn::new(&[self.address()], count).threads(2).spread(SPREAD).ending(self.ending)
    }

    /// Runs clients to their end, and waits until the server is done with them too: then the kernel has made
    /// every transition there will be.
    #[track_caller]
    pub fn run(&mut self, churn: &Churn) -> Report {
        let report = churn.run(&self.client_place());
        self.absorb(&report);
        report
    }

    /// Waits until the server is done with what clients that the test ran itself report.
    #[track_caller]
    pub fn absorb(&mut self, report: &Report) {
        self.connections += report.connections;
        let served = self.server.wait_for(self.connections);
        assert_eq!((served.connections, served.failures), (self.connections, 0), "the server's view");
    }

    /// Transitions that all connections so far have made.
    pub fn transitions(&self) -> u64 {
        self.connections * self.ending.transitions()
    }

    /// How connections end.
    pub fn ending(&self) -> Ending {
        self.ending
    }
}
