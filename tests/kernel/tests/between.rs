//! What stands between two programs: firewalls and NAT by real rules of nftables, a full accept queue, data in a SYN,
//! MPTCP. Each looks like something else to the program, and its connection is told as what it is.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kube_tcpstates_kernel_tests::endings::{Pair, Stage, Told, connections};
use kube_tcpstates_kernel_tests::procfs::netstat;
use kube_tcpstates_kernel_tests::requirements::{Need, require};
use kube_tcpstates_kernel_tests::workload::puppet::Tuning;

/// A packet on its way takes less.
const MOMENT: Duration = Duration::from_millis(50);
/// The first SYN is sent again after a second.
const A_SYN_LATER: Duration = Duration::from_millis(1_400);
/// As exact as idle times are: a tick, and a system call's way to its process.
const IDLE_TOLERANCE: Duration = Duration::from_millis(20);

#[test]
fn a_firewall_is_told_by_what_it_answers() {
    require(&[Need::Program("nft")]);
    let mut stage = Stage::new(&[]);
    stage.namespaces[1].nft(
        "table inet filter { chain input { type filter hook input priority 0;
            tcp dport 81 reject with tcp reset
            tcp dport 82 drop
            tcp dport 83 reject with icmpx admin-prohibited
        }
        }",
    );
    // The machine's own firewall.
    stage.namespaces[0].nft(
        "table inet filter { chain output { type filter hook output priority 0;
            tcp dport 84 drop
            tcp dport 85 reject with tcp reset
        }
        }",
    );
    let cases = [
        (81, "refused peer"),
        (82, "unanswered local"),
        (83, "rejected kernel"),
        (84, "unanswered local"),
        (85, "refused peer"),
    ];
    for v6 in [false, true] {
        for (port, ending) in cases {
            let (name, local) = stage.begin((stage.at.of(v6), port).into());
            sleep(if ending.starts_with("unanswered") || v6 { A_SYN_LATER } else { MOMENT });
            stage.client.close(&name);
            stage.expect_failed(local, ending);
        }
    }
    stage.judge();
}

/// A firewall's ICMP message, as kube-proxy's of a Service without endpoints: to a program that waits and to one that does
/// not, from the other side and from the machine's own rules. While a program waits in `connect` the first message is
/// not taken, and the next SYN brings another.
#[test]
fn an_icmp_message_rejects_whether_or_not_the_program_waits() {
    require(&[Need::Program("nft")]);
    let mut stage = Stage::new(&[("net/ipv4/icmp_ratemask", "0")]);
    let messages = [
        ("port-unreachable", "ECONNREFUSED"),
        ("host-unreachable", "EHOSTUNREACH"),
        ("admin-prohibited", "EHOSTUNREACH"),
    ];
    let chains = [(1, "input", 81), (0, "output", 91)];
    for (side, hook, first) in chains {
        let rules = (first..).zip(messages);
        let rules =
            rules.map(|(port, (message, _))| format!("tcp dport {port} reject with icmp {message}\n"));
        let rules: String = rules.collect();
        stage.namespaces[side].nft(&format!(
            "table ip filter {{ chain {hook} {{ type filter hook {hook} priority 0;\n{rules}}}\n}}"
        ));
    }
    let mut errors = Vec::new();
    for (_, _, first) in chains {
        for (port, (_, error)) in (first..).zip(messages) {
            let to = (stage.at.of(false), port).into();
            for waits in [false, true] {
                let name = stage.name();
                let local = stage.client.bind(&name, SocketAddr::new(stage.own.of(false), 0));
                if waits {
                    stage.client.connect(&name, to).expect_err("it is rejected");
                } else {
                    stage.client.begin_connect(&name, to);
                    sleep(MOMENT);
                }
                stage.client.close(&name);
                stage.expect_failed(local, "rejected kernel");
                errors.push((local, error.to_owned()));
            }
        }
    }
    for (hook, finished) in stage.judge() {
        let told = connections(&finished).into_iter();
        let told: Vec<_> =
            told.map(|line| (Told::of(&line).client, line.must("error.type").to_owned())).collect();
        assert!(errors.iter().all(|error| told.contains(error)), "{hook}: {errors:?}, {told:?}");
    }
}

