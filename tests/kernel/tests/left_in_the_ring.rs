//! What a tracer that is killed leaves in the ring for the next, or for one of another build.

use std::thread::sleep;
use std::time::Duration;

use kube_tcpstates_common::pinned::{FORMAT, Word};
use kube_tcpstates_kernel_tests::procfs::Process;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::restarts::{ONE_WRITE, Restarts, assert_told_once};
use kube_tcpstates_kernel_tests::tracer::Setup;
use rustix::process::Signal;

/// More than a tracer lets wait for stdout where a record in the ring would outlive it: 256 KiB of lines, and as many more
/// as it takes records at a time.
const WAITING: u64 = 1_000;

/// Their lines take less room than the tracer's queue has, their records less than half of the ring.
#[test]
fn what_would_wait_for_a_slow_reader_is_told_after_a_kill() {
    require(&[]);
    let mut restarts = Restarts::new(&["--ring-size", "8MiB"]);
    let mut runs = vec![restarts.first()];
    let tracer = restarts.start();
    tracer.pause_reading();
    let churn = restarts.scene.churn(500);
    restarts.scene.run(&churn);
    tracer.settle(Duration::from_millis(300));
    tracer.signal(Signal::KILL);
    tracer.resume_reading();
    runs.push(tracer.wait_end(Duration::from_mins(1)));
    runs.push(restarts.last());
    let happened = restarts.scene.transitions();
    assert!(happened > 4 * WAITING, "{happened} transitions");
    let doubt = assert_told_once(&runs, happened);
    assert!(doubt <= ONE_WRITE, "{doubt} lines are told and counted as lost");
    let lost = runs[2].counts().lost();
    assert!(lost < WAITING, "{lost} are lost");
}

/// It looks into the ring now and then, which takes next to nothing.
#[test]
fn waiting_for_a_slow_reader_costs_no_cpu() {
    require(&[]);
    let mut restarts = Restarts::new(&["--ring-size", "8MiB"]);
    let tracer = restarts.start();
    tracer.pause_reading();
    let churn = restarts.scene.churn(500);
    restarts.scene.run(&churn);
    tracer.settle(Duration::from_millis(300));
    let process = Process(tracer.pid());
    let before = process.ticks();
    sleep(Duration::from_secs(3));
    let ticks = process.ticks() - before;
    tracer.resume_reading();
    drop(tracer.stop());
    assert!(ticks < 60, "{ticks} of 300 ticks");
}

/// By the counters it is known how many there are.
#[test]
fn records_of_another_build_are_counted() {
    require(&[]);
    let mut restarts = Restarts::new(&[]);
    let mut runs = vec![restarts.first()];
    let tracer = restarts.start();
    let churn = restarts.scene.churn(50);
    restarts.scene.run(&churn);
    tracer.settle(Duration::from_millis(300));
    runs.push(tracer.kill());
    let told = restarts.scene.transitions();
    let churn = restarts.scene.churn(50);
    restarts.scene.run(&churn);
    let untold = restarts.scene.transitions() - told;
    restarts.bpf.set_word(Word::Format, FORMAT + 1);
    restarts.options.extend(["--heartbeat".to_owned(), "61s".to_owned()]);
    runs.push(restarts.last());
    let doubt = assert_told_once(&runs, told + untold);
    assert!(doubt <= ONE_WRITE, "{doubt} lines are told and counted as lost");
    let lost = runs[2].counts().get("lost_restart");
    assert!((untold..=untold + ONE_WRITE).contains(&lost), "{lost} of {untold}");
    assert!(runs[2].stderr.contains("are those of another build"), "{}", runs[2].stderr);
    assert_eq!(restarts.bpf.sets(), 0);
}

/// Whoever goes on with the programs leaves out what others were to tell, and so does whoever ends them.
#[test]
fn what_another_set_was_to_tell_is_not_told_again() {
    require(&[]);
    for last_options in [&[][..], &["--heartbeat", "61s"]] {
        let mut restarts = Restarts::new(&[]);
        drop(restarts.start().kill());
        let churn = restarts.scene.churn(50);
        restarts.scene.run(&churn);
        restarts.bpf.set_word(Word::Begins, u64::MAX);
        restarts.options.extend(last_options.iter().map(|option| (*option).to_owned()));
        let last = restarts.last();
        let counts = last.assert_clean();
        assert_eq!(last.transitions().len(), 0, "with {last_options:?}");
        assert_eq!(counts.get("filtered_user"), restarts.scene.transitions(), "with {last_options:?}");
    }
}

/// The one before it was killed when it had attached its own programs, and had not yet ended those of others. The next goes
/// on with its programs.
#[test]
fn programs_that_a_killed_tracer_did_not_end_are_ended_by_the_next() {
    require(&[]);
    two_sets_told_by(&["--heartbeat", "61s"]);
}

/// Here the next has programs of its own.
#[test]
fn of_the_programs_of_two_killed_tracers_one_is_told() {
    require(&[]);
    two_sets_told_by(&["--heartbeat", "62s"]);
}

fn two_sets_told_by(last_options: &[&str]) {
    let mut restarts = Restarts::new(&[]);
    drop(restarts.start().kill());
    let place = restarts.bpf.place();
    let elsewhere = place.with_file_name("elsewhere");
    std::fs::rename(&place, &elsewhere).expect("move all of it");
    let mut options = restarts.options.clone();
    options.extend(["--heartbeat", "61s"].map(str::to_owned));
    drop(Setup::json(options).start_ready().kill());
    for set in std::fs::read_dir(&elsewhere).expect("something is pinned").flatten() {
        std::fs::rename(set.path(), place.join(set.file_name())).expect("move it back");
    }
    assert_eq!(restarts.bpf.sets(), 2);
    let churn = restarts.scene.churn(50);
    restarts.scene.run(&churn);
    restarts.options.extend(last_options.iter().map(|option| (*option).to_owned()));
    let last = restarts.last();
    assert_eq!(last.transitions().len() as u64, restarts.scene.transitions());
    assert_eq!(last.assert_clean().lost(), 0);
    assert_eq!(restarts.bpf.sets(), 0, "something is still pinned");
}
