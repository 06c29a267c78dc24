//! Sockets that an administrator ends from outside (`ss -K`): each ends once, with what ended it.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use kube_tcpstates_kernel_tests::endings::{Stage, Told, connections};
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::{Need, require};
use kube_tcpstates_kernel_tests::tracer::Setup;
use kube_tcpstates_kernel_tests::workload::puppet::Tuning;

const PORT: u16 = 7121;
/// A packet on its way takes less.
const MOMENT: Duration = Duration::from_millis(50);

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

/// Whatever the program had left unread or unsent, and however it would have closed: beside each stands one that its program
/// ended so.
#[test]
fn a_killed_connection_is_told_from_one_that_its_program_ended() {
    require(&[Need::Program("ss")]);
    let mut stage = Stage::new(&[]);
    let killed = "reset_by_us local killed";
    let by_peer = "reset_by_peer peer";
    // The server has not read what came.
    for (is_killed, told) in [(true, (killed, None)), (false, ("reset_by_us local unread_data", Some(9)))] {
        let pair = stage.open();
        stage.client.send(&pair.near, 9);
        sleep(MOMENT);
        if is_killed {
            kill(&stage.namespaces[1], &format!("state connected dport = :{}", pair.client.port()));
        }
        stage.server.close(&pair.far);
        sleep(MOMENT);
        stage.client.close(&pair.near);
        let (ending, unread) = told;
        stage.expect(&pair, (by_peer, (9, 0, Some(0), 0)), (ending, (0, 9, unread, 0)));
    }
    // The client would reset it by itself.
    for (is_killed, ending) in [(true, killed), (false, "reset_by_us local linger")] {
        let pair = stage.open();
        stage.client.tune(&pair.near, Tuning::Linger(0));
        if is_killed {
            kill(&stage.namespaces[0], &format!("state connected sport = :{}", pair.client.port()));
        }
        stage.client.close(&pair.near);
        sleep(MOMENT);
        stage.server.close(&pair.far);
        stage.expect(&pair, (ending, (0, 0, Some(0), 0)), (by_peer, (0, 0, Some(0), 0)));
    }
    connects_killed_and_given_up(&mut stage);
    orphan_killed(&mut stage);
    for (hook, finished) in stage.judge() {
        let lines = connections(&finished);
        let killed = lines.iter().filter(|line| line.text("tcpstates.cause") == Some("killed"));
        let errors: Vec<_> = killed.map(|line| line.text("error.type")).collect();
        assert_eq!(errors, [Some("ECONNABORTED"); 4], "{hook}");
    }
}

fn connects_killed_and_given_up(stage: &mut Stage) {
    stage.namespaces[1].set("net/ipv4/ip_forward", "1");
    stage.namespaces[1].ip("route add blackhole 10.98.1.0/24");
    let silent: SocketAddr = "10.98.1.1:80".parse().expect("an address");
    for (is_killed, ending) in [(true, "reset_by_us local killed"), (false, "cancelled local")] {
        let (name, local) = stage.begin(silent);
        if is_killed {
            kill(&stage.namespaces[0], &format!("state syn-sent sport = :{}", local.port()));
        }
        stage.client.close(&name);
        stage.expect_failed(local, ending);
    }
}

/// No program holds it any more, and the kernel would have tried for minutes. Its reset does not come through.
fn orphan_killed(stage: &mut Stage) {
    let pair = stage.open();
    stage.network.pause();
    stage.client.send(&pair.near, 300);
    stage.client.close(&pair.near);
    kill(&stage.namespaces[0], &format!("state fin-wait-1 sport = :{}", pair.client.port()));
    stage.network.resume();
    stage.server.reset(&pair.far);
    stage.server.close(&pair.listener);
    let (own, theirs) = ("reset_by_us local killed", "reset_by_us local linger");
    stage.expected.push(Told::new(pair.client, "client", own, (0, 0, Some(0), 300)));
    stage.expected.push(Told::new(pair.client, "server", theirs, (0, 0, Some(0), 0)));
}
