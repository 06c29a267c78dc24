//! The cgroup edge against the real kernel: root, a cgroup2 mount and the host's /proc. Where one is missing a test
//! fails and says which.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use kube_tcpstates::cgroupfs::{ById, ByIdError, Layout, Mount, host_namespace, scan, task, walk};
use kube_tcpstates::identity::netns::{Found, Namespaces};
use kube_tcpstates::identity::{Identity, Index, Limits, ROOT_CGROUP_ID};

fn mount() -> PathBuf {
    let mount = Mount::find(None).expect("these tests need a mounted cgroup2 file system");
    assert!(mount.is_whole, "these tests need the root of the hierarchy, not a private cgroup namespace");
    mount.cgroup2.expect("these tests need a cgroup2 file system; this machine has cgroup v1 only")
}

/// A tree of cgroups that is removed again, also when a test fails.
struct Tree {
    root: PathBuf,
    name: String,
}

impl Tree {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mount = mount();
        let name =
            format!("kube-tcpstates-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let root = mount.join(&name);
        fs::create_dir(&root)
            .unwrap_or_else(|error| panic!("these tests need root: cannot make {}: {error}", root.display()));
        Self { root, name }
    }

    /// Makes a cgroup and returns its id and its path from the root of the hierarchy.
    fn make(&self, below: &str) -> (u64, String) {
        let directory = self.root.join(below);
        fs::create_dir_all(&directory).expect("a cgroup below one that could be made");
        (number(&directory), format!("/{}/{below}", self.name))
    }

    fn remove(&self, below: &str) {
        fs::remove_dir(self.root.join(below)).expect("an empty cgroup");
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Err(error) = remove_all(&self.root) {
            eprintln!("left behind: {}: {error}", self.root.display());
        }
    }
}

