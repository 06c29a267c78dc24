//! On every kernel, whatever the hook: the same play gives the same transitions, each with the socket's own cgroup and
//! network namespace, its durations, its errors and both its ends; and nothing is left in the kernel afterwards.
//!
//! Small enough for an emulated machine: `./x test kernels` runs it on each of its kernels.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use kube_tcpstates_kernel_tests::cgroup::{CgroupTree, Container};
use kube_tcpstates_kernel_tests::line::Event;
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::programs;
use kube_tcpstates_kernel_tests::puppet::{Puppet, Refused};
use kube_tcpstates_kernel_tests::requirements::{hooks, require};
use kube_tcpstates_kernel_tests::tracer::Setup;

/// How long a connection stays as it is: no clock of an emulated machine loses as much.
const PAUSE: Duration = Duration::from_millis(300);

/// What one socket did, without what differs between two runs: side, container, old and new state, errno's name.
type Seen = BTreeMap<String, usize>;

#[test]
fn every_hook_tells_the_same_of_the_same_play() {
    require(&[]);
    let hooks = hooks();
    let told: Vec<Seen> = hooks.iter().map(|hook| traced(hook)).collect();
    for (hook, seen) in hooks.iter().zip(&told) {
        println!("{hook}: {} transitions", seen.values().sum::<usize>());
        let mut expected = told[0].clone();
        if *hook == "kprobe" {
            expected.retain(|line, _| !HIDDEN_FROM_KPROBE.iter().any(|hidden| line.contains(hidden)));
        }
        assert_eq!(*seen, expected, "first: {hook}, second: {}", hooks[0]);
    }
}

/// `inet_csk_listen_start` and the birth of a child do not go through `tcp_set_state`.
const HIDDEN_FROM_KPROBE: [&str; 2] = ["CLOSE -> LISTEN", "LISTEN -> SYN_RECV"];

/// Plays under one hook, and again where the kernel skipped the programs: on an emulated machine, on which a program runs
/// long enough to be interrupted, that is seen in one play of some hundred.
fn traced(hook: &str) -> Seen {
    (0..PLAYS).find_map(|_| played(hook)).expect("a play that the kernel shows whole")
}

/// How often at most.
const PLAYS: usize = 3;

/// One play, of which every line is judged by itself. `None` where the kernel skipped a program, and it was counted.
fn played(hook: &str) -> Option<Seen> {
    let mut stage = Stage::new();
    let netns = stage.namespace.inode();
    let tracer = Setup::json(["--hook", hook, "--netns", &netns.to_string()]).with_tracefs().start_ready();
    let ours = programs::of_process(tracer.pid());
    assert!(!ours.is_empty(), "the tracer holds programs");
    stage.let_in_a_latecomer();
    stage.play();
    tracer.settle(Duration::from_millis(500));
    let finished = tracer.stop();
    let counts = finished.assert_clean();
    assert_eq!(counts.lost(), counts.get("recursion"), "{counts:?}");
    let start = &finished.events()[0];
    assert_eq!(start.text("tcpstates.hook"), Some(hook), "the hook in use");
    let accepts = can(start, "accept_owner");
    println!("{hook}: socket records in {:?}, owners by accept: {accepts}", start.text("tcpstates.storage"));
    let ids: Vec<u32> = ours.keys().copied().collect();
    assert_unloaded(&ids);

    let mut seen = Seen::new();
    for event in finished.transitions() {
        let side = stage.judge(hook, &event, netns);
        stage.assert_owner(hook, &event, side, accepts);
        let error = event.text("error.type").unwrap_or("no error");
        let [old, new] = ["tcpstates.old_state", "tcpstates.new_state"].map(|path| event.must(path));
        *seen.entry(format!("{side}: {old} -> {new}, {error}")).or_default() += 1;
    }
    if counts.lost() != 0 {
        println!("{hook}: the kernel skipped {}, played again", counts.lost());
        return None;
    }
    Some(seen)
}

