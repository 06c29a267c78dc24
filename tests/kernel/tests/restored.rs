//! Connections that are put in their place again, as CRIU does: their `connect` sends nothing, and says nothing about
//! which side they were.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::tracer::Setup;

/// Nobody is there.
const GONE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 77, 5, 1)), 9);

#[test]
fn a_restored_connection_has_no_role() {
    require(&[]);
    for hook in ["tp_btf", "raw_tp"] {
        let namespace = Netns::new();
        let mut puppet = Puppet::start(&Place::default().netns(&namespace));
        let to = puppet.listen("listener", (Ipv4Addr::new(127, 77, 5, 2), 0).into());
        let netns = namespace.inode().to_string();
        let start = |options: &[&str]| {
            Setup::json([&["--hook", hook, "--netns", &netns], options].concat()).start_ready()
        };
        let (tracer, clients) = (start(&[]), start(&["--role", "client"]));
        // A socket that was a client before, is restored, and is a client again.
        puppet.connect("socket", to).expect("it listens");
        puppet.disconnect("socket");
        puppet.restore("socket", GONE);
        puppet.disconnect("socket");
        puppet.connect("socket", to).expect("it listens");
        tracer.settle(Duration::from_millis(300));
        let (finished, clients) = (tracer.stop(), clients.stop());
        finished.assert_clean();
        let mut lines = finished.transitions();
        lines.retain(|line| line.text("tcpstates.owner.source") == Some("connect"));
        let told: Vec<_> = lines
            .iter()
            .map(|line| {
                (line.tuple().new, line.tuple().peer.address == GONE.ip(), line.text("tcpstates.role"))
            })
            .collect();
        let (client, restored) = ((false, Some("client")), (true, None));
        let expected = [client, restored, client].map(|(restored, role)| {
            ["SYN_SENT", "ESTABLISHED", "CLOSE"].map(|new| (new.to_owned(), restored, role))
        });
        assert_eq!(told, expected.as_flattened()[..8], "{hook}");
        let shown = clients.transitions();
        assert_eq!(shown.len(), 5, "{hook}: {shown:#?}");
        assert!(shown.iter().all(|line| line.tuple().peer.address != GONE.ip()), "{hook}: {shown:#?}");
    }
}