/// Only directories can be removed in cgroupfs, the innermost first.
fn remove_all(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_all(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

/// A process that does nothing until it is dropped.
struct Idle(Child);

impl Idle {
    fn new(command: &str, arguments: &[&str]) -> Self {
        // `cat` reports with its first byte that it runs where it should, and ends when its input is closed.
        let mut child = Command::new(command)
            .args(arguments)
            .args(["sh", "-c", "echo; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs {command}: {error}"));
        let mut byte = [0];
        let ready = child.stdout.as_mut().expect("piped").read_exact(&mut byte);
        let idle = Self(child);
        ready.unwrap_or_else(|error| panic!("{command} {arguments:?} did not start: {error}; is this root?"));
        idle
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn number(path: &Path) -> u64 {
    fs::metadata(path).expect("a path that is there").ino()
}

#[test]
fn the_mount_that_is_found_is_the_hierarchys_root() {
    let mount = mount();
    assert_eq!(number(&mount), ROOT_CGROUP_ID);
    assert!(mount.join("cgroup.procs").exists());
    assert_eq!(Mount::find(Some(&mount)).expect("the same mount").cgroup2, Some(mount));
    let error = Mount::find(Some(Path::new("/nowhere"))).expect_err("nothing there").to_string();
    assert!(error.contains("/nowhere"), "{error}");
}

#[test]
fn a_walk_finds_every_cgroup_under_its_number() {
    let tree = Tree::new();
    let made = [tree.make("kubepods"), tree.make("kubepods/podx"), tree.make("kubepods/podx/inner")];
    let walk = walk(&mount()).expect("a walk");
    assert_eq!(walk.found.first(), Some(&(ROOT_CGROUP_ID, "/".to_owned())));
    for cgroup in &made {
        assert!(walk.found.contains(cgroup), "{cgroup:?}");
    }
    let mut index = Index::new(Limits::default());
    index.walked(1, 2, walk.found);
    let pod = index.get(made[2].0).and_then(|identity| identity.pod_uid.clone());
    assert_eq!(pod.as_deref(), Some("x"));
}

#[test]
fn a_walk_bears_cgroups_that_vanish_meanwhile() {
    let tree = Tree::new();
    let (kept, path) = tree.make("kept");
    let root = mount();
    std::thread::scope(|scope| {
        let churn = scope.spawn(|| {
            for _ in 0..2000 {
                tree.make("churn/inner");
                tree.remove("churn/inner");
                tree.remove("churn");
            }
        });
        let mut rounds = 0;
        while !churn.is_finished() || rounds < 10 {
            let walk = walk(&root).expect("a walk");
            assert!(walk.found.contains(&(kept, path.clone())));
            assert_eq!(walk.unreadable, 0, "what vanished is not unreadable");
            rounds += 1;
        }
    });
}

#[test]
fn an_id_leads_to_the_path_while_the_cgroup_lives() {
    let tree = Tree::new();
    let by_id = ById::new(&mount()).expect("the mount");
    let (id, path) = tree.make("a.slice/docker-0.scope");
    let found = by_id.path(id).expect("these tests need CAP_DAC_READ_SEARCH");
    assert_eq!(found, Some(path));
    assert_eq!(by_id.path(ROOT_CGROUP_ID).expect("permitted"), Some("/".to_owned()));
    tree.remove("a.slice/docker-0.scope");
    assert_eq!(by_id.path(id).expect("permitted"), None);
    assert_eq!(by_id.path(u64::MAX).expect("permitted"), None);
}

#[test]
fn without_the_capability_the_error_names_it() {
    let probe = std::env::var_os("KUBE_TCPSTATES_PROBE_BY_ID");
    if probe.is_some() {
        let error = ById::new(&mount()).expect("the mount").path(ROOT_CGROUP_ID).expect_err("not permitted");
        assert!(matches!(error, ByIdError::NotPermitted { id: ROOT_CGROUP_ID, .. }), "{error}");
        assert!(error.to_string().contains("CAP_DAC_READ_SEARCH"), "{error}");
        return;
    }
    // This test again, in a process that has given the capability up.
    let itself = std::env::current_exe().expect("the test's own binary");
    let output = Command::new("setpriv")
        .args(["--bounding-set", "-dac_read_search", "--inh-caps", "-dac_read_search"])
        .arg(itself)
        .args(["--exact", "without_the_capability_the_error_names_it"])
        .env("KUBE_TCPSTATES_PROBE_BY_ID", "1")
        .output()
        .expect("this test needs setpriv (util-linux)");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
fn a_process_is_found_in_the_cgroup_it_was_put_into() {
    let tree = Tree::new();
    let id = "c".repeat(64);
    let (_, path) = tree.make(&format!("docker/{id}"));
    let process = Idle::new("env", &[]);
    fs::write(tree.root.join(format!("docker/{id}/cgroup.procs")), process.pid().to_string())
        .expect("a process can be moved");
    let found = task(Path::new("/proc"), process.pid()).expect("/proc").expect("it is alive");
    assert_eq!(found.cgroup, path);
    assert_eq!(Identity::from_path(&found.cgroup).container_id, Some(id));
    let own = task(Path::new("/proc"), std::process::id()).expect("/proc").expect("it is alive");
    assert!(own.started_ns <= found.started_ns, "the parent is not younger");
    let pid = process.pid();
    drop(process);
    assert_eq!(task(Path::new("/proc"), pid).expect("/proc"), None);
}

#[test]
fn a_private_namespace_names_its_container_and_the_hosts_does_not() {
    let root = Path::new("/proc");
    let tree = Tree::new();
    let id = "d".repeat(64);
    tree.make(&format!("docker/{id}"));
    let process = Idle::new("unshare", &["--net"]);
    fs::write(tree.root.join(format!("docker/{id}/cgroup.procs")), process.pid().to_string())
        .expect("a process can be moved");
    let inode = u32::try_from(number(&root.join(format!("{}/ns/net", process.pid())))).expect("32 bits");
    let host = host_namespace(root).expect("these tests need the host's /proc and CAP_SYS_PTRACE");
    assert_ne!(inode, host);
    let found = scan(root).expect("/proc");
    let mut namespaces = Namespaces::new();
    namespaces.set_host(host);
    namespaces.scanned(u64::MAX - 1, found.uses);
    let Found::Private(identity) = namespaces.find(inode, Some(99), u64::MAX - 2) else {
        panic!("the namespace names nobody")
    };
    assert_eq!(identity.container_id, Some(id));
    assert_ne!(namespaces.find(host, None, 1), Found::Unknown);
    assert!(!matches!(namespaces.find(host, None, 1), Found::Private(_)));
}

#[test]
fn the_layout_agrees_with_where_the_controllers_are() {
    let mount = Mount::find(None).expect("these tests need a cgroup file system");
    let own = fs::read_to_string("/proc/self/cgroup").expect("/proc");
    let has_v1 =
        own.lines().any(|line| line.contains(":memory:") || line.contains(":pids:") || line.contains(":cpu"));
    let wanted = match (has_v1, &mount.cgroup2) {
        (false, _) => Layout::Unified,
        (true, Some(_)) => Layout::Hybrid,
        (true, None) => Layout::Legacy,
    };
    assert_eq!(mount.layout, wanted);
}
