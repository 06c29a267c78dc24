//! Summaries and what takes their lines: a plan that changes has what came together told, and a line that finds no room
//! comes later.

#![expect(clippy::unwrap_used, reason = "what a test made itself is as it made it")]

mod pipelines;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};
use std::thread;
use std::time::{Duration, Instant};

use kube_tcpstates::filter::{Mode, PortRange, TraceFilter};
use kube_tcpstates::outlet::Offer;
use kube_tcpstates::pipeline::{Counting, RunResult, Running};
use kube_tcpstates::plan::{IdScope, Outcomes, Plan, View};
use kube_tcpstates_events::{Line, SummaryLine};
use kube_tcpstates_kernel_tests::requirements::require;

use pipelines::{Looked, Looks};

const SECOND: u64 = 1_000_000_000;

/// Takes every line, or while it is full no summary.
#[derive(Clone, Default)]
struct Reader {
    told: Arc<Mutex<Vec<SummaryLine>>>,
    full: Arc<AtomicBool>,
    refused: Arc<AtomicBool>,
}

impl Reader {
    /// Connections of every summary.
    fn told(&self) -> Vec<u64> {
        self.told.lock().unwrap().iter().map(|line| line.tcpstates.summary.connections).collect()
    }

    fn wait(&self, is: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is(self) {
            assert!(Instant::now() < deadline, "told {:?}", self.told());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Looks for Reader {
    fn transition(&mut self) -> Offer {
        panic!("nobody asked for transitions")
    }

    fn connection(&mut self) -> Offer {
        panic!("nobody asked for connections")
    }

    fn line(&mut self, line: &Line) -> Offer {
        let Line::Summary(summary) = line else { return Offer::Accepted };
        if self.full.load(Ordering::Relaxed) {
            self.refused.store(true, Ordering::Relaxed);
            return Offer::Full;
        }
        self.told.lock().unwrap().push(SummaryLine::clone(summary));
        Offer::Accepted
    }
}

/// A trace of the clients of a port. Another interval is another trace.
fn view(to: SocketAddr, interval_ns: u64) -> View {
    let port = PortRange::new(to.port(), to.port()).unwrap();
    let filter = TraceFilter { mode: Mode::Summary, peer_ports: vec![port], ..TraceFilter::default() };
    let mut plan = Plan::of_command_line(filter, (Outcomes::ANY, interval_ns), IdScope::default(), None);
    plan.revision = interval_ns;
    View { plan: Arc::new(plan), roster: None, refused: 0 }
}

fn start(reader: &Reader, view: View) -> Running {
    require(&[]);
    pipelines::start(Looked(reader.clone()), None, view, Counting::Nothing)
}

fn connect(listener: &TcpListener, times: usize) {
    for _ in 0..times {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap();
        // The client closes last, so it is over when this is.
        drop(server);
        drop(client);
    }
}

/// Ends it. Every transition of the run is accounted for.
fn end(running: Running) -> RunResult {
    running.handle.stop(kube_tcpstates::pipeline::Stop::ForGood);
    let outcome = running.join().expect("the pipeline did not panic");
    let totals = outcome.tally.totals();
    assert_eq!(totals.emitted + totals.told_twice, totals.summarised + totals.filtered_user, "{totals:?}");
    outcome
}

/// The trace's losses, asked of a pipeline that runs.
fn lost(running: &Running) -> u64 {
    running.handle.account().blocking_recv().unwrap().traces.values().map(|counts| counts.lost).sum()
}

#[test]
fn a_trace_that_is_changed_has_what_came_together_told_before() {
    let reader = Reader::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let running = start(&reader, view(to, 3_600 * SECOND));
    connect(&listener, 20);
    let account = |running: &Running| running.handle.account().blocking_recv().unwrap().tally.summarised;
    while account(&running) < 20 {
        thread::sleep(Duration::from_millis(5));
    }
    assert!(reader.told().is_empty(), "before the interval is over");
    running.handle.view(view(to, 1_800 * SECOND));
    reader.wait(|reader| reader.told() == [20]);
    connect(&listener, 7);
    assert_eq!(end(running).tally.totals().summarised, 27);
    assert_eq!(reader.told(), [20, 7]);
    let intervals: Vec<_> =
        reader.told.lock().unwrap().iter().map(|line| line.tcpstates.summary.interval_s).collect();
    assert_eq!(intervals, [3_600, 1_800]);
}

#[test]
fn a_line_that_finds_no_room_comes_with_the_next_interval() {
    let reader = Reader::default();
    reader.full.store(true, Ordering::Relaxed);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let running = start(&reader, view(listener.local_addr().unwrap(), SECOND));
    connect(&listener, 5);
    reader.wait(|reader| reader.refused.load(Ordering::Relaxed));
    connect(&listener, 2);
    reader.full.store(false, Ordering::Relaxed);
    reader.wait(|reader| reader.told().iter().sum::<u64>() == 7);
    assert_eq!(lost(&running), 0);
    end(running);
    assert_eq!(reader.told().iter().sum::<u64>(), 7);
}

#[test]
fn what_finds_no_room_until_its_trace_is_gone_is_lost_and_counted() {
    let reader = Reader::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let running = start(&reader, view(to, 3_600 * SECOND));
    connect(&listener, 5);
    while running.handle.account().blocking_recv().unwrap().tally.summarised < 5 {
        thread::sleep(Duration::from_millis(5));
    }
    reader.full.store(true, Ordering::Relaxed);
    running.handle.view(view(to, 1_800 * SECOND));
    reader.wait(|reader| reader.refused.load(Ordering::Relaxed));
    assert_eq!(lost(&running), 5);
    end(running);
}
