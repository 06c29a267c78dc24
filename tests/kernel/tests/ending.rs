//! However a trace ends: what was captured is written or counted, the counts add up, and the exit code says
//! whether it worked.

use std::fs::File;
use std::io::PipeReader;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use kube_tcpstates_kernel_tests::requirements::{Need, require};
use kube_tcpstates_kernel_tests::scene::Scene;
use kube_tcpstates_kernel_tests::tracer::{Finished, Setup};
use kube_tcpstates_kernel_tests::workload::Ending;
use rustix::process::Signal;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn sigint_and_sigterm_end_it_cleanly() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut scene = scene();
        let tracer = Setup::json(scene.only_this()).start_ready();
        let churn = scene.churn(100);
        scene.run(&churn);
        // At once: what is still in flight has to be written too.
        tracer.signal(signal);
        let finished = tracer.wait_end(SOON);
        let counts = finished.assert_clean();
        assert_complete(&finished, scene.transitions(), counts.lost());
    }
}

#[test]
fn a_signal_in_the_middle_of_churn_leaves_counts_that_add_up() {
    let scene = scene();
    let tracer = Setup::json(scene.only_this()).start_ready();
    let clients = scene.churn(1_000_000).seconds(3).start(&scene.client_place());
    std::thread::sleep(Duration::from_secs(1));
    let finished = tracer.stop();
    let counts = finished.assert_clean();
    println!("{counts:?}");
    assert_eq!(u64::try_from(finished.transitions().len()), Ok(counts.get("written")));
    clients.report();
}

#[test]
fn a_duration_ends_it_by_itself() {
    let mut scene = scene();
    let mut options = vec!["--duration".to_owned(), "2s".to_owned()];
    options.extend(scene.only_this());
    let tracer = Setup::json(options).start_ready();
    let begun = Instant::now();
    let churn = scene.churn(20);
    scene.run(&churn);
    let finished = tracer.wait_end(SOON);
    let counts = finished.assert_clean();
    let ran = begun.elapsed();
    assert!(
        ran > Duration::from_millis(1_500) && ran < Duration::from_secs(5),
        "it ran for {ran:?}, not 2 s"
    );
    assert_complete(&finished, scene.transitions(), counts.lost());
}

#[test]
fn a_count_ends_it_after_exactly_so_many_lines() {
    let mut scene = scene();
    let mut options = vec!["--count".to_owned(), "25".to_owned()];
    options.extend(scene.only_this());
    let tracer = Setup::json(options).start_ready();
    let churn = scene.churn(20);
    scene.run(&churn);
    let finished = tracer.wait_end(SOON);
    finished.assert_clean();
    assert_eq!(finished.transitions().len(), 25);
}

#[test]
fn a_reader_that_leaves_is_success() {
    let mut scene = scene();
    let (reader, writer) = std::io::pipe().expect("make a pipe");
    let tracer = Setup::json(scene.only_this()).to_file(File::from(OwnedFd::from(writer))).start();
    let mut first = [0];
    std::io::Read::read_exact(&mut &reader, &mut first).expect("it writes its first line");
    drop(reader);
    let churn = scene.churn(100);
    scene.run(&churn);
    let finished = tracer.wait_end(SOON);
    println!("{}", finished.stderr);
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    finished.assert_clean();
}

