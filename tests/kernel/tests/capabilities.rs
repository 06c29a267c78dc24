//! `trace` needs few capabilities, and says by name which one is missing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use kube_tcpstates_kernel_tests::line::{Event, Line};
use kube_tcpstates_kernel_tests::requirements::{Need, require};
use kube_tcpstates_kernel_tests::scene::Scene;
use kube_tcpstates_kernel_tests::tracer::{Finished, Setup, program};
use kube_tcpstates_kernel_tests::workload::Ending;
use rustix::process::Signal;

/// What the tracer runs as.
const NOBODY: &str = "65534";
const SOON: Duration = Duration::from_secs(20);
/// For loading programs, for attaching them, and for looking a cgroup up by its id.
const SUFFICIENT: [&str; 3] = ["bpf", "perfmon", "dac_read_search"];

#[test]
fn three_capabilities_are_enough() {
    require(&[Need::Program("setpriv")]);
    let (finished, scene) = trace_with(&SUFFICIENT);
    finished.assert_clean();
    let transitions = finished.transitions();
    let named = transitions.iter().filter(|event| event.text("container.id").is_some()).count();
    assert_eq!(u64::try_from(named), Ok(scene.transitions()), "{}", finished.stderr);
}

#[test]
fn without_cap_bpf_the_error_names_it() {
    assert_refused_for_want_of("bpf");
}

#[test]
fn without_cap_perfmon_the_error_names_it() {
    assert_refused_for_want_of("perfmon");
}

/// Lines about containers that live on are still right; what is at stake is said.
#[test]
fn without_cap_dac_read_search_a_warning_names_it() {
    require(&[Need::Program("setpriv")]);
    let (finished, _scene) = trace_with(&["bpf", "perfmon"]);
    println!("{}: {}", finished.status, finished.stderr);
    assert!(finished.stderr.contains("CAP_DAC_READ_SEARCH"), "{}", finished.stderr);
}

/// Nor can a cgroup be looked up by its id here: only a list of them tells whose it is.
#[test]
fn a_container_whose_making_was_lost_is_found_by_another_list() {
    require(&[Need::Program("setpriv")]);
    let mut scene = Scene::new(Ending::ClientFirst);
    let copy = readable_copy();
    let setup = Setup::json(scene.only_this()).program(&copy.program).through(setpriv(&["bpf", "perfmon"]));
    let tracer = setup.start_ready();
    tracer.signal(Signal::STOP);
    // More than the kernel can keep for a reader that does not read.
    let crowd: Vec<_> = (0..2_500).map(|_| scene.tree.container()).collect();
    scene.client_container = scene.tree.container();
    tracer.signal(Signal::CONT);
    let deadline = Instant::now() + SOON;
    while !tracer.stderr_now().contains("listed them again") {
        assert!(Instant::now() < deadline, "{}", tracer.stderr_now());
        thread::sleep(Duration::from_millis(10));
    }
    let churn = scene.churn(10);
    scene.run(&churn);
    tracer.settle(Duration::from_millis(500));
    let finished = tracer.stop();
    assert!(finished.assert_clean().get("cgroup_ring_full") > 0, "{}", crowd.len());
    // A task would name it as well.
    let of_client = |event: &Event| {
        event.text("container.id") == Some(&scene.client_container.id)
            && event.text("tcpstates.attribution.source") == Some("socket_cgroup")
    };
    let named = finished.transitions().iter().filter(|event| of_client(event)).count();
    assert_eq!(named, 10 * 5, "{}", finished.stderr);
}

#[test]
fn check_tells_of_every_capability_whether_it_is_there() {
    require(&[Need::Program("setpriv")]);
    let copy = readable_copy();
    let (all, text) = check_with(&copy, &SUFFICIENT);
    println!("{text}");
    assert!(all.status.success(), "check fails with all that is needed: {text}");
    for name in SUFFICIENT {
        assert!(text.contains(&kernel_name(name)), "check does not speak of {name}: {text}");
    }
    assert_eq!(check_with(&copy, &["perfmon"]).0.status.code(), Some(1), "check passes without CAP_BPF");
}

fn assert_refused_for_want_of(missing: &str) {
    require(&[Need::Program("setpriv")]);
    let rest: Vec<&str> = SUFFICIENT.into_iter().filter(|name| *name != missing).collect();
    let copy = readable_copy();
    let tracer = Setup::json(["--duration", "1s"]).program(&copy.program).through(setpriv(&rest)).start();
    let finished = tracer.wait_end(SOON);
    println!("{}: {}", finished.status, finished.stderr);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains(&kernel_name(missing)), "{}", finished.stderr);
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
}

/// Ten connections, traced by a process with these capabilities alone.
fn trace_with(capabilities: &[&str]) -> (Finished, Scene) {
    let mut scene = Scene::new(Ending::ClientFirst);
    let copy = readable_copy();
    let setup = Setup::json(scene.only_this()).program(&copy.program).through(setpriv(capabilities));
    let tracer = setup.start_ready();
    let churn = scene.churn(10);
    scene.run(&churn);
    tracer.settle(Duration::from_millis(500));
    (tracer.stop(), scene)
}

fn check_with(copy: &Copy, capabilities: &[&str]) -> (Finished, String) {
    let setup = Setup::run(["check"]).program(&copy.program).through(setpriv(capabilities));
    let finished = setup.start().wait_end(SOON);
    let lines: Vec<&str> = finished.lines.iter().map(Line::text).collect();
    let text = lines.join(
        "
",
    );
    (finished, text)
}

/// As an unprivileged user with these capabilities, which `exec` keeps because they are ambient.
fn setpriv(capabilities: &[&str]) -> Vec<String> {
    let list = capabilities.iter().fold("-all".to_owned(), |list, name| format!("{list},+{name}"));
    let mut words = vec!["setpriv".to_owned(), "--clear-groups".to_owned()];
    words.extend([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
    words.extend(["bounding-set", "inh-caps", "ambient-caps"].map(|set| format!("--{set}={list}")));
    words
}

/// `bpf` is `CAP_BPF`.
fn kernel_name(capability: &str) -> String {
    format!("CAP_{}", capability.to_uppercase())
}

/// The program under test where everybody may run it: the target folder can be under root's home.
struct Copy {
    program: PathBuf,
    _folder: tempfile::TempDir,
}

fn readable_copy() -> Copy {
    let folder = tempfile::tempdir().expect("make a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("open the folder");
    let copy = folder.path().join("kube-tcpstates");
    fs::copy(program(), &copy).expect("copy the program");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("open the program");
    Copy { program: copy, _folder: folder }
}
