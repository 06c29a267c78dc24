//! How connections end: each way that there is, made by real sockets, beside the one that looks like it and is another.
//! Outcome, cause, who ended it, and every byte.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kube_tcpstates_kernel_tests::endings::{Pair, Stage, Told, connections};
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::procfs::netstat;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::tracer::Setup;
use kube_tcpstates_kernel_tests::workload::puppet::Tuning;

/// A packet on its way takes less.
const MOMENT: Duration = Duration::from_millis(50);
/// Of a kernel of 100 Hz.
const TICK: Duration = Duration::from_millis(10);
#[test]
fn an_orderly_end_says_who_began_it_and_counts_every_byte() {
    require(&[]);
    let mut stage = Stage::new(&[]);
    for v6 in [false, true] {
        let pair = stage.open_over(v6);
        stage.client.send(&pair.near, 1_000);
        stage.server.receive(&pair.far, 1_000);
        stage.server.send(&pair.far, 200_000);
        stage.client.receive(&pair.near, 200_000);
        stage.client.close(&pair.near);
        stage.server.receive_to_end(&pair.far).expect("a FIN");
        stage.server.close(&pair.far);
        stage.expect(
            &pair,
            ("closed local", (1_000, 200_000, Some(0), 0)),
            ("closed peer", (200_000, 1_000, Some(0), 0)),
        );
    }
    // The server begins; then the client without having read the end of the stream.
    let pair = stage.open();
    stage.server.send(&pair.far, 10);
    stage.client.receive(&pair.near, 10);
    stage.server.close(&pair.far);
    sleep(MOMENT);
    stage.client.close(&pair.near);
    sleep(MOMENT);
    stage.expect(&pair, ("closed peer", (0, 10, Some(0), 0)), ("closed local", (10, 0, Some(0), 0)));
    // Half closed: what comes after the own FIN is read. The kernel ends it before the program lets go, so nobody can
    // say that nothing was left unread.
    let pair = stage.open();
    stage.client.shut_down(&pair.near);
    stage.server.receive_to_end(&pair.far).expect("a FIN");
    stage.server.send(&pair.far, 5_000);
    stage.server.close(&pair.far);
    stage.client.receive_to_end(&pair.near).expect("a FIN");
    stage.client.close(&pair.near);
    stage.expect(&pair, ("closed local", (0, 5_000, None, 0)), ("closed peer", (5_000, 0, Some(0), 0)));
    // SO_LINGER with some seconds waits, and resets nothing.
    let pair = stage.open();
    stage.client.tune(&pair.near, Tuning::Linger(5));
    stage.client.send(&pair.near, 7);
    stage.server.receive(&pair.far, 7);
    stage.client.close(&pair.near);
    stage.server.close(&pair.far);
    stage.expect(&pair, ("closed local", (7, 0, Some(0), 0)), ("closed peer", (0, 7, Some(0), 0)));
    stage.judge();
}

/// Both close while nothing comes through. Whose FIN then comes first finds the other side closing, which knows that both
/// were at it; the first one's own is acknowledged before the other's comes.
#[test]
fn fins_that_cross_are_of_both() {
    require(&[]);
    let mut stage = Stage::new(&[]);
    let pair = stage.open();
    stage.network.pause();
    stage.client.close(&pair.near);
    stage.server.close(&pair.far);
    stage.network.resume();
    sleep(Duration::from_millis(800));
    stage.server.close(&pair.listener);
    for (hook, tracer) in std::mem::take(&mut stage.tracers) {
        tracer.settle(Duration::from_millis(300));
        let finished = tracer.stop();
        finished.assert_clean();
        let told: Vec<_> = connections(&finished).iter().map(Told::of).collect();
        let by: Vec<_> = told.iter().map(|told| told.closed_by.as_deref().unwrap_or("-")).collect();
        assert!(told.len() == 2 && told.iter().all(|told| told.outcome == "closed"), "{hook}: {told:#?}");
        assert!(by.contains(&"both") && by.iter().all(|by| ["both", "local"].contains(by)), "{hook}: {by:?}");
    }
}