#[test]
fn a_full_disk_is_a_failure_that_says_so() {
    let mut scene = scene();
    let full = File::options().write(true).open("/dev/full").expect("open /dev/full");
    let tracer = Setup::json(scene.only_this()).to_file(full).start();
    let churn = scene.churn(100);
    scene.run(&churn);
    let finished = tracer.wait_end(SOON);
    println!("{}", finished.stderr);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("No space left on device"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    finished.counts().assert_add_up();
}

#[test]
fn sigusr1_tells_the_counts_and_the_trace_goes_on() {
    let mut scene = scene();
    let tracer = Setup::json(scene.only_this()).start_ready();
    let churn = scene.churn(10);
    scene.run(&churn);
    tracer.settle(Duration::from_millis(500));
    let counts = tracer.counts_now();
    assert_eq!(counts.get("written"), scene.transitions(), "{counts:?}");
    scene.run(&churn);
    let finished = tracer.stop();
    let counts = finished.assert_clean();
    assert_complete(&finished, scene.transitions(), counts.lost());
}

#[test]
fn sigusr1_in_the_middle_of_churn_disturbs_nothing() {
    let mut scene = scene();
    // This test reads more slowly than connections can come.
    let patient = ["--queue-size", "256MiB"].map(str::to_owned);
    let tracer = Setup::json(scene.only_this().into_iter().chain(patient)).start_ready();
    let clients = scene.churn(1_000_000).seconds(2).start(&scene.client_place());
    let mut before = 0;
    for _ in 0..20 {
        let emitted = tracer.counts_now().get("emitted");
        assert!(emitted >= before, "counted backwards");
        before = emitted;
        std::thread::sleep(Duration::from_millis(80));
    }
    scene.absorb(&clients.report());
    let finished = tracer.stop();
    let counts = finished.assert_clean();
    println!("{counts:?}");
    let lines = u64::try_from(finished.transitions().len()).expect("it fits");
    assert_eq!(lines, counts.get("written"));
    assert_eq!(counts.lost(), counts.get("recursion"), "{counts:?}");
    assert!((scene.transitions() - counts.get("recursion")..=scene.transitions()).contains(&lines));
}

/// Without `CAP_DAC_READ_SEARCH` there is something to say from the start.
#[test]
fn a_stderr_that_takes_nothing_disturbs_nothing() {
    require(&[Need::Program("setpriv")]);
    let full = File::options().write(true).open("/dev/full").expect("open /dev/full");
    let (_reader, blocked) = full_pipe();
    let (reader, left) = std::io::pipe().expect("make a pipe");
    drop(reader);
    let left = File::from(OwnedFd::from(left));
    for (name, stderr, more) in [
        ("full", Some(full), "exec \"$@\""),
        ("blocked", Some(blocked), "exec \"$@\""),
        ("left", Some(left), "exec \"$@\""),
        ("closed", None, "exec \"$@\" 2>&-"),
    ] {
        let mut scene = scene();
        let mut words =
            ["setpriv", "--bounding-set=-dac_read_search", "--inh-caps=-dac_read_search"].to_vec();
        words.extend(["sh", "-c", more, "sh"]);
        let mut options = vec!["--duration".to_owned(), "2s".to_owned()];
        options.extend(scene.only_this());
        let mut setup = Setup::json(options).through(words);
        if let Some(stderr) = stderr {
            setup = setup.stderr_to(stderr);
        }
        let tracer = setup.start_ready();
        tracer.signal(Signal::USR1);
        let churn = scene.churn(50);
        scene.run(&churn);
        tracer.signal(Signal::USR1);
        let finished = tracer.wait_end(Duration::from_secs(6));
        assert!(finished.status.success(), "stderr {name}: {}", finished.status);
        let last = finished.events().pop().expect("there are lines");
        assert_eq!(last.get("tcpstates.final"), Some(&true.into()), "stderr {name}: {:?}", last.0);
        let missing = last.number("tcpstates.totals.lost").expect("a total");
        assert_complete(&finished, scene.transitions(), missing);
    }
}

/// A pipe with no room at all, and its reading end, which nobody reads.
fn full_pipe() -> (PipeReader, File) {
    let (reader, mut writer) = std::io::pipe().expect("make a pipe");
    let size = rustix::pipe::fcntl_setpipe_size(&writer, 4096).expect("make it small");
    std::io::Write::write_all(&mut writer, &vec![b'x'; size]).expect("fill it");
    (reader, File::from(OwnedFd::from(writer)))
}

#[test]
fn wrong_usage_is_exit_code_2_and_one_message() {
    require(&[]);
    let wrong: [&[&str]; 6] = [
        &["--no-such-option"],
        &["-4", "-6"],
        &["-L", "none"],
        &["-L", "65536"],
        &["--hook", "nonsense"],
        &["--duration", "soon"],
    ];
    for options in wrong {
        let finished = Setup::trace(options.iter().copied()).start().wait_end(SOON);
        assert_eq!(finished.status.code(), Some(2), "{options:?}: {}", finished.stderr);
        assert!(finished.lines.is_empty() && !finished.stderr.is_empty(), "{options:?}: {finished:?}");
    }
}

/// These states are in no transition of an established socket: such a filter could never match.
#[test]
fn a_state_that_never_appears_is_refused_with_a_reason() {
    require(&[]);
    for never in ["FIN_WAIT2:TIME_WAIT", "LISTEN:NEW_SYN_RECV"] {
        let finished = Setup::trace(["--duration", "1s", "--transition", never]).start().wait_end(SOON);
        assert!(!finished.status.success(), "{never} is taken for a filter");
        let (_, state) = never.split_once(':').expect("two states");
        assert!(finished.stderr.contains(state), "{}", finished.stderr);
    }
}

fn scene() -> Scene {
    require(&[]);
    Scene::new(Ending::ClientFirst)
}

/// Everything that happened is a line or counted as lost.
fn assert_complete(finished: &Finished, happened: u64, lost: u64) {
    let lines = u64::try_from(finished.transitions().len()).expect("it fits");
    assert_eq!(lines + lost, happened, "lines and losses for {happened} transitions");
}
