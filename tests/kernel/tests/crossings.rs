//! What crosses on the way: connects and closes from both sides at once, halves that go on after a FIN, data that is on
//! its way when a side ends it, and connects to a listener that goes while its queue is full.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use kube_tcpstates_kernel_tests::endings::{Stage, Told, connections};
use kube_tcpstates_kernel_tests::procfs::netstat;
use kube_tcpstates_kernel_tests::requirements::require;

/// A packet on its way takes less.
const MOMENT: Duration = Duration::from_millis(50);
/// The first SYN is sent again after a second.
const A_SYN_LATER: Duration = Duration::from_millis(1_400);

/// Two clients, and no listener. Each SYN is lost once, or the first to come would find a closed port.
#[test]
fn a_connect_from_both_sides_is_one_connection_of_two_clients() {
    require(&[]);
    let mut stage = Stage::new(&[]);
    // Each side knows from then on where the other one is.
    let before = stage.open();
    stage.client.reset(&before.near);
    sleep(MOMENT);
    stage.server.close(&before.far);
    stage.expect(
        &before,
        ("reset_by_us local linger", (0, 0, Some(0), 0)),
        ("reset_by_peer peer", (0, 0, Some(0), 0)),
    );
    let [near, far] = [(); 2].map(|()| stage.name());
    let one = stage.client.bind(&near, SocketAddr::new(stage.own.of(false), 0));
    let other = stage.server.bind(&far, SocketAddr::new(stage.at.of(false), 0));
    stage.network.pause();
    stage.client.begin_connect(&near, other);
    stage.server.begin_connect(&far, one);
    stage.network.resume();
    stage.client.finish_connect(&near).expect("the SYN is sent again");
    stage.server.finish_connect(&far).expect("the SYN is sent again");
    stage.client.send(&near, 10);
    stage.server.receive(&far, 10);
    stage.server.send(&far, 3);
    stage.client.receive(&near, 3);
    stage.client.close(&near);
    stage.server.receive_to_end(&far).expect("a FIN");
    stage.server.close(&far);
    stage.expected.push(Told::new(one, "client", "closed local", (10, 3, Some(0), 0)));
    stage.expected.push(Told::new(other, "client", "closed peer", (3, 10, Some(0), 0)));
    let counted = [&stage.client, &stage.server].map(|side| netstat(side.pid(), "TcpExt", "TCPSynRetrans"));
    for (hook, finished) in stage.judge() {
        let lines = connections(&finished);
        let of = |end: SocketAddr| {
            let is_it = |line: &&_| Told::of(line).client == end;
            lines.iter().find(is_it).expect("it was judged")
        };
        let lines = [one, other].map(of);
        let again = lines.map(|line| line.number("tcpstates.syn_retransmits"));
        assert_eq!(again, counted.map(Some), "{hook}: {lines:?}");
        let crossed = lines.iter().filter(|line| line.get("tcpstates.states.SYN_RECV_us").is_some());
        assert!(crossed.count() > 0, "{hook}: the SYNs did not cross: {lines:?}");
        for line in lines {
            assert_handshake(hook, line);
        }
    }
}

/// A SYN that comes back: the shortest way to open from both sides, and to close from both.
#[test]
fn a_connection_to_itself_is_opened_and_closed_from_both_sides() {
    require(&[]);
    let mut stage = Stage::new(&[]);
    let name = stage.name();
    let own = stage.client.bind(&name, SocketAddr::new(stage.own.of(false), 0));
    stage.client.connect(&name, own).expect("it answers itself");
    stage.client.send(&name, 10);
    stage.client.receive(&name, 10);
    stage.client.close(&name);
    stage.expected.push(Told::new(own, "client", "closed both", (10, 10, Some(0), 0)));
    for (hook, finished) in stage.judge() {
        let lines = connections(&finished);
        assert!(lines[0].get("tcpstates.states.SYN_RECV_us").is_some(), "{hook}: {lines:?}");
        assert_handshake(hook, &lines[0]);
    }
}

/// From the SYN until it is open, by whatever states that goes.
#[track_caller]
fn assert_handshake(hook: &str, line: &kube_tcpstates_kernel_tests::line::Event) {
    let us = |name: &str| line.number(&format!("tcpstates.{name}")).unwrap_or(0);
    let passed = us("states.SYN_SENT_us") + us("states.SYN_RECV_us");
    assert!(us("handshake_us").abs_diff(passed) <= 2, "{hook}: {line:?}");
}

