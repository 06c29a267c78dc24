//! Tracing that goes on without a tracer: `--pin`. Killed, ended and started anew, each transition is told once, or is
//! counted as lost.

use std::collections::HashSet;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use kube_tcpstates_kernel_tests::line::Event;
use kube_tcpstates_kernel_tests::pinned::BpfFs;
use kube_tcpstates_kernel_tests::requirements::{Need, require};
use kube_tcpstates_kernel_tests::scene::Scene;
use kube_tcpstates_kernel_tests::tracer::{Finished, Setup, Tracer};
use kube_tcpstates_kernel_tests::workload::Ending;
use rustix::process::Signal;

/// How often a tracer is ended in each test.
const TIMES: usize = 20;
/// A tracer runs so long before it is ended.
const A_WHILE: Duration = Duration::from_millis(200);
/// Between two bursts of connections: some thousand transitions a second, which whoever reads here keeps up with.
const BREATH: Duration = Duration::from_millis(60);
/// One write of whole lines to a pipe, the shortest of which has more than 200 bytes: what a killed tracer may have
/// written and not counted.
const ONE_WRITE: u64 = 4096 / 200;

/// A scene whose clients go on and on, and the tracers that see it one after the other.
struct Restarts {
    scene: Scene,
    bpf: BpfFs,
    options: Vec<String>,
}

impl Restarts {
    fn new(more: &[&str]) -> Self {
        let scene = Scene::new(Ending::ClientFirst);
        let bpf = BpfFs::mount();
        let mut options = vec!["--pin".to_owned(), bpf.place().display().to_string()];
        options.extend(scene.only_this());
        options.extend(more.iter().map(|option| (*option).to_owned()));
        Self { scene, bpf, options }
    }

    fn start(&self) -> Tracer {
        Setup::json(self.options.clone()).start_ready()
    }

    /// The first of all, before anybody connects; tracing goes on from here.
    fn first(&self) -> Finished {
        let tracer = self.start();
        tracer.signal(Signal::TERM);
        tracer.wait_end(Duration::from_mins(1))
    }

    /// The last of all, once nobody connects any more; it ends for good.
    fn last(&self) -> Finished {
        let tracer = self.start();
        tracer.settle(Duration::from_secs(1));
        tracer.stop()
    }

    /// Has clients connect while `during` goes on, until it is over.
    fn meanwhile<T: Send>(&mut self, connections: u64, during: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let during = scope.spawn(during);
            while !during.is_finished() {
                let churn = self.scene.churn(connections);
                self.scene.run(&churn);
                sleep(BREATH);
            }
            during.join().expect("what went on meanwhile")
        })
    }
}

/// Ends a tracer so and starts the next, again and again. Returns what each wrote.
fn again_and_again(options: &[String], signal: Signal) -> Vec<Finished> {
    let mut runs = Vec::new();
    let mut gaps = Vec::new();
    for _ in 0..TIMES {
        let tracer = Setup::json(options.to_vec()).start_ready();
        sleep(A_WHILE);
        let ended = Instant::now();
        tracer.signal(signal);
        runs.push(tracer.wait_end(Duration::from_mins(1)));
        gaps.push(ended.elapsed());
    }
    gaps.sort();
    println!(
        "from the signal to the end: {:?} in the middle, {:?} at most",
        gaps[TIMES / 2],
        gaps[TIMES - 1]
    );
    runs
}

#[test]
fn a_tracer_that_is_killed_again_and_again_loses_nothing_uncounted_and_tells_nothing_twice() {
    require(&[]);
    let mut restarts = Restarts::new(&[]);
    let options = restarts.options.clone();
    let mut runs = vec![restarts.first()];
    runs.extend(restarts.meanwhile(50, || again_and_again(&options, Signal::KILL)));
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
    runs.extend(restarts.meanwhile(50, || again_and_again(&options, Signal::TERM)));
    runs.push(restarts.last());
    assert_eq!(assert_told_once(&runs, restarts.scene.transitions()), 0);
    let counts = runs.last().expect("a last run").assert_clean();
    assert_eq!(counts.lost() - counts.get("recursion"), 0, "{counts:?}");
    assert_ids_and_durations_hold(&runs);
}

/// What happened is in the lines of all runs, each once, or in the last count of losses. Returns how many are in both.
#[track_caller]
fn assert_told_once(runs: &[Finished], happened: u64) -> u64 {
    let mut told = HashSet::new();
    let mut before: Option<(String, u64)> = None;
    let mut after_seq = 0;
    for run in runs {
        let events = run.events();
        let start = &events[0];
        let numbered: Vec<&Event> = events.iter().filter(|event| event.kind() != "log").collect();
        for (number, event) in (1..).zip(&numbered) {
            assert_eq!(event.number("tcpstates.seq"), Some(number), "{:?}", event.0);
        }
        if let Some((name, lines)) = &before {
            assert_eq!(start.text("tcpstates.continues.run"), Some(name.as_str()));
            let seq = start.number("tcpstates.continues.seq").expect("a number");
            assert!(seq <= *lines && lines - seq <= ONE_WRITE, "{lines} lines were read of {seq}");
            after_seq += lines - seq;
        }
        before = Some((start.must("tcpstates.run").to_owned(), numbered.len() as u64));
        for event in events.iter().filter(|event| event.kind() == "transition") {
            let key = ["time", "connection.id", "new_state"].map(|name| {
                let name = if name == "time" { name.to_owned() } else { format!("tcpstates.{name}") };
                event.must(&name).to_owned()
            });
            assert!(told.insert(key), "told twice: {:?}", event.0);
        }
    }
    let counts = runs.last().expect("there are runs").assert_clean();
    let (lines, lost) = (told.len() as u64, counts.lost());
    println!(
        "{happened} transitions: {lines} lines, {lost} lost (restart {}, ring {}, recursion {}), {after_seq} lines read \
         and not counted as written",
        counts.get("lost_restart"),
        counts.get("ring_full"),
        counts.get("recursion")
    );
    assert!(lines + lost >= happened, "{} are neither told nor counted", happened - lines - lost);
    // What the kernel skipped may be other programs'.
    (lines + lost - happened).saturating_sub(counts.get("recursion"))
}

/// Whoever followed one connection through the restarts sees one.
#[track_caller]
fn assert_ids_and_durations_hold(runs: &[Finished]) {
    let unknown: Vec<Event> = runs
        .iter()
        .flat_map(Finished::transitions)
        .filter(|event| event.number("tcpstates.state_duration_us").is_none())
        // They have none, or follow from others: the kernel did not run the program for them.
        .filter(|event| !["CLOSE", "LISTEN"].contains(&event.must("tcpstates.old_state")))
        .filter(|event| {
            ["inferred", "gap"].iter().all(|flag| event.get(&format!("tcpstates.{flag}")).is_none())
        })
        .collect();
    assert!(unknown.is_empty(), "{} lines have no duration, such as {:?}", unknown.len(), unknown[0].0);
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
    tracer.signal(Signal::KILL);
    drop(tracer.wait_end(Duration::from_mins(1)));
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
    assert!(finished.events()[0].get("tcpstates.continues").is_some());
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
    first.signal(Signal::KILL);
    let first = first.wait_end(Duration::from_mins(1)).events();
    let events = start().stop().events();
    assert_eq!(events[0].text("tcpstates.continues.run"), Some(first[0].must("tcpstates.run")));
}