#[test]
fn a_connect_that_failed_says_why() {
    require(&[]);
    let mut stage = Stage::new(&[]);
    let nobody = SocketAddr::new(stage.at.of(false), 9);
    let silent: SocketAddr = "10.98.1.1:80".parse().expect("an address");
    let unreachable: SocketAddr = "10.98.2.1:80".parse().expect("an address");
    // The server's namespace routes, and answers for its ways.
    stage.namespaces[1].set("net/ipv4/ip_forward", "1");
    stage.namespaces[1].set("net/ipv4/icmp_ratemask", "0");
    stage.namespaces[1].ip("route add blackhole 10.98.1.0/24\nroute add unreachable 10.98.2.0/24");
    let (name, local) = stage.begin(nobody);
    stage.client.finish_connect(&name).expect_err("nobody listens");
    stage.client.close(&name);
    stage.expect_failed(local, "refused peer");
    // The program reads the error, or never does.
    for reads in [true, false] {
        let (name, local) = stage.begin(unreachable);
        sleep(MOMENT);
        if reads {
            stage.client.finish_connect(&name).expect_err("the way is closed");
        }
        stage.client.close(&name);
        stage.expect_failed(local, "rejected kernel");
    }
    let (name, local) = stage.begin(silent);
    stage.client.close(&name);
    stage.expect_failed(local, "cancelled local");
    // Before the first SYN was sent again nobody can say that there is no answer.
    let (name, local) = stage.begin(silent);
    sleep(Duration::from_millis(300));
    stage.client.close(&name);
    stage.expect_failed(local, "cancelled local");
    let (name, local) = stage.begin(silent);
    sleep(Duration::from_millis(1_900));
    stage.client.close(&name);
    stage.expect_failed(local, "unanswered local");
    let patient = stage.name();
    stage.client.bind(&patient, "0.0.0.0:0".parse().expect("an address"));
    stage.client.tune(&patient, Tuning::Syns(1));
    let local = stage.client.begin_connect(&patient, silent);
    stage.client.finish_connect(&patient).expect_err("nobody answers");
    stage.client.close(&patient);
    stage.expect_failed(local, "unanswered kernel");
    let counted = netstat(stage.client.pid(), "TcpExt", "TCPSynRetrans");
    for (hook, finished) in stage.judge() {
        let lines = connections(&finished);
        let told: Vec<_> = lines.iter().filter_map(|line| line.number("tcpstates.syn_retransmits")).collect();
        assert_eq!(told.iter().sum::<u64>(), counted, "{hook}: {told:?}");
        let errors: Vec<_> = lines
            .iter()
            .filter(|line| line.must("tcpstates.outcome") == "unanswered")
            .map(|line| line.text("error.type"))
            .collect();
        assert_eq!(errors, [None, Some("ETIMEDOUT")], "{hook}");
    }
}

