//! `--open-sockets`: a leak that began before the trace, and ages, beside the trace's transitions.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use kube_tcpstates_kernel_tests::line::Event;
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::{Need, hooks, require};
use kube_tcpstates_kernel_tests::tracer::{Finished, Setup, Tracer};

const LEAKED: usize = 50;
const PATIENCE: Duration = Duration::from_secs(30);
const SECOND_US: u64 = 1_000_000;

/// A process with a listener that does not close what its peers have closed.
struct Leak {
    puppet: Puppet,
    netns: Netns,
    to: std::net::SocketAddr,
}

impl Leak {
    fn of(count: usize) -> Self {
        let netns = Netns::new();
        let mut puppet = Puppet::start(&Place::default().netns(&netns));
        let to = puppet.listen("listener", (Ipv4Addr::LOCALHOST, 0).into());
        let mut leak = Self { puppet, netns, to };
        (0..count).for_each(|number| leak.leak(&number.to_string()));
        leak
    }

    fn leak(&mut self, name: &str) {
        let (client, server) = (format!("client {name}"), format!("server {name}"));
        self.puppet.connect(&client, self.to).expect("it listens");
        self.puppet.accept(&server, "listener");
        self.puppet.send(&client, 100);
        self.puppet.close(&client);
    }

    fn traced(&self, options: &[&str]) -> Tracer {
        let netns = self.netns.inode().to_string();
        let always = ["--netns", &netns, "--role", "server"];
        Setup::json(always.iter().chain(options).copied()).with_tracefs().start_ready()
    }
}

/// Waits until so many snapshots have ended.
#[track_caller]
fn wait_snapshots(tracer: &Tracer, count: usize) {
    let begun = Instant::now();
    let mut seen = 0;
    while seen < count {
        assert!(begun.elapsed() < PATIENCE, "{seen} snapshots; {}", tracer.stderr_now());
        let lines = tracer.lines_now();
        tracer.wait_lines(lines + 1, PATIENCE);
        seen = tracer.lines_so_far().iter().filter(|line| line.text().contains(SNAPSHOT)).count();
    }
}

/// Waits until so many snapshots have ended, and ends the run.
#[track_caller]
fn after_snapshots(tracer: Tracer, count: usize) -> Vec<Event> {
    wait_snapshots(&tracer, count);
    let finished: Finished = tracer.stop();
    finished.assert_clean();
    finished.events()
}

const SNAPSHOT: &str = r#""type":"snapshot""#;

/// The lines of each snapshot, with its end.
fn snapshots(lines: Vec<Event>) -> Vec<(Vec<Event>, Event)> {
    let (mut snapshots, mut open) = (Vec::new(), Vec::new());
    for line in lines {
        match line.kind() {
            "socket" | "listener" | "time_wait" => open.push(line),
            "snapshot" => snapshots.push((std::mem::take(&mut open), line)),
            _ => {}
        }
    }
    snapshots
}

fn age(line: &Event) -> (u64, bool) {
    let since_attach = line.get("tcpstates.state_age_since_attach").is_some();
    (line.number("tcpstates.state_age_us").unwrap_or_else(|| panic!("no age: {line:?}")), since_attach)
}

#[test]
fn a_leak_that_began_before_the_trace_is_shown_whole_whatever_the_hook() {
    require(&[]);
    for hook in hooks() {
        let mut leak = Leak::of(LEAKED);
        let tracer = leak.traced(&["--hook", hook, "--open-sockets", "2s,state=CLOSE_WAIT|LISTEN"]);
        leak.leak("late");
        let lines = after_snapshots(tracer, 2);
        let mut snapshots = snapshots(lines);
        let (open, end) = snapshots.pop().expect("two");
        let (listeners, leaked): (Vec<_>, Vec<_>) = open.iter().partition(|line| line.kind() == "listener");
        assert_eq!((leaked.len(), listeners.len()), (LEAKED + 1, 1), "{hook}: {end:?}");
        assert_eq!(end.number("tcpstates.sockets.shown"), Some(LEAKED as u64 + 1));
        let mut older = 0;
        for line in leaked {
            assert_eq!(line.text("tcpstates.state"), Some("CLOSE_WAIT"), "{line:?}");
            assert_eq!(line.number("process.pid"), Some(leak.puppet.pid().into()), "{line:?}");
            assert_eq!(line.number("tcpstates.unread_bytes"), Some(100), "{line:?}");
            let (age_us, since_attach) = age(line);
            assert!((SECOND_US..20 * SECOND_US).contains(&age_us), "{hook}: {line:?}");
            assert!(line.text("tcpstates.connection.id").is_some(), "{hook}: {line:?}");
            older += usize::from(since_attach);
        }
        assert_eq!(older, LEAKED, "{hook}: of those older than the trace the age is a lower bound");
    }
}