/// However late a program gives up, and however often the SYN was sent again until then.
#[test]
fn a_dropped_syn_is_unanswered_whenever_the_program_gives_up() {
    require(&[Need::Program("nft")]);
    let mut stage = Stage::new(&[]);
    stage.namespaces[1].nft(
        "table inet filter { chain input { type filter hook input priority 0;
            tcp dport 82 drop
        }
        }",
    );
    let to = (stage.at.of(false), 82).into();
    let begun = Instant::now();
    let connects = [A_SYN_LATER, Duration::from_millis(2_500), Duration::from_secs(5)]
        .map(|given_up| (stage.begin(to), given_up));
    for ((name, local), given_up) in &connects {
        sleep(given_up.saturating_sub(begun.elapsed()));
        stage.client.close(name);
        stage.expect_failed(*local, "unanswered local");
    }
    let counted = netstat(stage.client.pid(), "TcpExt", "TCPSynRetrans");
    for (hook, finished) in stage.judge() {
        let lines = connections(&finished);
        let again = connects.each_ref().map(|((_, local), _)| {
            let line = lines.iter().find(|line| Told::of(line).client == *local).expect("it was judged");
            line.number("tcpstates.syn_retransmits").expect("it is known")
        });
        assert!(again[0] == 1 && again.is_sorted() && again[2] > 1, "{hook}: {again:?}");
        assert_eq!(again.iter().sum::<u64>(), counted, "{hook}: {again:?}");
    }
}

/// Of an open connection a firewall's reset is the peer's to whoever gets it: nothing in it says otherwise. The other
/// end never hears of it.
#[test]
fn a_reset_from_between_is_told_at_the_end_that_gets_it() {
    require(&[Need::Program("nft")]);
    let mut stage = Stage::new(&[]);
    let pair = stage.open();
    exchange(&mut stage, &pair);
    stage.namespaces[1].nft(
        "table inet filter { chain input { type filter hook input priority 0;
            meta l4proto tcp reject with tcp reset
        }
        }",
    );
    stage.client.send(&pair.near, 5);
    sleep(MOMENT);
    stage.namespaces[1].nft("flush ruleset");
    find_reset(&mut stage, &pair);
    stage.judge();
}

/// As a `NodePort`'s or a load balancer's: the port is another behind it, so that what it no longer knows reaches a port
/// where nobody listens.
#[test]
fn a_nat_that_forgot_an_idle_connection_shows_by_how_long_it_was_idle() {
    require(&[Need::Program("nft")]);
    let mut stage = Stage::new(&[]);
    let forgets = Duration::from_secs(2);
    let [near, far, listener] = [(); 3].map(|()| stage.name());
    let behind = stage.server.listen(&listener, (stage.at.of(false), 0).into()).port();
    let nat = &stage.namespaces[1];
    nat.nft(&format!(
        "table ip nat {{ chain prerouting {{ type nat hook prerouting priority dstnat;
            tcp dport 81 redirect to :{behind}
        }}
        }}"
    ));
    nat.set("net/netfilter/nf_conntrack_tcp_timeout_established", &forgets.as_secs().to_string());
    nat.set("net/netfilter/nf_conntrack_tcp_loose", "0");
    let client = stage.client.connect(&near, (stage.at.of(false), 81).into()).expect("it listens").local;
    stage.server.accept(&far, &listener);
    let pair = Pair { near, far, listener, client };
    exchange(&mut stage, &pair);
    let silent = Instant::now();
    sleep(forgets + Duration::from_millis(600));
    let idle = silent.elapsed();
    stage.client.send(&pair.near, 5);
    sleep(MOMENT);
    find_reset(&mut stage, &pair);
    for (hook, finished) in stage.judge() {
        let lines = connections(&finished);
        let client = lines.iter().find(|line| line.must("tcpstates.role") == "client").expect("its line");
        let told = Duration::from_micros(client.number("tcpstates.received.idle_us").expect("it received"));
        eprintln!("{hook}: idle {idle:?}, told {told:?}");
        assert!(
            told + IDLE_TOLERANCE >= idle && told <= idle + IDLE_TOLERANCE,
            "{hook}: {told:?} of {idle:?}"
        );
    }
}