#[test]
fn a_reset_says_whose_it_was_and_what_was_lost() {
    require(&[]);
    let mut stage = Stage::new(&[]);
    // Some was read, and not all.
    let pair = stage.open();
    stage.client.send(&pair.near, 300);
    stage.server.receive(&pair.far, 100);
    stage.server.close(&pair.far);
    sleep(MOMENT);
    stage.client.close(&pair.near);
    stage.expect(
        &pair,
        ("reset_by_peer peer", (300, 0, Some(0), 0)),
        ("reset_by_us local unread_data", (0, 300, Some(200), 0)),
    );
    // The same after the peer's FIN, which is no byte.
    let pair = stage.open();
    stage.client.send(&pair.near, 40);
    stage.client.close(&pair.near);
    sleep(MOMENT);
    stage.server.close(&pair.far);
    stage.expect(
        &pair,
        ("closed local", (40, 0, Some(0), 0)),
        ("reset_by_us local unread_data", (0, 40, Some(40), 0)),
    );
    let pair = stage.open();
    stage.client.reset(&pair.near);
    sleep(MOMENT);
    stage.server.close(&pair.far);
    stage.expect(
        &pair,
        ("reset_by_us local linger", (0, 0, Some(0), 0)),
        ("reset_by_peer peer", (0, 0, Some(0), 0)),
    );
    // What was on its way is lost.
    let pair = stage.open();
    stage.network.pause();
    stage.client.send(&pair.near, 1_000);
    stage.client.reset(&pair.near);
    stage.network.resume();
    stage.server.reset(&pair.far);
    stage.expect(
        &pair,
        ("reset_by_us local linger", (0, 0, Some(0), 1_000)),
        ("reset_by_us local linger", (0, 0, Some(0), 0)),
    );
    let pair = stage.open();
    stage.client.send(&pair.near, 5);
    stage.server.receive(&pair.far, 5);
    stage.client.disconnect(&pair.near);
    sleep(MOMENT);
    stage.server.close(&pair.far);
    stage.expect(
        &pair,
        ("reset_by_us local disconnect", (5, 0, Some(0), 0)),
        ("reset_by_peer peer", (0, 5, Some(0), 0)),
    );
    // The same socket again: nothing of the connection before is told.
    let listener = stage.name();
    let to = stage.server.listen(&listener, (stage.at.of(false), 0).into());
    let client = stage.client.connect(&pair.near, to).expect("it listens").local;
    let far = stage.name();
    stage.server.accept(&far, &listener);
    stage.client.close(&pair.near);
    stage.server.receive_to_end(&far).expect("a FIN");
    stage.server.close(&far);
    let again = Pair { near: pair.near, far, listener, client };
    stage.expect(&again, ("closed local", (0, 0, Some(0), 0)), ("closed peer", (0, 0, Some(0), 0)));
    // Nobody accepted it, before and after the client had closed.
    for closes in [false, true] {
        let [near, listener] = [(); 2].map(|()| stage.name());
        let to = stage.server.listen(&listener, (stage.at.of(false), 0).into());
        let client = stage.client.connect(&near, to).expect("it listens").local;
        stage.client.send(&near, 9);
        if closes {
            stage.client.close(&near);
        }
        sleep(MOMENT);
        stage.server.close(&listener);
        sleep(MOMENT);
        let ending = if closes { "closed local" } else { "reset_by_peer peer" };
        if !closes {
            stage.client.close(&near);
        }
        stage.expected.push(Told::new(client, "client", ending, (9, 0, Some(0), 0)));
        stage.expected.push(Told::new(client, "server", "never_accepted local", (0, 9, Some(9), 0)));
    }
    stage.judge();
}

#[test]
fn what_was_left_unread_resets_a_connection_that_was_shut_down_for_sending() {
    require(&[]);
    let mut stage = Stage::new(&[]);
    let unread = ("reset_by_us local unread_data", (0, 30, Some(30), 0));
    let pair = stage.open();
    stage.client.shut_down(&pair.near);
    stage.server.receive_to_end(&pair.far).expect("a FIN");
    stage.server.send(&pair.far, 30);
    sleep(MOMENT);
    stage.client.close(&pair.near);
    sleep(MOMENT);
    stage.server.close(&pair.far);
    stage.expect(&pair, unread, ("reset_by_peer peer", (30, 0, Some(0), 0)));
    // Neither its FIN nor its reset comes through.
    let pair = stage.open();
    stage.server.send(&pair.far, 30);
    sleep(MOMENT);
    stage.network.pause();
    stage.client.shut_down(&pair.near);
    stage.client.close(&pair.near);
    stage.network.resume();
    stage.server.reset(&pair.far);
    stage.expect(&pair, unread, ("reset_by_us local linger", (30, 0, Some(0), 0)));
    stage.judge();
}

