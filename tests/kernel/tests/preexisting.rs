//! Sockets that were open before the tracer: what they are and whose is known from their first line on, and that
//! nobody saw how long they had been open.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use kube_tcpstates_kernel_tests::cgroup::{CgroupTree, Container};
use kube_tcpstates_kernel_tests::line::Event;
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::{hooks, require};
use kube_tcpstates_kernel_tests::tracer::Setup;

/// Age of the connection when the tracer starts. No duration may come near it.
const AGE: Duration = Duration::from_secs(2);

/// A client and a server, each a container, and one connection that both have open.
struct Pair {
    client: Puppet,
    server: Puppet,
    client_container: Container,
    server_container: Container,
    to: SocketAddr,
    born: Instant,
    namespace: Netns,
    _tree: CgroupTree,
}

impl Pair {
    fn connected() -> Self {
        require(&[]);
        let (tree, namespace) = (CgroupTree::new(), Netns::new());
        let (client_container, server_container) = (tree.container(), tree.container());
        let mut client = Puppet::start(&Place::container(&client_container).netns(&namespace));
        let mut server = Puppet::start(&Place::container(&server_container).netns(&namespace));
        let to = server.listen("listener", (Ipv4Addr::new(127, 77, 3, 1), 0).into());
        client.connect("old", to).expect("it listens");
        server.accept("old", "listener");
        Self {
            client,
            server,
            client_container,
            server_container,
            to,
            born: Instant::now(),
            namespace,
            _tree: tree,
        }
    }

    /// The old connection ends, another one is made and ended, and the listener closes.
    fn traced(&mut self, hook: &str) -> Vec<Event> {
        let netns = self.namespace.inode().to_string();
        let tracer = Setup::json(["--hook", hook, "--netns", &netns]).with_tracefs().start_ready();
        self.end("old");
        self.client.connect("new", self.to).expect("it listens");
        self.server.accept("new", "listener");
        self.end("new");
        self.server.close("listener");
        tracer.settle(Duration::from_millis(300));
        let finished = tracer.stop();
        finished.assert_clean();
        finished.transitions()
    }

    fn end(&mut self, connection: &str) {
        self.client.close(connection);
        self.server.receive_to_end(connection).expect("a FIN came");
        self.server.close(connection);
    }
}

/// The line of a transition that happens once on a side.
#[track_caller]
fn line<'a>(lines: &'a [Event], of: &Container, old: &str, new: &str, nth: usize) -> &'a Event {
    let mut found = lines.iter().filter(|line| {
        let tuple = line.tuple();
        line.owner() == (Some(&of.id), Some(&of.pod_uid))
            && (tuple.old.as_str(), tuple.new.as_str()) == (old, new)
    });
    found.nth(nth).unwrap_or_else(|| panic!("no {old} -> {new} number {nth} of {} in {lines:#?}", of.id))
}

/// Under every hook: what was open is found in the kernel's tables, wherever records are kept.
#[test]
fn an_old_connection_has_role_and_owner_and_a_duration_since_the_start() {
    for hook in hooks() {
        assert_role_owner_and_duration(hook);
    }
}

fn assert_role_owner_and_duration(hook: &str) {
    let mut pair = Pair::connected();
    std::thread::sleep(AGE.saturating_sub(pair.born.elapsed()));
    let begun = Instant::now();
    let lines = pair.traced(hook);
    let traced = begun.elapsed();
    let (client, server) = (&pair.client_container, &pair.server_container);
    for (of, pid, role, old, new) in [
        (client, pair.client.pid(), "client", "ESTABLISHED", "FIN_WAIT1"),
        (server, pair.server.pid(), "server", "ESTABLISHED", "CLOSE_WAIT"),
        (server, pair.server.pid(), "server", "LISTEN", "CLOSE"),
    ] {
        // Which a kprobe does not see.
        if (hook, old) == ("kprobe", "LISTEN") {
            continue;
        }
        let first = line(&lines, of, old, new, 0);
        println!("{}", first.0);
        assert_eq!(first.text("tcpstates.role"), Some(role), "{first:?}");
        assert_eq!(first.number("process.pid"), Some(pid.into()), "{first:?}");
        assert_eq!(first.text("tcpstates.owner.source"), Some("descriptor"), "{first:?}");
        assert_eq!(first.text("thread.name"), Some("tcp-workload"), "{first:?}");
        assert!(since_attach(first), "{first:?}");
        let lasted = Duration::from_micros(first.number("tcpstates.state_duration_us").expect("a duration"));
        assert!(lasted <= traced, "{lasted:?} of {traced:?} since the start: {first:?}");
    }
    // From the second line on everything was seen.
    for (of, old, new) in [
        (client, "FIN_WAIT1", "FIN_WAIT2"),
        (client, "FIN_WAIT2", "CLOSE"),
        (server, "CLOSE_WAIT", "LAST_ACK"),
        (server, "LAST_ACK", "CLOSE"),
    ] {
        let later = line(&lines, of, old, new, 0);
        assert!(later.number("tcpstates.state_duration_us").is_some() && !since_attach(later), "{later:?}");
    }
    // One connection, one id, also without its birth.
    let id = |of, old, new| line(&lines, of, old, new, 0).must("tcpstates.connection.id");
    assert_eq!(id(client, "ESTABLISHED", "FIN_WAIT1"), id(client, "FIN_WAIT2", "CLOSE"));
}

#[test]
fn a_new_connection_to_an_old_listener_belongs_to_whoever_held_the_listener() {
    let mut pair = Pair::connected();
    let lines = pair.traced("tp_btf");
    let server = &pair.server_container;
    for (old, new, nth) in [
        ("LISTEN", "SYN_RECV", 0),
        ("SYN_RECV", "ESTABLISHED", 0),
        ("ESTABLISHED", "CLOSE_WAIT", 1),
        ("CLOSE_WAIT", "LAST_ACK", 1),
        ("LAST_ACK", "CLOSE", 1),
    ] {
        let accepted = line(&lines, server, old, new, nth);
        assert_eq!(accepted.text("tcpstates.role"), Some("server"), "{accepted:?}");
        assert_eq!(accepted.number("process.pid"), Some(pair.server.pid().into()), "{accepted:?}");
        assert!(!since_attach(accepted), "{accepted:?}");
        // The birth was seen: every state after it has its time.
        assert_eq!(accepted.number("tcpstates.state_duration_us").is_some(), old != "LISTEN", "{accepted:?}");
    }
}

#[test]
fn an_old_socket_that_no_trace_wants_has_no_record() {
    let pair = Pair::connected();
    let records_of = |netns: &Netns| {
        let tracer = Setup::json(["--netns", &netns.inode().to_string()]).start_ready();
        tracer.counts_now().get("socket_records")
    };
    // A listener and two ends.
    assert_eq!(records_of(&pair.namespace), 3);
    assert_eq!(records_of(&Netns::new()), 0);
}

fn since_attach(line: &Event) -> bool {
    line.get("tcpstates.state_duration_since_attach").and_then(serde_json::Value::as_bool) == Some(true)
}