#[test]
fn a_full_accept_queue_answers_nothing() {
    require(&[]);
    let mut stage = Stage::new(&[]);
    let [near, far, listener] = [(); 3].map(|()| stage.name());
    // Room for one.
    let to = stage.server.listen_for(&listener, (stage.at.of(false), 0).into(), 0);
    let client = stage.client.connect(&near, to).expect("there is room").local;
    let (name, local) = stage.begin(to);
    sleep(A_SYN_LATER);
    stage.client.close(&name);
    stage.expect_failed(local, "unanswered local");
    // With room again the next is answered.
    stage.server.accept(&far, &listener);
    let pair = Pair { near, far, listener, client };
    exchange(&mut stage, &pair);
    close(&mut stage, &pair);
    stage.judge();
}

/// The request is in the SYN, and the server has it before there is a connection.
#[test]
fn data_in_a_syn_counts() {
    require(&[]);
    // Client and server, without a cookie, on every listener: `Documentation/networking/ip-sysctl.rst`, tcp_fastopen.
    let mut stage = Stage::new(&[("net/ipv4/tcp_fastopen", "1543")]);
    let [near, far, listener] = [(); 3].map(|()| stage.name());
    let to = stage.server.listen(&listener, (stage.at.of(false), 0).into());
    stage.client.bind(&near, SocketAddr::new(stage.own.of(false), 0));
    stage.client.tune(&near, Tuning::FastOpen);
    let client = stage.client.connect(&near, to).expect("nothing is sent yet").local;
    stage.client.send(&near, 10);
    stage.server.accept(&far, &listener);
    stage.server.receive(&far, 10);
    stage.server.send(&far, 3);
    stage.client.receive(&near, 3);
    let pair = Pair { near, far, listener, client };
    close(&mut stage, &pair);
    stage.judge();
}

/// The line is of the TCP connection that carries it.
#[test]
fn a_connection_of_mptcp_is_told_as_the_one_that_carries_it() {
    require(&[]);
    let mut stage = Stage::new(&[]);
    let [near, far, listener] = [(); 3].map(|()| stage.name());
    let to = stage.server.listen_mptcp(&listener, (stage.at.of(false), 0).into());
    stage.client.bind_mptcp(&near, SocketAddr::new(stage.own.of(false), 0));
    let client = stage.client.connect(&near, to).expect("it listens").local;
    stage.server.accept(&far, &listener);
    let pair = Pair { near, far, listener, client };
    exchange(&mut stage, &pair);
    close(&mut stage, &pair);
    // Of one that nobody accepts the kernel takes MPTCP away before its end.
    let [near, listener] = [(); 2].map(|()| stage.name());
    let to = stage.server.listen_mptcp(&listener, (stage.at.of(false), 0).into());
    stage.client.bind_mptcp(&near, SocketAddr::new(stage.own.of(false), 0));
    let client = stage.client.connect(&near, to).expect("it listens").local;
    stage.client.send(&near, 10);
    sleep(MOMENT);
    stage.server.close(&listener);
    sleep(MOMENT);
    stage.client.close(&near);
    stage.expected.push(Told::new(client, "client", "reset_by_peer peer", (10, 0, Some(0), 0)));
    stage.expected.push(Told::new(client, "server", "never_accepted local", (0, 10, Some(0), 0)));
    stage.judge();
}

/// 10 bytes to the server, 3 to the client.
fn exchange(stage: &mut Stage, pair: &Pair) {
    stage.client.send(&pair.near, 10);
    stage.server.receive(&pair.far, 10);
    stage.server.send(&pair.far, 3);
    stage.client.receive(&pair.near, 3);
}

/// In good order, after an exchange: the client first.
fn close(stage: &mut Stage, pair: &Pair) {
    stage.client.close(&pair.near);
    stage.server.receive_to_end(&pair.far).expect("a FIN");
    stage.server.close(&pair.far);
    stage.expect(pair, ("closed local", (10, 3, Some(0), 0)), ("closed peer", (3, 10, Some(0), 0)));
}

/// The client has sent 5 bytes more, and a reset came; what the server sends at its end nobody knows any more.
fn find_reset(stage: &mut Stage, pair: &Pair) {
    stage.client.receive_to_end(&pair.near).expect_err("it was reset");
    stage.client.close(&pair.near);
    stage.server.close(&pair.far);
    sleep(MOMENT);
    stage.expect(
        pair,
        ("reset_by_peer peer", (10, 3, Some(0), 5)),
        ("reset_by_peer peer", (3, 10, Some(0), 0)),
    );
}
