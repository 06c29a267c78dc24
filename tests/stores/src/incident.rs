//! An afternoon in a shop, in ten seconds: what the documents' questions are asked about.
//!
//! `checkout` is served by `payments`; it is refused where nobody listens, gets no answer from an address that is a black
//! hole, and a connection that it leaves alone is reset by its peer.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use kube_tcpstates_kernel_tests::cgroup::{CgroupTree, Container};
use kube_tcpstates_kernel_tests::netns::{Addresses, Netns, Network};
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::tracer::{Setup, Tracer};
use kube_tcpstates_kernel_tests::workload::puppet::Tuning;

/// Connections that `payments` serves.
pub const SERVED: usize = 12;
/// Connects where nobody listens.
pub const REFUSED: usize = 4;
/// For how long nothing is said before the reset.
pub const IDLE: Duration = Duration::from_millis(1_500);
/// Where `payments` listens.
pub const PORT: u16 = 8443;
/// Where it does not.
pub const CLOSED_PORT: u16 = 81;
/// The address that does not answer.
pub const SILENT: &str = "10.98.1.1";

/// The places, and who is in them.
#[derive(Debug)]
pub struct Incident {
    checkout: Puppet,
    payments: Puppet,
    /// Of `checkout`.
    pub client: Container,
    /// Of `payments`.
    pub server: Container,
    /// Where `payments` is.
    pub at: Addresses,
    namespaces: [Netns; 2],
    _network: Network,
    _tree: CgroupTree,
    connections: usize,
}

impl Incident {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        let tree = CgroupTree::new();
        let (client, server) = (tree.container(), tree.container());
        let network = Network::new();
        let namespaces = [Netns::new(), Netns::new()];
        network.join(&namespaces[0]);
        let at = network.join(&namespaces[1]);
        namespaces[0].ip(&format!("route add default via {}", at.v4));
        namespaces[1].set("net/ipv4/ip_forward", "1");
        namespaces[1].ip(&format!("route add blackhole {SILENT}/32"));
        let mut checkout = Puppet::start(&Place::container(&client).netns(&namespaces[0]));
        let mut payments = Puppet::start(&Place::container(&server).netns(&namespaces[1]));
        checkout.rename(b"checkout");
        payments.rename(b"payments");
        payments.listen_for("listener", SocketAddr::new(at.of(false), PORT), 128);
        Self {
            checkout,
            payments,
            client,
            server,
            at,
            namespaces,
            _network: network,
            _tree: tree,
            connections: 0,
        }
    }

    /// The program, tracing this and nothing else.
    #[track_caller]
    pub fn trace(&self, options: &[&str]) -> Tracer {
        let namespaces = self.namespaces.iter().flat_map(|it| ["--netns".to_owned(), it.inode().to_string()]);
        let options = options.iter().map(|&option| option.to_owned());
        Setup::json(options.chain(namespaces)).start_ready()
    }

    /// One connection, served to its end.
    pub fn serve(&mut self) {
        let (near, far) = self.open();
        self.checkout.send(&near, 100);
        self.payments.receive(&far, 100);
        self.payments.send(&far, 400);
        self.checkout.receive(&near, 400);
        self.checkout.close(&near);
        self.payments.receive_to_end(&far).expect("a FIN");
        self.payments.close(&far);
    }

    /// All of it.
    pub fn happen(&mut self) {
        for _ in 0..SERVED {
            self.serve();
        }
        for _ in 0..REFUSED {
            let name = self.name("refused");
            let nobody = SocketAddr::new(self.at.of(false), CLOSED_PORT);
            self.checkout.connect(&name, nobody).expect_err("nobody listens");
        }
        let silent = SocketAddr::new(SILENT.parse().expect("an address"), 443);
        self.checkout.bind("patient", SocketAddr::new([0, 0, 0, 0].into(), 0));
        self.checkout.tune("patient", Tuning::Syns(1));
        self.checkout.begin_connect("patient", silent);
        self.checkout.finish_connect("patient").expect_err("nobody answers");
        self.checkout.close("patient");
        let (near, far) = self.open();
        self.checkout.send(&near, 100);
        self.payments.receive(&far, 100);
        sleep(IDLE);
        self.payments.reset(&far);
        self.checkout.receive_to_end(&near).expect_err("a reset");
        self.checkout.close(&near);
    }

    fn open(&mut self) -> (String, String) {
        let (near, far) = (self.name("near"), self.name("far"));
        self.checkout.connect(&near, SocketAddr::new(self.at.of(false), PORT)).expect("it is served");
        self.payments.accept(&far, "listener");
        (near, far)
    }

    fn name(&mut self, what: &str) -> String {
        self.connections += 1;
        format!("{what}{}", self.connections)
    }
}

/// The lines of a run that saw all of it.
#[track_caller]
pub fn recorded() -> Vec<Vec<u8>> {
    let mut incident = Incident::new();
    let tracer = incident.trace(&["--mode", "connections"]);
    incident.happen();
    tracer.settle(Duration::from_millis(500));
    let finished = tracer.stop();
    finished.assert_clean();
    finished.lines.into_iter().map(|line| line.text).collect()
}

impl Default for Incident {
    fn default() -> Self {
        Self::new()
    }
}