#[test]
fn a_socket_that_was_closed_and_gets_more_data_resets_it() {
    require(&[]);
    // Longer than the kernel keeps a closed connection in the small socket of TIME_WAIT.
    let mut stage = Stage::new(&[("net/ipv4/tcp_fin_timeout", "100")]);
    let pair = stage.open();
    stage.client.close(&pair.near);
    sleep(MOMENT);
    stage.server.send(&pair.far, 50);
    sleep(MOMENT);
    stage.server.close(&pair.far);
    stage.expect(
        &pair,
        ("reset_by_us local data_after_close", (0, 0, Some(0), 0)),
        ("reset_by_peer peer", (0, 0, Some(0), 50)),
    );
    // A reset at the same place is the peer's.
    let pair = stage.open();
    stage.client.close(&pair.near);
    sleep(MOMENT);
    stage.server.reset(&pair.far);
    sleep(MOMENT);
    stage.expect(
        &pair,
        ("reset_by_peer peer", (0, 0, Some(0), 0)),
        ("reset_by_us local linger", (0, 0, Some(0), 0)),
    );
    stage.judge();
}

#[test]
fn a_peer_that_is_silent_is_given_up_by_what_ran_out() {
    require(&[]);
    let mut stage = Stage::new(&[("net/ipv4/tcp_retries2", "2"), ("net/ipv4/tcp_orphan_retries", "1")]);
    let keeps = stage.open();
    stage.client.tune(&keeps.near, Tuning::KeepAlive(2));
    let [user, again, orphan, probed] = [(); 4].map(|()| stage.open());
    stage.client.tune(&user.near, Tuning::UserTimeout(1_200));
    // What is acknowledged makes room, until the server takes no more.
    for _ in 0..10 {
        stage.client.fill(&probed.near);
        sleep(MOMENT);
    }
    stage.network.pause();
    stage.client.send(&user.near, 100);
    stage.client.send(&again.near, 200);
    stage.client.send(&orphan.near, 300);
    stage.client.close(&orphan.near);
    // The first line, and an end for each.
    for (_, tracer) in &stage.tracers {
        tracer.wait_lines(6, Duration::from_mins(1));
    }
    for pair in [&keeps, &user, &again, &probed] {
        stage.client.close(&pair.near);
    }
    for pair in [&keeps, &user, &again, &orphan, &probed] {
        stage.server.close(&pair.listener);
        stage.server.reset(&pair.far);
    }
    stage.network.resume();
    let server = |pair: &Pair, ending| Told::new(pair.client, "server", ending, (0, 0, Some(0), 0));
    let client = |pair: &Pair, cause: &str, unread, unsent| {
        Told::new(pair.client, "client", &format!("timed_out kernel {cause}"), (0, 0, unread, unsent))
    };
    let linger = "reset_by_us local linger";
    stage.expected.extend([
        client(&keeps, "keepalive", Some(0), 0),
        client(&user, "user_timeout", Some(0), 100),
        client(&again, "retransmissions", Some(0), 200),
        client(&orphan, "retransmissions", Some(0), 300),
    ]);
    stage.expected.extend([&keeps, &user, &again, &orphan].map(|pair| server(pair, linger)));
    // How many bytes fill a window nobody can say before.
    let probed = probed.client;
    let tracers = std::mem::take(&mut stage.tracers);
    for (hook, tracer) in tracers {
        tracer.settle(Duration::from_millis(300));
        let finished = tracer.stop();
        finished.assert_clean();
        let (of_probed, others): (Vec<_>, Vec<_>) =
            connections(&finished).iter().map(Told::of).partition(|told| told.client == probed);
        let endings: Vec<_> = of_probed
            .iter()
            .map(|told| (told.role.as_str(), told.outcome.as_str(), told.cause.as_deref()))
            .collect();
        assert!(endings.contains(&("client", "timed_out", Some("window_probes"))), "{hook}: {of_probed:#?}");
        assert!(endings.contains(&("server", "reset_by_us", Some("unread_data"))), "{hook}: {of_probed:#?}");
        let wrong: Vec<_> = stage.expected.iter().filter(|one| !others.contains(one)).collect();
        let more: Vec<_> = others.iter().filter(|one| !stage.expected.contains(one)).collect();
        assert!(wrong.is_empty() && more.is_empty(), "{hook}: expected {wrong:#?}, and was told {more:#?}");
    }
}

