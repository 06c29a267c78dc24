//! Connections that look like others: one of which segments came twice after its program had closed it, and those that
//! were there before the tracer. Each is told as what it is, or not at all.

use std::thread::sleep;
use std::time::Duration;

use kube_tcpstates_kernel_tests::endings::{Stage, connections};
use kube_tcpstates_kernel_tests::line::Event;
use kube_tcpstates_kernel_tests::netns::{Netns, Network};
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::{Need, require};
use kube_tcpstates_kernel_tests::tracer::Setup;

/// A packet on its way takes less.
const MOMENT: Duration = Duration::from_millis(50);
/// In which what nobody has acknowledged is sent again, more than once.
const AGAIN: Duration = Duration::from_millis(1_200);
/// A FIN is acknowledged by itself, before the program closes.
const ACKNOWLEDGED: Duration = Duration::from_millis(300);
const DROP_ALL_THAT_COMES: &str = "table inet deaf { chain input { type filter hook input priority 0;
        meta l4proto tcp drop
    }
    }";

/// The server has read the request, answered and closed; what it says does not come through, so that the client sends its
/// request again.
#[test]
fn a_request_that_comes_again_after_the_close_resets_nothing() {
    require(&[Need::Program("nft")]);
    let mut stage = Stage::new(&[]);
    let [orderly, reset] = [(); 2].map(|()| stage.open());
    stage.namespaces[0].nft(DROP_ALL_THAT_COMES);
    for pair in [&orderly, &reset] {
        stage.client.send(&pair.near, 100);
        stage.server.receive(&pair.far, 100);
        stage.server.send(&pair.far, 20);
        stage.server.close(&pair.far);
    }
    sleep(AGAIN);
    stage.client.reset(&reset.near);
    sleep(MOMENT);
    stage.namespaces[0].nft("flush ruleset");
    stage.client.receive(&orderly.near, 20);
    stage.client.receive_to_end(&orderly.near).expect("a FIN");
    sleep(ACKNOWLEDGED);
    stage.client.close(&orderly.near);
    stage.expect(&orderly, ("closed peer", (100, 20, Some(0), 0)), ("closed local", (20, 100, Some(0), 0)));
    stage.expect(
        &reset,
        ("reset_by_us local linger", (0, 0, Some(0), 100)),
        ("reset_by_peer peer", (0, 100, Some(0), 20)),
    );
    for (hook, finished) in stage.judge() {
        for line in connections(&finished).iter().filter(|line| line.must("tcpstates.role") == "server") {
            let came = line.number("tcpstates.received.segments");
            assert!(came > Some(1), "{hook}: the request came once: {line:?}");
        }
    }
}

#[test]
fn of_what_is_older_than_the_tracer_payload_alone_is_counted_and_no_reset_guessed() {
    require(&[Need::Program("nft")]);
    for hook in ["tp_btf", "raw_tp"] {
        let (network, near, far) = (Network::new(), Netns::new(), Netns::new());
        let [_, at] = [&near, &far].map(|namespace| network.join(namespace));
        let start = |namespace| Puppet::start(&Place::default().netns(namespace));
        let (mut client, mut server) = (start(&near), start(&far));
        let mut open = |name: &str| {
            let (listener, far) = (format!("listener of {name}"), format!("far {name}"));
            let to = server.listen(&listener, (at.of(false), 0).into());
            client.connect(name, to).expect("it listens");
            server.accept(&far, &listener);
            to.port()
        };
        let [half_closed, silent] = ["half closed", "silent"].map(&mut open);
        client.send("half closed", 10);
        server.receive("far half closed", 10);
        client.shut_down("half closed");
        // Now nobody can say who was the client.
        server.close("listener of silent");
        near.nft(DROP_ALL_THAT_COMES);
        client.begin_connect("refused", (at.of(false), 9).into());
        let inodes = [&near, &far].map(|namespace| namespace.inode().to_string());
        let options = ["--hook", hook, "--mode", "connections", "--netns", &inodes[0], "--netns", &inodes[1]];
        let tracer = Setup::json(options).start_ready();
        near.nft("flush ruleset");
        for name in ["half closed", "silent"] {
            server.close(&format!("far {name}"));
            sleep(MOMENT);
            client.close(name);
        }
        client.finish_connect("refused").expect_err("nobody listens");
        tracer.settle(Duration::from_millis(300));
        let finished = tracer.stop();
        finished.assert_clean();
        let told = connections(&finished);
        assert_eq!(told.len(), 5, "{hook}: {told:#?}");
        assert_eq!(sent(&told, half_closed), [0, 10], "{hook}: {told:#?}");
        assert_eq!(sent(&told, silent), [0, 0], "{hook}: {told:#?}");
        let refused = told.iter().find(|line| line.text("error.type") == Some("ECONNREFUSED"));
        assert_eq!(refused.map(|line| line.must("tcpstates.outcome")), Some("unknown"), "{hook}: {told:#?}");
    }
}

/// Bytes that both ends of a server's port sent, the least first.
fn sent(told: &[Event], port: u16) -> Vec<u64> {
    let ends = ["network.local.port", "network.peer.port"];
    let of_port = |line: &&Event| ends.iter().any(|end| line.number(end) == Some(port.into()));
    let mut sent: Vec<_> =
        told.iter().filter(of_port).filter_map(|line| line.number("tcpstates.sent.bytes")).collect();
    sent.sort_unstable();
    sent
}
