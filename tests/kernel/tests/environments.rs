//! Where a part of what is usual is missing, `check` says so, and what it says is what happens: without type
//! information, without tracefs, with cgroup v1 alone or beside v2. Each is made in a mount namespace of the tracer's
//! own, or in a hierarchy of the test's own.

use std::net::Ipv4Addr;
use std::time::Duration;

use kube_tcpstates_kernel_tests::cgroup::{CgroupTree, Container, V1};
use kube_tcpstates_kernel_tests::line::{Event, Line};
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::{hooks, require};
use kube_tcpstates_kernel_tests::tracer::{Finished, Setup};

/// An emulated machine takes seconds for what takes milliseconds elsewhere.
const SOON: Duration = Duration::from_mins(1);

const NO_OPTIONS: [&str; 0] = [];
const NO_BTF: &str = "mount -t tmpfs tmpfs /sys/kernel/btf";
const TRACEFS: &str = "mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing";
const NO_TRACEFS: &str = "mount -t tmpfs tmpfs /sys/kernel/debug; mount -t tmpfs tmpfs /sys/kernel/tracing";

#[test]
fn without_btf_the_classic_tracepoint_traces_and_check_says_so() {
    require(&[]);
    let script = format!("{NO_BTF}; {TRACEFS}");
    let check = Check::run(&script, &[]);
    check.assert("btf", "without", "only the classic tracepoint, without cgroups");
    check.assert("hook", "ok", "tracepoint");
    assert!(check.would_work, "{}", check.text);
    for hook in ["tp_btf", "raw_tp", "kprobe"] {
        assert_refused(&script, hook, "/sys/kernel/btf/vmlinux");
    }

    let tree = CgroupTree::new();
    let mut stage = Stage::new(&tree);
    let (port, finished) = stage.trace(&script);
    assert_eq!(finished.events()[0].text("tcpstates.hook"), Some("tracepoint"));
    let ours = Stage::events_of(port, &finished);
    assert_eq!(ours.len(), Stage::TRANSITIONS, "{ours:?}");
    for event in ours {
        assert_eq!(event.get("tcpstates.cgroup"), None, "{}", event.0);
        assert_eq!(event.number("tcpstates.netns.inode"), None, "{}", event.0);
        assert!(matches!(event.must("tcpstates.attribution.source"), "task" | "none"), "{}", event.0);
    }
}

#[test]
fn without_btf_and_tracefs_nothing_traces_and_check_says_so() {
    require(&[]);
    let script = format!("{NO_BTF}; {NO_TRACEFS}");
    let check = Check::run(&script, &[]);
    check.assert("hook", "MISSING", "tracefs");
    assert!(!check.would_work, "{}", check.text);
    let finished = Setup::json(["--duration", "1s"]).through(inside(&script)).start().wait_end(SOON);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("tracefs"), "{}", finished.stderr);
}

#[test]
fn without_tracefs_only_the_classic_tracepoint_is_refused_and_check_says_so() {
    require(&[]);
    Check::run(NO_TRACEFS, &[]).assert("tracefs", "without", "only the classic tracepoint needs it");
    for hook in hooks() {
        if hook == "tracepoint" {
            assert_refused(NO_TRACEFS, hook, "tracefs");
            continue;
        }
        let check = Check::run(NO_TRACEFS, &["--hook", hook]);
        assert!(check.would_work, "{hook}: {}", check.text);
        let setup = Setup::json(["--hook", hook, "--duration", "1s"]).through(inside(NO_TRACEFS));
        setup.start().wait_end(SOON).assert_clean();
    }
}

#[test]
fn on_cgroup_v1_alone_the_cgroup_of_its_task_names_the_container_and_check_says_so() {
    require(&[]);
    let hierarchy = V1::mount();
    let check = Check::run(&hierarchy.alone(), &[]);
    check.assert("cgroup", "without", "v1 only: sockets do not know their cgroup");
    check.assert("cgroup_by_id", "without", "no cgroup2 is mounted");
    assert!(check.would_work, "{}", check.text);
    assert_named_by_task(&hierarchy, &hierarchy.alone(), "v1");
}

#[test]
fn beside_cgroup2_a_container_of_cgroup_v1_is_named_by_the_cgroup_of_its_task() {
    require(&[]);
    let hierarchy = V1::mount();
    Check::run("true", &[]).assert("cgroup", "ok", "hybrid");
    assert_named_by_task(&hierarchy, "true", "hybrid");
}