#[test]
fn without_a_free_port_nothing_is_sent() {
    require(&[]);
    let mut stage = Stage::new(&[("net/ipv4/ip_local_port_range", "45000 45001")]);
    let listener = stage.name();
    let to = stage.server.listen(&listener, SocketAddr::new(stage.at.of(false), 7_000));
    let mut open = Vec::new();
    for _ in 0..2 {
        let name = stage.name();
        let local = stage.client.connect(&name, to).expect("there are two ports").local;
        open.push((name, local));
    }
    let name = stage.name();
    stage.client.connect(&name, to).expect_err("there are no more");
    stage.client.close(&name);
    let client = SocketAddr::new(stage.own.of(false), 0);
    stage.expected.push(Told::new(client, "client", "no_local_port kernel", (0, 0, Some(0), 0)));
    for (name, local) in open {
        stage.client.reset(&name);
        stage.expected.push(Told::new(local, "client", "reset_by_us local linger", (0, 0, Some(0), 0)));
        stage.expected.push(Told::new(local, "server", "reset_by_peer peer", (0, 0, Some(0), 0)));
    }
    sleep(MOMENT);
    stage.judge();
}

#[test]
fn times_are_those_that_the_program_saw() {
    require(&[]);
    let mut stage = Stage::new(&[]);
    let pair = stage.open();
    let begun = Instant::now();
    stage.client.send(&pair.near, 20);
    stage.server.receive(&pair.far, 20);
    let quiet = Instant::now();
    sleep(Duration::from_millis(1_500));
    let least = quiet.elapsed();
    stage.server.reset(&pair.far);
    let most = begun.elapsed();
    sleep(MOMENT);
    stage.client.close(&pair.near);
    stage.expect(
        &pair,
        ("reset_by_peer peer", (20, 0, Some(0), 0)),
        ("reset_by_us local linger", (0, 20, Some(0), 0)),
    );
    for (hook, finished) in stage.judge() {
        for line in connections(&finished) {
            let told = Duration::from_micros(line.number("tcpstates.idle_us").expect("data was sent"));
            // It is counted in ticks.
            assert!(told + TICK >= least && told <= most + TICK, "{hook}: {told:?} of {least:?} to {most:?}");
            let us = |path: &str| line.number(&format!("tcpstates.{path}")).unwrap_or(0);
            let states = line.get("tcpstates.states").and_then(|states| states.as_object()).expect("states");
            let sum: u64 = states.values().filter_map(serde_json::Value::as_u64).sum();
            assert!(us("duration_us").abs_diff(sum) <= states.len() as u64, "{hook}: {line:?}");
            assert!(us("handshake_us") > 0 && us("handshake_us") < 1_000_000, "{hook}: {line:?}");
        }
    }
}

/// Where nobody tells of resets, the errno of one may be that of an ICMP message.
#[test]
fn where_resets_are_not_watched_a_refused_connect_is_not_guessed_at() {
    require(&[]);
    let namespace = Netns::new();
    let mut puppet = Puppet::start(&Place::default().netns(&namespace));
    let netns = namespace.inode().to_string();
    let options = ["--hook", "tracepoint", "--mode", "connections", "--netns", &netns];
    let tracer = Setup::json(options).with_tracefs().start_ready();
    puppet.connect("refused", "127.0.0.1:9".parse().expect("an address")).expect_err("nobody listens");
    tracer.settle(Duration::from_millis(300));
    let told: Vec<_> = connections(&tracer.stop())
        .iter()
        .map(|line| (line.must("tcpstates.outcome").to_owned(), line.must("error.type").to_owned()))
        .collect();
    assert_eq!(told, [("unknown".to_owned(), "ECONNREFUSED".to_owned())]);
}