#[test]
fn the_age_is_that_of_the_state_and_the_connection_that_of_its_transitions() {
    require(&[]);
    let mut leak = Leak::of(0);
    let tracer = leak.traced(&["--open-sockets", "1s"]);
    leak.leak("seen");
    let left = Instant::now();
    thread::sleep(Duration::from_millis(500));
    let lines = after_snapshots(tracer, 3);
    let least = 1_500_000;
    let most = u64::try_from(left.elapsed().as_micros()).expect("seconds");
    let closing = lines
        .iter()
        .find(|line| line.text("tcpstates.new_state") == Some("CLOSE_WAIT"))
        .expect("it was traced");
    let id = closing.must("tcpstates.connection.id").to_owned();
    let snapshots = snapshots(lines.clone());
    let (open, _) = snapshots.last().expect("three");
    let line = open.iter().find(|line| line.kind() == "socket").expect("it is open");
    assert_eq!(line.text("tcpstates.connection.id"), Some(id.as_str()), "{line:?}");
    let (age_us, since_attach) = age(line);
    assert!(!since_attach && age_us <= most && age_us + SECOND_US > least, "{least} {most}: {line:?}");
}

#[test]
fn what_is_younger_than_asked_is_not_shown_and_a_limit_counts_what_it_leaves_out() {
    require(&[]);
    let leak = Leak::of(5);
    let tracer = leak.traced(&["--open-sockets", "1s,state=CLOSE_WAIT,min-age=1500ms,limit=2"]);
    let snapshots = snapshots(after_snapshots(tracer, 4));
    let counts = |end: &Event| {
        ["open", "shown", "left_out"].map(|name| end.number(&format!("tcpstates.sockets.{name}")))
    };
    let (open, first) = &snapshots[0];
    assert_eq!((open.len(), counts(first)), (0, [Some(0); 3]), "they are too young to be told from others");
    let (open, last) = snapshots.last().expect("four");
    assert_eq!((open.len(), counts(last)), (2, [Some(5), Some(2), Some(3)]));
}

/// Each snapshot says what the listener has dropped in all: what came between two of them is the difference.
#[test]
fn a_listener_line_counts_drops_since_it_began_to_listen() {
    require(&[]);
    let mut leak = Leak::of(0);
    let to = leak.puppet.listen_for("small", (Ipv4Addr::LOCALHOST, 0).into(), 0);
    leak.puppet.connect("waits", to).expect("there is room for one");
    let mut drop_a_syn = || {
        leak.puppet.begin_connect("dropped", to);
        leak.puppet.close("dropped");
    };
    drop_a_syn();
    let netns = leak.netns.inode().to_string();
    let options = ["--netns", &netns, "--open-sockets", "1s,state=LISTEN"];
    let tracer = Setup::json(options).start_ready();
    wait_snapshots(&tracer, 1);
    drop_a_syn();
    drop_a_syn();
    let snapshots = snapshots(after_snapshots(tracer, 3));
    let drops = snapshots.iter().map(|(open, _)| {
        let is_small = |line: &&Event| line.number("network.local.port") == Some(to.port().into());
        let line = open.iter().find(is_small).expect("it listens");
        line.number("tcpstates.accept_queue.drops").expect("the kernel tells")
    });
    let drops: Vec<_> = drops.collect();
    assert!(drops.first() == Some(&1) && drops.is_sorted() && drops.last() == Some(&3), "{drops:?}");
}

#[test]
fn a_snapshot_that_cannot_be_is_refused_before_anything_is_loaded() {
    require(&[Need::Program("ip")]);
    for (options, told) in [
        (&["trace", "-o", "json", "--open-sockets", "61m"][..], "must be from 1s to 1h"),
        (&["trace", "-o", "json", "--open-sockets", "30s,state=CLOSED"], "there are ESTABLISHED, SYN_SENT"),
        (&["trace", "-o", "table", "--open-sockets", "30s"], "-o json, -o ecs or -o otlp-json"),
        (&["list", "--state", "CLOSED"], "there are ESTABLISHED, SYN_SENT"),
    ] {
        let finished = Setup::run(options.iter().copied()).start().wait_end(PATIENCE);
        assert_eq!(finished.status.code(), Some(2), "{options:?}");
        assert!(finished.stderr.contains(told), "{options:?}: {}", finished.stderr);
        assert!(finished.lines.is_empty());
    }
}
