//! The tracer sees the transitions that libbpf-tools' `tcpstates` sees: the same multiset of both ends and both
//! states, over IPv4 and IPv6, whatever the hook.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use kube_tcpstates_kernel_tests::netns::{Addresses, Netns, Network};
use kube_tcpstates_kernel_tests::peer::Peer;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::{Puppet, Refused};
use kube_tcpstates_kernel_tests::requirements::{Need, require};
use kube_tcpstates_kernel_tests::tracer::Setup;
use kube_tcpstates_kernel_tests::tuple::{Difference, Tuple, difference};

/// An address of the joined subnet that nobody has.
const NOBODY: u8 = 250;

const HOOKS: [&str; 3] = ["tp_btf", "raw_tp", "tracepoint"];

const SYN_RETRIES: &str = "net/ipv4/tcp_syn_retries";

/// All hooks watch the same play, for it waits much for timers of the kernel.
#[test]
fn every_hook_sees_what_tcpstates_sees() {
    require(&[Need::Program("stdbuf"), Need::Program("unshare")]);
    let mut stage = Stage::new();
    let peer = Peer::start();
    let tracers = HOOKS.map(|hook| Setup::json(["--hook", hook]).with_tracefs().start_ready());
    for v6 in [false, true] {
        stage.play(v6);
    }
    stage.dual_stack();
    let finished = tracers.map(|tracer| {
        tracer.settle(Duration::from_millis(300));
        tracer.stop()
    });
    let mut theirs = peer.stop();
    theirs.retain(|tuple| stage.made(tuple));
    assert_every_case_happened(&theirs);
    for (hook, finished) in HOOKS.into_iter().zip(finished) {
        finished.assert_clean();
        assert_eq!(finished.events()[0].text("tcpstates.hook"), Some(hook), "the hook in use");
        let mut ours: Vec<Tuple> = finished.transitions().iter().map(|event| event.tuple()).collect();
        ours.retain(|tuple| stage.made(tuple));
        println!("{hook}: {} transitions here, {} from tcpstates", ours.len(), theirs.len());
        assert_eq!(difference(&ours, &theirs), Difference::default(), "first: {hook}, second: tcpstates");
        assert_ends_are_told(hook, &ours);
    }
}

/// What one side does not tell agrees with anything, so here is what this side must tell: all but the local port of
/// a SYN (unless bound) and whom a listener talks to. Before 6.15 or so a child has no peer at first.
#[track_caller]
fn assert_ends_are_told(hook: &str, ours: &[Tuple]) {
    for tuple in ours {
        let listener = (tuple.old == "LISTEN" && tuple.new == "CLOSE") || tuple.new == "LISTEN";
        let local_port = tuple.local.port != 0 || tuple.new == "SYN_SENT";
        let peer = tuple.peer.port != 0 || listener || tuple.new == "SYN_RECV";
        assert!(local_port && peer, "{hook} does not tell all of {tuple:?}");
    }
}

/// Guards against a stage that no longer plays what its scenes are named for.
fn assert_every_case_happened(seen: &[Tuple]) {
    let cases = [
        ("CLOSE", "LISTEN", "listen"),
        ("LISTEN", "CLOSE", "failed listen, and every end of a listener"),
        ("LISTEN", "SYN_RECV", "accept"),
        ("SYN_SENT", "SYN_RECV", "simultaneous open"),
        ("SYN_SENT", "CLOSE", "refused, and timed-out SYN"),
        ("FIN_WAIT1", "CLOSING", "simultaneous close"),
        ("CLOSING", "CLOSE", "simultaneous close"),
        ("FIN_WAIT1", "FIN_WAIT2", "close and half-close"),
        ("ESTABLISHED", "CLOSE", "RST"),
    ];
    for (old, new, what) in cases {
        for v6 in [false, true] {
            let found = seen.iter().any(|tuple| {
                (tuple.old.as_str(), tuple.new.as_str(), tuple.local.address.is_ipv6()) == (old, new, v6)
            });
            assert!(found, "{what}: no {old} -> {new} in IPv{}", if v6 { 6 } else { 4 });
        }
    }
}

/// Two namespaces on one bridge, with a puppet in each.
struct Stage {
    near: Puppet,
    far: Puppet,
    near_addresses: Addresses,
    far_addresses: Addresses,
    dual_stack_port: u16,
    network: Network,
    near_namespace: Netns,
    _far_namespace: Netns,
}

impl Stage {
    fn new() -> Self {
        let network = Network::new();
        let (near_namespace, far_namespace) = (Netns::new(), Netns::new());
        let near_addresses = network.join(&near_namespace);
        let far_addresses = network.join(&far_namespace);
        // A neighbour that is said to be there and is not: what is sent to it is gone without an error.
        let nobody = Addresses::numbered(NOBODY);
        for address in [IpAddr::V4(nobody.v4), IpAddr::V6(nobody.v6)] {
            near_namespace
                .ip(&format!("neigh add {address} lladdr 02:00:00:00:00:fa nud permanent dev eth0"));
        }
        Self {
            near: Puppet::start(&Place::default().netns(&near_namespace)),
            far: Puppet::start(&Place::default().netns(&far_namespace)),
            near_addresses,
            far_addresses,
            dual_stack_port: 0,
            network,
            near_namespace,
            _far_namespace: far_namespace,
        }
    }