#[track_caller]
fn assert_named_by_task(hierarchy: &V1, script: &str, mode: &str) {
    let tree = hierarchy.tree();
    let mut stage = Stage::new(&tree);
    let (port, finished) = stage.trace(script);
    assert_eq!(finished.events()[0].text("tcpstates.cgroup.mode"), Some(mode));
    let ours = Stage::events_of(port, &finished);
    assert_eq!(ours.len(), Stage::TRANSITIONS, "{ours:?}");
    for event in ours {
        assert_eq!(event.text("container.id"), Some(stage.container.id.as_str()), "{}", event.0);
        assert_eq!(event.must("tcpstates.attribution.source"), "task_cgroup", "{}", event.0);
    }
}

/// Words before a program that run it after this script, in a mount namespace of its own.
fn inside(script: &str) -> Vec<String> {
    ["unshare", "--mount", "sh", "-ec", &format!("{script}; exec \"$@\""), "sh"].map(str::to_owned).into()
}

/// Both `check` and `trace` refuse the hook, and say what it lacks.
#[track_caller]
fn assert_refused(script: &str, hook: &str, lack: &str) {
    let check = Check::run(script, &["--hook", hook]);
    assert!(!check.would_work && check.text.contains(lack), "{hook}: {}", check.text);
    let setup = Setup::json(["--hook", hook, "--duration", "1s"]).through(inside(script));
    let finished = setup.start().wait_end(SOON);
    assert_eq!(finished.status.code(), Some(1), "{hook}: {}", finished.stderr);
    assert!(finished.stderr.contains(lack), "{hook}: {}", finished.stderr);
}

/// What `check` said.
struct Check {
    text: String,
    would_work: bool,
}

impl Check {
    fn run(script: &str, options: &[&str]) -> Self {
        let words = ["check"].iter().chain(options).copied();
        let finished = Setup::run(words).through(inside(script)).start().wait_end(SOON);
        let lines: Vec<&str> = finished.lines.iter().map(Line::text).collect();
        let text = format!("{}\n{}", lines.join("\n"), finished.stderr);
        Self { text, would_work: finished.status.success() }
    }

    /// One finding: `ok`, `without` or `MISSING`, and a part of what is told of it.
    #[track_caller]
    fn assert(&self, name: &str, verdict: &str, detail: &str) {
        let line = self.text.lines().find(|line| line.split_whitespace().nth(1) == Some(name));
        let line = line.unwrap_or_else(|| panic!("check does not speak of {name}: {}", self.text));
        assert!(line.starts_with(verdict) && line.contains(detail), "{line}");
    }
}

/// One container alone in a network namespace, that talks to itself.
struct Stage {
    puppet: Puppet,
    container: Container,
    _namespace: Netns,
}

impl Stage {
    /// Listener: listen, close. Client: SYN_SENT, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE. Server: SYN_RECV,
    /// ESTABLISHED, CLOSE_WAIT, LAST_ACK, CLOSE.
    const TRANSITIONS: usize = 12;

    fn new(tree: &CgroupTree) -> Self {
        let (container, namespace) = (tree.container(), Netns::new());
        let puppet = Puppet::start(&Place::container(&container).netns(&namespace));
        Self { puppet, container, _namespace: namespace }
    }

    /// Traces one connection; the listener's port.
    fn trace(&mut self, script: &str) -> (u64, Finished) {
        let tracer = Setup::json(NO_OPTIONS).through(inside(script)).start_ready();
        let at = self.puppet.listen("listener", (Ipv4Addr::LOCALHOST, 0).into());
        self.puppet.connect("client", at).expect("it listens");
        self.puppet.accept("server", "listener");
        self.puppet.close("client");
        self.puppet.receive_to_end("server").expect("a FIN came");
        self.puppet.close("server");
        self.puppet.close("listener");
        tracer.settle(Duration::from_millis(500));
        let finished = tracer.stop();
        finished.assert_clean();
        (at.port().into(), finished)
    }

    fn events_of(port: u64, finished: &Finished) -> Vec<Event> {
        let mut events = finished.transitions();
        events.retain(|event| {
            ["network.local.port", "network.peer.port"].iter().any(|path| event.number(path) == Some(port))
        });
        events
    }
}