/// A program is freed a grace period after its last user.
fn assert_unloaded(ids: &[u32]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let loaded = programs::loaded();
        let left: Vec<_> = ids.iter().filter_map(|id| loaded.get(id)).collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "still loaded after the tracer's end: {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the tracer says at its start that it has this.
fn can(start: &Event, name: &str) -> bool {
    let findings = start
        .get("tcpstates.preflight")
        .and_then(|list| list.as_array())
        .expect("what was found at the start");
    findings.iter().any(|finding| finding["name"] == name && finding["ok"] == true)
}

/// A client and a server in containers of their own, in one network namespace; and somebody whose container is made
/// when the tracer runs already.
struct Stage {
    client: Puppet,
    server: Puppet,
    client_container: Container,
    server_container: Container,
    latecomer: Option<(Puppet, Container)>,
    namespace: Netns,
    tree: CgroupTree,
}

impl Stage {
    fn new() -> Self {
        let (tree, namespace) = (CgroupTree::new(), Netns::new());
        let (client_container, server_container) = (tree.container(), tree.container());
        let client = Puppet::start(&Place::container(&client_container).netns(&namespace));
        let server = Puppet::start(&Place::container(&server_container).netns(&namespace));
        Self { client, server, client_container, server_container, latecomer: None, namespace, tree }
    }

    fn let_in_a_latecomer(&mut self) {
        let container = self.tree.container();
        let puppet = Puppet::start(&Place::container(&container).netns(&self.namespace));
        self.latecomer = Some((puppet, container));
    }

    fn play(&mut self) {
        let at = (Ipv4Addr::new(127, 77, 5, 1), 0).into();
        let to = self.server.listen("listener", at);
        self.connect(to);
        self.client.close("client");
        self.server.receive_to_end("server").expect("a FIN came");
        self.server.close("server");
        self.connect(to);
        self.server.close("server");
        self.client.receive_to_end("client").expect("a FIN came");
        self.client.close("client");
        self.connect(to);
        self.client.reset("client");
        assert_eq!(self.server.receive_to_end("server"), Err(Refused::CONNRESET));
        self.server.close("server");
        self.server.close("listener");
        assert_eq!(self.client.connect("refused", to), Err(Refused::CONNREFUSED));
        self.client.close("refused");
        let (latecomer, _) = self.latecomer.as_mut().expect("somebody came late");
        assert_eq!(latecomer.connect("refused", to), Err(Refused::CONNREFUSED));
    }

    /// A connection that both sides hold open for a while.
    fn connect(&mut self, to: SocketAddr) {
        self.client.connect("client", to).expect("it listens");
        self.server.accept("server", "listener");
        std::thread::sleep(PAUSE);
    }

    /// Whose the line says it is; everything else that every line must tell holds.
    #[track_caller]
    fn judge(&self, hook: &str, event: &Event, netns: u64) -> &'static str {
        let (container, side) = match event.text("container.id") {
            Some(id) if id == self.client_container.id => (&self.client_container, "client"),
            Some(id) if id == self.server_container.id => (&self.server_container, "server"),
            Some(id) if id == self.late_container().id => (self.late_container(), "latecomer"),
            other => panic!("{hook}: the container is {other:?}: {}", event.0),
        };
        let cgroup = container.cgroup_id().to_string();
        assert_eq!(event.text("tcpstates.cgroup.id"), Some(cgroup.as_str()), "{hook}: {}", event.0);
        assert_eq!(event.number("tcpstates.netns.inode"), Some(netns), "{hook}: {}", event.0);
        assert_ends(hook, event);
        assert_duration(hook, event);
        side
    }

    fn late_container(&self) -> &Container {
        &self.latecomer.as_ref().expect("somebody came late").1
    }

    /// The task that connected, listened, or accepted where that can be seen. A server that was not born before the
    /// kprobe's eyes has none until it closes.
    #[track_caller]
    fn assert_owner(&self, hook: &str, event: &Event, side: &str, accepts: bool) {
        let (puppet, source) = match side {
            "client" => (&self.client, "connect"),
            "latecomer" => (&self.latecomer.as_ref().expect("somebody came late").0, "connect"),
            _ if hook == "kprobe" => return,
            _ if accepts && !matches!(event.must("tcpstates.old_state"), "CLOSE" | "LISTEN" | "SYN_RECV") => {
                (&self.server, "accept")
            }
            _ => (&self.server, "listen"),
        };
        assert_eq!(event.text("tcpstates.owner.source"), Some(source), "{hook}: {}", event.0);
        assert_eq!(event.number("process.pid"), Some(puppet.pid().into()), "{hook}: {}", event.0);
    }
}

/// A SYN has no local port yet, a listener no peer. What a child does not know at its birth (before 6.15 or so) is
/// absent, never 0.
fn assert_ends(hook: &str, event: &Event) {
    let [old, new] = ["tcpstates.old_state", "tcpstates.new_state"].map(|path| event.must(path));
    let listener = new == "LISTEN" || (old, new) == ("LISTEN", "CLOSE");
    let child = (old, new) == ("LISTEN", "SYN_RECV");
    for (path, may_lack) in
        [("network.local.port", new == "SYN_SENT"), ("network.peer.port", listener || child)]
    {
        let port = event.number(path);
        assert_ne!(port, Some(0), "{hook}: {path} in {}", event.0);
        assert!(port.is_some() || may_lack, "{hook}: no {path} in {}", event.0);
    }
    let peer = event.text("network.peer.address");
    assert_ne!(peer, Some("0.0.0.0"), "{hook}: {}", event.0);
    assert!(peer.is_some() || listener || child, "{hook}: no peer in {}", event.0);
}

/// Every state that a connection was born into and left has a duration, and that of ESTABLISHED is the pause.
fn assert_duration(hook: &str, event: &Event) {
    let [old, new] = ["tcpstates.old_state", "tcpstates.new_state"].map(|path| event.must(path));
    let born = old == "CLOSE" || (old, new) == ("LISTEN", "SYN_RECV");
    // The kprobe does not see a child's birth, nor a listener's.
    let unseen_birth = hook == "kprobe" && (old == "SYN_RECV" || old == "LISTEN");
    let duration = event.number("tcpstates.state_duration_us");
    if born || unseen_birth {
        return;
    }
    let Some(micros) = duration else { panic!("{hook}: no duration in {}", event.0) };
    if old == "ESTABLISHED" {
        let lasted = Duration::from_micros(micros);
        // A virtual machine's clock and its sleeps agree within some milliseconds.
        assert!(lasted + Duration::from_millis(50) >= PAUSE, "{hook}: {lasted:?} in {}", event.0);
        assert!(lasted < PAUSE + Duration::from_secs(20), "{hook}: {lasted:?} in {}", event.0);
    }
}

/// What `check` says of a hook is what happens.
#[test]
fn check_says_what_happens() {
    require(&[]);
    for hook in hooks() {
        let check = std::process::Command::new(kube_tcpstates_kernel_tests::tracer::program())
            .args(["check", "--hook", hook])
            .output()
            .expect("run the tracer's check");
        let text = String::from_utf8_lossy(&check.stdout).into_owned();
        let needs_tracefs = matches!(hook, "tracepoint" | "kprobe");
        if needs_tracefs && fs::metadata("/sys/kernel/tracing/events").is_err() {
            continue;
        }
        assert!(check.status.success() && text.contains("tracing would work"), "{hook}:\n{text}");
        for line in text.lines().filter(|line| !line.starts_with("ok")) {
            println!("{hook}: {line}");
        }
    }
}
