//! Sockets that an administrator ends from outside (`ss -K`): each ends once, with what ended it.

use std::net::Ipv4Addr;
use std::time::Duration;

use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::{Need, require};
use kube_tcpstates_kernel_tests::tracer::Setup;

const PORT: u16 = 7121;

/// Ends the sockets that a filter of `ss` takes.
fn kill(namespace: &Netns, filter: &str) {
    let mut ss = Place::default().netns(namespace).command("ss");
    let output = ss.args(["-HKtn"]).args(filter.split(' ')).output().expect("run ss");
    let killed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !killed.is_empty(), "ss -K {filter} ended nothing: {output:?}");
}

#[test]
fn a_killed_socket_ends_once_and_says_why() {
    require(&[Need::Program("ss")]);
    for hook in ["tp_btf", "raw_tp"] {
        let namespace = Netns::new();
        let start = || Puppet::start(&Place::default().netns(&namespace));
        let (mut client, mut server) = (start(), start());
        let netns = namespace.inode().to_string();
        let tracer = Setup::json(["--hook", hook, "--netns", &netns]).start_ready();
        let to = server.listen("listener", (Ipv4Addr::LOCALHOST, PORT).into());
        for name in ["open", "half closed"] {
            client.connect(name, to).expect("it listens");
            server.accept(name, "listener");
        }
        client.shut_down("half closed");
        tracer.settle(Duration::from_millis(300));
        kill(&namespace, &format!("state connected dport = :{PORT}"));
        kill(&namespace, &format!("state listening sport = :{PORT}"));
        for name in ["open", "half closed"] {
            client.close(name);
            server.close(name);
        }
        // The kernel closes it again.
        server.close("listener");
        tracer.settle(Duration::from_millis(300));
        let finished = tracer.stop();
        finished.assert_clean();
        let mut lines = finished.transitions();
        lines.retain(|line| line.tuple().new == "CLOSE");
        let mut ends: Vec<_> = lines
            .iter()
            .map(|line| (line.text("tcpstates.role"), line.tuple().old, line.text("error.type")))
            .collect();
        ends.sort();
        let expected = [
            (Some("client"), "ESTABLISHED", Some("ECONNABORTED")),
            (Some("client"), "FIN_WAIT2", Some("ECONNABORTED")),
            (Some("server"), "CLOSE_WAIT", Some("EPIPE")),
            (Some("server"), "ESTABLISHED", Some("ECONNRESET")),
            (Some("server"), "LISTEN", None),
        ];
        assert_eq!(ends, expected.map(|(role, old, error)| (role, old.to_owned(), error)), "{hook}");
    }
}