    /// Whether a transition belongs to this stage: other programs use TCP at the same time.
    fn made(&self, tuple: &Tuple) -> bool {
        let mine = |address: IpAddr| {
            [self.near_addresses, self.far_addresses, Addresses::numbered(NOBODY)]
                .iter()
                .any(|addresses| address == addresses.v4 || address == addresses.v6)
        };
        let dual_stack_listener =
            tuple.local.address.is_unspecified() && tuple.local.port == self.dual_stack_port;
        mine(tuple.local.address) || mine(tuple.peer.address) || dual_stack_listener
    }

    fn play(&mut self, v6: bool) {
        let near = SocketAddr::new(self.near_addresses.of(v6), 0);
        let far = SocketAddr::new(self.far_addresses.of(v6), 0);
        let to = self.far.listen("listener", far);
        self.client_closes(to);
        self.server_closes(to);
        self.both_close_at_once(to);
        self.client_resets(to);
        self.server_resets(to);
        self.half_close(to);
        self.far.close("listener");
        self.refused(to);
        self.syn_times_out(SocketAddr::new(Addresses::numbered(NOBODY).of(v6), 4711));
        self.both_open_at_once(near, far);
        self.alone_with_itself(near);
        self.listen_fails(far);
    }

    fn connected(&mut self, to: SocketAddr) {
        self.near.connect("client", to).expect("the server listens");
        self.far.accept("server", "listener");
    }

    fn client_closes(&mut self, to: SocketAddr) {
        self.connected(to);
        self.near.close("client");
        self.far.receive_to_end("server").expect("a FIN came");
        self.far.close("server");
    }

    fn server_closes(&mut self, to: SocketAddr) {
        self.connected(to);
        self.far.close("server");
        self.near.receive_to_end("client").expect("a FIN came");
        self.near.close("client");
    }

    /// Neither FIN arrives before both are sent.
    fn both_close_at_once(&mut self, to: SocketAddr) {
        self.connected(to);
        self.network.pause();
        self.near.shut_down("client");
        self.far.shut_down("server");
        self.network.resume();
        self.near.receive_to_end("client").expect("a FIN came");
        self.far.receive_to_end("server").expect("a FIN came");
        self.near.close("client");
        self.far.close("server");
        // The FIN that was not acknowledged is sent a second time.
        thread::sleep(Duration::from_secs(1));
    }

    fn client_resets(&mut self, to: SocketAddr) {
        self.connected(to);
        self.near.reset("client");
        assert_eq!(self.far.receive_to_end("server"), Err(Refused::CONNRESET));
        self.far.close("server");
    }

    fn server_resets(&mut self, to: SocketAddr) {
        self.connected(to);
        self.far.reset("server");
        assert_eq!(self.near.receive_to_end("client"), Err(Refused::CONNRESET));
        self.near.close("client");
    }

    /// The server goes on sending after the client's FIN.
    fn half_close(&mut self, to: SocketAddr) {
        self.connected(to);
        self.near.shut_down("client");
        self.far.receive_to_end("server").expect("a FIN came");
        self.far.send("server", 100);
        self.far.close("server");
        self.near.receive_to_end("client").expect("data came, then a FIN");
        self.near.close("client");
    }

    fn refused(&mut self, to: SocketAddr) {
        assert_eq!(self.near.connect("refused", to), Err(Refused::CONNREFUSED));
        self.near.close("refused");
    }

    fn syn_times_out(&mut self, to: SocketAddr) {
        // For this SYN alone: on an emulated machine others may well be answered late.
        self.near_namespace.set(SYN_RETRIES, "1");
        assert_eq!(self.near.connect("unanswered", to), Err(Refused::TIMEDOUT));
        self.near_namespace.set(SYN_RETRIES, "6");
        self.near.close("unanswered");
    }

    /// Neither SYN arrives before both are sent. The bridge has passed frames before: both know each other's
    /// link address.
    fn both_open_at_once(&mut self, near: SocketAddr, far: SocketAddr) {
        let near = self.near.bind("one", near);
        let far = self.far.bind("other", far);
        self.network.pause();
        self.near.begin_connect("one", far);
        self.far.begin_connect("other", near);
        self.network.resume();
        self.near.finish_connect("one").expect("the second SYN is answered");
        self.far.finish_connect("other").expect("the second SYN is answered");
        self.near.close("one");
        self.far.receive_to_end("other").expect("a FIN came");
        self.far.close("other");
    }

    /// A socket connected to its own address opens and closes simultaneously with itself.
    fn alone_with_itself(&mut self, near: SocketAddr) {
        let own = self.near.bind("self", near);
        self.near.connect("self", own).expect("a socket can connect to itself");
        self.near.close("self");
    }

    /// Two sockets may bind the same port with `SO_REUSEADDR`, but only one may listen.
    fn listen_fails(&mut self, far: SocketAddr) {
        let taken = self.far.bind("first", far);
        self.far.bind("second", taken);
        self.far.listen_on("first").expect("the port is free");
        assert_eq!(self.far.listen_on("second"), Err(Refused::ADDRINUSE));
        self.far.close("second");
        self.far.close("first");
    }

    /// An IPv6 socket that speaks IPv4 is shown as IPv4.
    fn dual_stack(&mut self) {
        let to = self.far.listen("listener", SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
        self.dual_stack_port = to.port();
        self.client_closes(SocketAddr::from((self.far_addresses.v4, to.port())));
        self.far.close("listener");
    }
}
