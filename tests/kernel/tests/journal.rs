//! `-Y` writes every transition to a real systemd-journald, which is asked what it has.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use kube_tcpstates_kernel_tests::line::Event;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::{Need, require};
use kube_tcpstates_kernel_tests::scene::Scene;
use kube_tcpstates_kernel_tests::tracer::Setup;
use kube_tcpstates_kernel_tests::workload::Ending;

const JOURNALD: &str = "/lib/systemd/systemd-journald";

#[test]
fn every_transition_is_an_entry_of_the_journal() {
    let mut scene = prepare();
    let journal = Journal::start();
    let tracer = journal.tracer(&scene).start_ready();
    let churn = scene.churn(20);
    scene.run(&churn);
    tracer.settle(Duration::from_millis(500));
    tracer.stop().assert_clean();

    let entries = journal.wait_for(200);
    assert_eq!(entries.len(), 200, "entries of 20 connections");
    for entry in &entries {
        assert_eq!(entry.must("PRIORITY"), "5");
        for field in ["OBJECT_TCP_OLD_STATE", "OBJECT_TCP_NEW_STATE", "MESSAGE"] {
            entry.must(field);
        }
        // A connection that begins has been in no state before.
        let begins = is_transition(entry, "CLOSE", "SYN_SENT") || is_transition(entry, "LISTEN", "SYN_RECV");
        assert_eq!(entry.text("OBJECT_TCP_SPAN_TIME").is_none(), begins, "{}", entry.0);
    }
    let opened =
        entries.iter().find(|entry| is_transition(entry, "SYN_SENT", "ESTABLISHED")).expect("an opening");
    println!("{}", opened.0);
    let address: std::net::IpAddr =
        opened.must("OBJECT_IPV4_DESTINATION_ADDRESS").parse().expect("an address");
    assert!(address.is_loopback());
    assert_eq!(opened.must("OBJECT_TCP_DESTINATION_PORT"), scene.port().to_string());
    assert_eq!(opened.must("OBJECT_IPV4_SOURCE_ADDRESS"), "127.0.0.1");
    let span: u64 = opened.must("OBJECT_TCP_SPAN_TIME").parse().expect("microseconds");
    assert!(span < 20_000_000, "{span} us from SYN to answer");
    let names_container = |entry: &&Event| entry.0.to_string().contains(&scene.client_container.id);
    assert_eq!(
        entries.iter().filter(names_container).count(),
        100,
        "entries that name the client's container"
    );
}

/// A line feed in a field's value needs the journal's binary form; without it the rest is another field.
#[test]
fn a_name_cannot_forge_a_field() {
    let scene = prepare();
    let journal = Journal::start();
    let tracer = journal.tracer(&scene).start_ready();
    let mut client = Puppet::start(&scene.client_place());
    let to: SocketAddr = scene.address();
    for name in [&b"x\nMESSAGE=bad"[..], b"x\nPRIORITY=0", b"\n\nMESSAGE=bad"] {
        client.rename(name);
        client.connect("socket", to).expect("the server listens");
        client.close("socket");
    }
    tracer.settle(Duration::from_millis(500));
    tracer.stop().assert_clean();
    let entries = journal.wait_for(30);
    assert_eq!(entries.len(), 30, "entries of 3 connections");
    for entry in entries {
        assert_eq!(entry.must("PRIORITY"), "5", "{}", entry.0);
        assert_ne!(entry.text("MESSAGE"), Some("bad"), "{}", entry.0);
    }
}

fn prepare() -> Scene {
    require(&[Need::Program("unshare"), Need::Program("nsenter"), Need::Program("journalctl")]);
    assert!(Path::new(JOURNALD).exists(), "{JOURNALD} is missing: install systemd");
    Scene::new(Ending::ClientFirst)
}

fn is_transition(entry: &Event, old: &str, new: &str) -> bool {
    (entry.text("OBJECT_TCP_OLD_STATE"), entry.text("OBJECT_TCP_NEW_STATE")) == (Some(old), Some(new))
}

/// A journald with a `/run` of its own, in a mount namespace of its own: it neither needs systemd as PID 1 nor
/// meets the machine's journal. Killed on drop; its files go with the namespace.
struct Journal {
    daemon: Child,
}

impl Journal {
    fn start() -> Self {
        let script = "mount -t tmpfs tmpfs /run; mkdir -p /run/log/journal /run/systemd/journal; exec \"$0\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation=private", "sh", "-ec", script, JOURNALD]);
        let journal = Self { daemon: command.spawn().expect("start unshare") };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !journal.path("run/systemd/journal/socket").exists() {
            assert!(Instant::now() < deadline, "{JOURNALD} made no socket");
            thread::sleep(Duration::from_millis(20));
        }
        journal
    }

    /// A path as the daemon sees it.
    fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.daemon.id())).join(path)
    }

    fn enter(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--mount=/proc/{}/ns/mnt", self.daemon.id())]
    }

    fn tracer(&self, scene: &Scene) -> Setup {
        let mut options = vec!["-Y".to_owned()];
        options.extend(scene.only_this());
        Setup::json(options).through(self.enter())
    }

    fn entries(&self) -> Vec<Event> {
        let [program, namespace] = self.enter();
        let output = Command::new(program)
            .arg(namespace)
            .args([
                "journalctl",
                "--directory=/run/log/journal",
                "--output=json",
                "--identifier=tcpstates",
                "--all",
            ])
            .output()
            .expect("run nsenter");
        let text = String::from_utf8(output.stdout).expect("journalctl writes UTF-8");
        let parse = |line: &str| Event(serde_json::from_str(line).expect("journalctl writes JSON"));
        text.lines().map(parse).collect()
    }

    /// The daemon takes its time.
    fn wait_for(&self, count: usize) -> Vec<Event> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let entries = self.entries();
            if entries.len() >= count || Instant::now() > deadline {
                return entries;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Both fail only when it has ended and been waited for already.
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}
