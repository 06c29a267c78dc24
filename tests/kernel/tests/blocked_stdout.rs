//! Nobody reads stdout for 20 s under churn: memory stays bounded, no line is torn, writing goes on once
//! somebody reads, and the loss is counted exactly.

use std::time::{Duration, Instant};

use kube_tcpstates_kernel_tests::procfs::Process;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::scene::Scene;
use kube_tcpstates_kernel_tests::tracer::{Finished, Setup, Tracer};
use kube_tcpstates_kernel_tests::workload::{Ending, Report};
use rustix::process::Signal;

const MIB: u64 = 1 << 20;
/// `--queue-size`.
const QUEUE: u64 = MIB;
/// What the tracer's memory may grow by: the queue, the ring's pages as they are touched, and what the
/// allocator keeps.
const GROWTH: u64 = QUEUE + 32 * MIB;
/// Bound on connections, so that the loop ends by itself on a fast machine.
const ENOUGH: u64 = 1_000_000;

#[test]
fn a_blocked_stdout_costs_bounded_memory_and_counted_lines() {
    require(&[]);
    let mut scene = Scene::new(Ending::Reset);
    let untraced = rate(&churn_for(&mut scene, 4));
    let read = {
        let tracer = start(&scene, true);
        let rate = rate(&churn_for(&mut scene, 4));
        drop(tracer);
        rate
    };
    let untold = scene.transitions();
    let tracer = start(&scene, false);
    let before = Process(tracer.pid()).resident();
    tracer.pause_reading();
    let blocked = Instant::now();
    let report = churn_for(&mut scene, 20);
    let (seconds, after) = (blocked.elapsed().as_secs(), Process(tracer.pid()).resident());
    println!(
        "connections/s: {untraced:.0} untraced, {read:.0} traced and read, {:.0} traced and blocked for {seconds} s",
        rate(&report)
    );
    println!("resident memory: {before} bytes before, {after} after");
    let unread = tracer.lines_now();
    tracer.resume_reading();
    tracer.settle(Duration::from_secs(1));
    let resumed = tracer.lines_now();
    assert!(resumed > unread, "writing did not resume");
    let churn = scene.churn(100);
    scene.run(&churn);
    tracer.settle(Duration::from_secs(1));
    let finished = tracer.stop();

    let fresh = finished.lines.len() - resumed;
    assert!(fresh >= 100 * 6, "only {fresh} lines of what happened after reading resumed");
    assert!(after < before + GROWTH, "memory grew by {} bytes", after - before);
    assert_bounded_and_exact(&finished, scene.transitions() - untold);
}

/// A blocked stdout has no room left even for the lines that tell the loss. Whoever reads on once the tracer was told
/// to end must learn of it all the same.
#[test]
fn a_reader_that_comes_back_at_the_end_learns_of_every_loss() {
    require(&[]);
    let mut scene = Scene::new(Ending::Reset);
    let options = ["--queue-size", "128KiB"].map(str::to_owned);
    let tracer = Setup::json(options.into_iter().chain(scene.only_this())).start_ready();
    tracer.pause_reading();
    let churn = scene.churn(400);
    scene.run(&churn);
    // Each loss that is followed by a pause is told at once.
    for _ in 0..40 {
        let churn = scene.churn(2);
        scene.run(&churn);
        std::thread::sleep(Duration::from_millis(30));
    }
    tracer.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(500));
    tracer.resume_reading();
    let finished = tracer.wait_end(Duration::from_secs(10));
    let told = finished.events().iter().filter(|event| event.kind() == "lost").count();
    println!("{told} lines told of losses");
    assert_bounded_and_exact(&finished, scene.transitions());
    let last = finished.lines.last().expect("there are lines").json();
    assert_eq!(last.get("tcpstates.final"), Some(&true.into()), "{:?}", last.0);
}

/// Nobody ever reads: the tracer gives up after some seconds, says so, and still accounts for everything.
#[test]
fn a_stdout_that_stays_blocked_is_given_up() {
    require(&[]);
    let mut scene = Scene::new(Ending::Reset);
    let tracer = start(&scene, false);
    tracer.pause_reading();
    let churn = scene.churn(2_000);
    scene.run(&churn);
    let (begun, pid) = (Instant::now(), tracer.pid());
    tracer.signal(Signal::INT);
    while tracer.is_running() && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("process {pid} ended {:?} after SIGINT", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(8), "it did not give up");
    // What the pipe held can be read yet.
    tracer.resume_reading();
    let finished = tracer.wait_end(Duration::from_secs(1));
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("blocked"), "{}", finished.stderr);
    let counts = finished.counts();
    println!("{counts:?}");
    counts.assert_add_up();
    assert!(counts.get("lost_write") > 0, "{counts:?}");
    assert_eq!(Ok(counts.get("written")), u64::try_from(finished.transitions().len()), "lines on stdout");
    let (happened, accounted) = (scene.transitions(), counts.get("written") + counts.lost());
    assert!((accounted - counts.get("recursion")..=accounted).contains(&happened), "{happened}: {counts:?}");
}

fn start(scene: &Scene, to_nowhere: bool) -> Tracer {
    let mut options = vec!["--queue-size".to_owned(), "1MiB".to_owned()];
    options.extend(scene.only_this());
    let setup = Setup::json(options);
    if to_nowhere { setup.to_nowhere().start_ready() } else { setup.start_ready() }
}

fn churn_for(scene: &mut Scene, seconds: u64) -> Report {
    let churn = scene.churn(ENOUGH).seconds(seconds);
    scene.run(&churn)
}

fn assert_bounded_and_exact(finished: &Finished, happened: u64) {
    let counts = finished.assert_clean();
    println!("{counts:?}");
    let high_water = counts.get("queue_high_water");
    assert!(high_water <= QUEUE, "the queue held {high_water} bytes, its bound is {QUEUE}");
    assert!(counts.get("lost_queue") > 0, "the queue held everything: nothing was tested");
    // Parsing every line shows that none is torn.
    let events = finished.events();
    let lines = events.iter().filter(|event| event.kind() == "transition").count();
    assert_eq!(Ok(counts.get("written")), u64::try_from(lines), "lines on stdout");
    let last = events.iter().rfind(|event| event.kind() == "lost").expect("a line that tells the loss");
    let told = last.number("tcpstates.lost.total").expect("a total");
    let (accounted, skipped) = (counts.get("written") + told, counts.get("recursion"));
    assert!(
        (accounted - skipped..=accounted).contains(&happened),
        "{happened} transitions happened, {lines} lines and {told} lost are told"
    );
}

#[expect(clippy::cast_precision_loss, reason = "printed for a person")]
fn rate(report: &Report) -> f64 {
    report.connections as f64 * 1e6 / report.micros.max(1) as f64
}
