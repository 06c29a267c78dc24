//! Connects that an ICMP message rejects: each line says by its errno what happened to this connection, although the
//! program has read the error, or none has reached it; and what nobody can tell is said to be unknown.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kube_tcpstates_kernel_tests::line::Event;
use kube_tcpstates_kernel_tests::netns::{Addresses, Netns, Network};
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::tracer::{Setup, Tracer};

/// The router takes less.
const ANSWER: Duration = Duration::from_millis(100);

/// What a router does with packets to a destination.
#[derive(Clone, Copy)]
enum Way {
    /// It answers that the host cannot be reached.
    Unreachable,
    /// It answers that the way is forbidden.
    Prohibited,
    /// It says nothing.
    Silent,
}

impl Way {
    fn to(self, v6: bool) -> SocketAddr {
        let text = match (self, v6) {
            (Self::Unreachable, false) => "10.99.1.1",
            (Self::Prohibited, false) => "10.99.2.1",
            (Self::Silent, false) => "10.99.3.1",
            (Self::Unreachable, true) => "fd99:1::1",
            (Self::Prohibited, true) => "fd99:2::1",
            (Self::Silent, true) => "fd99:3::1",
        };
        SocketAddr::new(text.parse().expect("an address"), 80)
    }
}

/// A client behind a router that has those three ways. A router answers a client five times at once, and then once a
/// second.
struct Stage {
    client: Netns,
    _router: Netns,
    _network: Network,
}

impl Stage {
    fn new() -> Self {
        let (network, client, router) = (Network::new(), Netns::new(), Netns::new());
        network.join(&client);
        let Addresses { v4, v6 } = network.join(&router);
        router.ip("route add unreachable 10.99.1.0/24\nroute add prohibit 10.99.2.0/24\n\
             route add blackhole 10.99.3.0/24\nroute add unreachable fd99:1::/64\n\
             route add prohibit fd99:2::/64\nroute add blackhole fd99:3::/64");
        for setting in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            router.set(setting, "1");
        }
        // A limit of 0 would take all that there is room for.
        router.set("net/ipv4/icmp_ratemask", "0");
        router.set("net/ipv6/icmp/ratelimit", "0");
        client.ip(&format!("route add 10.99.0.0/16 via {v4}\nroute add fd99::/16 via {v6}"));
        Self { client, _router: router, _network: network }
    }

    /// A client, and who traces it.
    fn begin(&self, hook: &str) -> (Puppet, Tracer) {
        let client = Puppet::start(&Place::default().netns(&self.client));
        let netns = self.client.inode().to_string();
        (client, Setup::json(["--hook", hook, "--netns", &netns]).start_ready())
    }
}

/// The failed connects were told so: which way, error and cause, in their order.
#[track_caller]
fn assert_told(hook: &str, tracer: Tracer, v6: bool, expected: &[(Way, Option<&str>, Option<&str>)]) {
    tracer.settle(Duration::from_millis(300));
    let finished = tracer.stop();
    finished.assert_clean();
    let expected = expected.iter().map(|(way, error, cause)| (way.to(v6).ip(), *error, *cause));
    assert_eq!(told(&finished.transitions()), expected.collect::<Vec<_>>(), "{hook}");
}

/// Failed connects of one hook: peer, error and cause, in their order.
fn told(lines: &[Event]) -> Vec<(IpAddr, Option<&str>, Option<&str>)> {
    let failed = lines.iter().filter(|line| {
        (line.must("tcpstates.old_state"), line.must("tcpstates.new_state")) == ("SYN_SENT", "CLOSE")
    });
    failed
        .map(|line| (line.tuple().peer.address, line.text("error.type"), line.text("tcpstates.cause")))
        .collect()
}

#[test]
fn a_rejected_connect_has_its_error_also_when_the_program_has_read_it() {
    use Way::{Prohibited, Silent, Unreachable};
    require(&[]);
    for hook in ["tp_btf", "raw_tp"] {
        let stage = Stage::new();
        let (mut client, tracer) = stage.begin(hook);
        for way in [Unreachable, Prohibited] {
            client.begin_connect("fresh", way.to(false));
            client.finish_connect("fresh").expect_err("it is rejected");
            client.close("fresh");
        }
        for way in [Unreachable, Silent, Prohibited] {
            client.begin_connect("used", way.to(false));
            if !matches!(way, Silent) {
                // The message of the connection before would end the waiting at once.
                std::thread::sleep(ANSWER);
                client.finish_connect("used").expect_err("it is rejected");
            }
            client.disconnect("used");
        }
        let expected = [
            (Unreachable, Some("EHOSTUNREACH"), None),
            (Prohibited, Some("EHOSTUNREACH"), None),
            (Unreachable, Some("EHOSTUNREACH"), None),
            // The message of the connection before is still in the queue.
            (Silent, None, Some("unknown")),
            (Prohibited, Some("EHOSTUNREACH"), None),
        ];
        assert_told(hook, tracer, false, &expected);
    }
}

/// IPv6 queues nothing unless asked to. A second later the SYN goes out again, and the second message ends it.
#[test]
fn over_ipv6_it_has_its_error_until_the_program_reads_it() {
    use Way::{Prohibited, Silent, Unreachable};
    require(&[]);
    for hook in ["tp_btf", "raw_tp"] {
        let stage = Stage::new();
        let (mut client, tracer) = stage.begin(hook);
        client.begin_connect("patient", Prohibited.to(true));
        client.finish_connect("patient").expect_err("it is rejected");
        client.close("patient");
        for way in [Unreachable, Silent, Prohibited] {
            client.begin_connect("used", way.to(true));
            client.disconnect("used");
        }
        let expected = [
            (Prohibited, Some("EACCES"), None),
            (Unreachable, Some("ENETUNREACH"), None),
            (Silent, None, Some("unknown")),
            (Prohibited, Some("EACCES"), None),
        ];
        assert_told(hook, tracer, true, &expected);
    }
}
