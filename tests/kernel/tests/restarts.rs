//! Tracing that goes on without a tracer: `--pin`. Killed, ended and started anew, each transition is told once, or is
//! counted as lost.

use std::thread::sleep;
use std::time::Duration;

use kube_tcpstates_kernel_tests::requirements::{Need, require};
use kube_tcpstates_kernel_tests::restarts::{
    A_WHILE, ONE_WRITE, Restarts, again_and_again, assert_ids_and_durations_hold, assert_told_once,
};
use kube_tcpstates_kernel_tests::tracer::Setup;
use rustix::process::Signal;

/// How often a tracer is ended in each test.
const TIMES: usize = 20;

#[test]
fn a_tracer_that_is_killed_again_and_again_loses_nothing_uncounted_and_tells_nothing_twice() {
    require(&[]);
    let mut restarts = Restarts::new(&[]);
    let options = restarts.options.clone();
    let mut runs = vec![restarts.first()];
    runs.extend(restarts.meanwhile(50, || again_and_again(&options, Signal::KILL, TIMES)));
    runs.push(restarts.last());
    let doubt = assert_told_once(&runs, restarts.scene.transitions());
    assert!(doubt <= ONE_WRITE * TIMES as u64, "{doubt} lines are told and counted as lost");
    assert_ids_and_durations_hold(&runs);
    assert_eq!(restarts.bpf.sets(), 0, "something is still pinned");
}

#[test]
fn a_tracer_that_is_ended_and_started_again_loses_nothing() {
    require(&[]);
    let mut restarts = Restarts::new(&[]);
    let options = restarts.options.clone();
    let mut runs = vec![restarts.first()];
    runs.extend(restarts.meanwhile(50, || again_and_again(&options, Signal::TERM, TIMES)));
    runs.push(restarts.last());
    assert_eq!(assert_told_once(&runs, restarts.scene.transitions()), 0);
    let counts = runs.last().expect("a last run").assert_clean();
    assert_eq!(counts.lost() - counts.get("recursion"), 0, "{counts:?}");
    assert_ids_and_durations_hold(&runs);
}

#[test]
fn a_second_tracer_waits_for_the_first() {
    require(&[]);
    let restarts = Restarts::new(&[]);
    let first = restarts.start();
    let second = Setup::json(restarts.options.clone()).start();
    sleep(Duration::from_secs(1));
    assert_eq!(second.lines_now(), 0, "two read one ring");
    first.signal(Signal::TERM);
    let first = first.wait_end(Duration::from_mins(1)).events();
    second.wait_lines(1, Duration::from_mins(1));
    let events = second.stop().events();
    assert_eq!(events[0].text("tcpstates.continues.run"), Some(first[0].must("tcpstates.run")));
    assert_eq!(restarts.bpf.sets(), 0);
}

#[test]
fn without_a_reader_tracing_ends() {
    require(&[]);
    let mut restarts = Restarts::new(&["--pin-for", "1s"]);
    let tracer = restarts.start();
    let run = |restarts: &mut Restarts, connections| {
        let churn = restarts.scene.churn(connections);
        restarts.scene.run(&churn);
    };
    // As long as somebody reads it goes on, also where nothing happens for longer.
    sleep(Duration::from_secs(3));
    run(&mut restarts, 100);
    tracer.settle(Duration::from_millis(300));
    drop(tracer.kill());
    let seen = restarts.scene.transitions();
    run(&mut restarts, 100);
    let in_time = restarts.scene.transitions();
    sleep(Duration::from_secs(2));
    run(&mut restarts, 100);
    assert!(restarts.bpf.has_links());

    let next = restarts.start();
    next.settle(Duration::from_millis(300));
    let begins = next.lines_now();
    run(&mut restarts, 10);
    next.settle(Duration::from_millis(300));
    let finished = next.stop();
    let counts = finished.assert_clean();
    let lines = finished.transitions().len() as u64;
    println!("{counts:?}, {lines} lines, {begins} of them before");
    // What it left out while nobody read is not told, the rest is.
    let (told, of_ten) = (in_time - seen, restarts.scene.transitions() - in_time);
    assert_eq!(lines, told + of_ten / 11, "{told} in time, {of_ten} later");
    assert!(finished.events()[0].get("tcpstates.continues").is_none(), "it began anew");
    assert!(finished.stderr.contains("without a reader for longer"), "{}", finished.stderr);
    // Its counts are of this run alone, with what the ring still held.
    assert_eq!(counts.get("written"), lines);
    assert_eq!(restarts.bpf.sets(), 0);
}

#[test]
fn a_tracer_with_other_options_tells_what_the_first_has_left() {
    require(&[]);
    let mut restarts = Restarts::new(&[]);
    let mut other = restarts.options.clone();
    other.extend(["--heartbeat".to_owned(), "61s".to_owned()]);
    let both = [restarts.options.clone(), other];
    let mut runs = vec![restarts.first()];
    runs.extend(restarts.meanwhile(50, || {
        let mut runs = Vec::new();
        for number in 0..6 {
            let tracer = Setup::json(both[number % 2].clone()).start_ready();
            sleep(A_WHILE);
            tracer.signal(if number % 3 == 0 { Signal::KILL } else { Signal::TERM });
            runs.push(tracer.wait_end(Duration::from_mins(1)));
        }
        runs
    }));
    runs.push(restarts.last());
    let doubt = assert_told_once(&runs, restarts.scene.transitions());
    assert!(doubt <= ONE_WRITE * 2, "{doubt} lines are told and counted as lost");
    assert_eq!(restarts.bpf.sets(), 0);
}

#[test]
fn a_directory_elsewhere_is_refused() {
    let elsewhere = tempfile::tempdir().expect("make a temporary directory");
    let finished = Setup::json(["--pin".to_owned(), elsewhere.path().display().to_string()])
        .start()
        .wait_end(Duration::from_mins(1));
    assert!(!finished.status.success());
    assert!(finished.stderr.contains("is not in a BPF file system"), "{}", finished.stderr);
}

/// As the agents' container has them, and no `CAP_SYS_ADMIN`.
#[test]
fn an_agents_capabilities_are_enough() {
    require(&[Need::Program("setpriv")]);
    let restarts = Restarts::new(&[]);
    let alone = "-all,+bpf,+perfmon,+dac_read_search";
    let wrapper = [
        "setpriv".to_owned(),
        format!("--bounding-set={alone}"),
        format!("--inh-caps={alone}"),
        "--no-new-privs".to_owned(),
    ];
    let start = || Setup::json(restarts.options.clone()).through(wrapper.clone()).start_ready();
    let first = start();
    let first = first.kill().events();
    let events = start().stop().events();
    assert_eq!(events[0].text("tcpstates.continues.run"), Some(first[0].must("tcpstates.run")));
}
