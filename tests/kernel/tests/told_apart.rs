//! Connections that look like others: those of which segments came twice after their program had closed them.

use std::thread::sleep;
use std::time::Duration;

use kube_tcpstates_kernel_tests::endings::{Stage, connections};
use kube_tcpstates_kernel_tests::requirements::{Need, require};

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