/// Each side says that it sends no more, and has more to read after it: first the one, then the other.
#[test]
fn each_half_goes_on_until_its_own_fin() {
    require(&[]);
    let mut stage = Stage::new(&[]);
    for servers_first in [false, true] {
        let pair = stage.open();
        let (client, server) = (&mut stage.client, &mut stage.server);
        client.send(&pair.near, 10);
        server.receive(&pair.far, 10);
        if servers_first {
            server.shut_down(&pair.far);
            client.receive_to_end(&pair.near).expect("a FIN");
            client.send(&pair.near, 5_000);
            client.shut_down(&pair.near);
            server.receive(&pair.far, 5_000);
            server.receive_to_end(&pair.far).expect("a FIN");
        } else {
            client.shut_down(&pair.near);
            server.receive_to_end(&pair.far).expect("a FIN");
            server.send(&pair.far, 5_000);
            server.shut_down(&pair.far);
            client.receive(&pair.near, 5_000);
            client.receive_to_end(&pair.near).expect("a FIN");
        }
        // The kernel has ended it: nothing is left to close but the descriptors.
        sleep(MOMENT);
        client.close(&pair.near);
        server.close(&pair.far);
        let (first, last) = ("closed local", "closed peer");
        // What came with the last FIN can still be read when the connection ends, by whoever sent the first one.
        if servers_first {
            stage.expect(&pair, (last, (5_010, 0, Some(0), 0)), (first, (0, 5_010, None, 0)));
        } else {
            stage.expect(&pair, (first, (10, 5_000, None, 0)), (last, (5_000, 10, Some(0), 0)));
        }
    }
    stage.judge();
}

/// The program closes with data unread while its own has not arrived: both are lost, and its reset with them.
#[test]
fn data_unread_and_data_on_its_way_are_both_told_as_lost() {
    require(&[]);
    let mut stage = Stage::new(&[]);
    let pair = stage.open();
    stage.client.send(&pair.near, 300);
    sleep(MOMENT);
    stage.network.pause();
    stage.server.send(&pair.far, 700);
    stage.server.close(&pair.far);
    stage.network.resume();
    // The client has not heard of it.
    stage.client.reset(&pair.near);
    stage.expect(
        &pair,
        ("reset_by_us local linger", (300, 0, Some(0), 0)),
        ("reset_by_us local unread_data", (0, 300, Some(300), 700)),
    );
    // The same of a client, whose peer then finds nobody: what it sends is answered with a reset.
    let pair = stage.open();
    stage.server.send(&pair.far, 40);
    sleep(MOMENT);
    stage.network.pause();
    stage.client.send(&pair.near, 60);
    stage.client.close(&pair.near);
    stage.network.resume();
    stage.server.send(&pair.far, 5);
    stage.server.receive_to_end(&pair.far).expect_err("a RST");
    stage.server.close(&pair.far);
    stage.expect(
        &pair,
        ("reset_by_us local unread_data", (0, 40, Some(40), 60)),
        ("reset_by_peer peer", (40, 0, Some(0), 5)),
    );
    stage.judge();
}

/// Two wait where one may, and the SYN of a third finds no room. When the listener goes, those two are reset, and the
/// third's next SYN finds nobody.
#[test]
fn a_listener_that_goes_while_its_queue_is_full_resets_some_and_refuses_the_next() {
    require(&[]);
    let mut stage = Stage::new(&[]);
    let listener = stage.name();
    let to = stage.server.listen_for(&listener, (stage.at.of(false), 0).into(), 1);
    let waiting = [9, 0].map(|bytes| {
        let name = stage.name();
        let local = stage.client.connect(&name, to).expect("there is room").local;
        stage.client.send(&name, bytes);
        (name, local, bytes as u64)
    });
    let (late, local) = stage.begin(to);
    sleep(MOMENT);
    stage.server.close(&listener);
    sleep(A_SYN_LATER);
    stage.client.finish_connect(&late).expect_err("nobody listens any more");
    stage.client.close(&late);
    stage.expect_failed(local, "refused peer");
    for (name, local, bytes) in waiting {
        stage.client.close(&name);
        stage.expected.push(Told::new(local, "client", "reset_by_peer peer", (bytes, 0, Some(0), 0)));
        stage.expected.push(Told::new(local, "server", "never_accepted local", (0, bytes, Some(bytes), 0)));
    }
    for (hook, finished) in stage.judge() {
        let lines = connections(&finished);
        let late = lines.iter().find(|line| line.must("tcpstates.outcome") == "refused").expect("the third");
        assert!(late.number("tcpstates.syn_retransmits").is_some_and(|count| count > 0), "{hook}: {late:?}");
    }
}
