//! An outlet made for this test, beside the run's own: it gets every event of a real run, a stop of its reader is its
//! own business, and it learns of the end.
#![expect(clippy::unwrap_used, reason = "what a test made itself is as it made it")]

mod pipelines;

use std::{
    io::{Read as _, pipe},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use kube_tcpstates::{
    connection::ConnectionIds,
    filter::{Mode, PortRange, TraceFilter},
    kernel::{Options, load},
    open::{OpenStates, Snapshots},
    outlet::{End, Finished, Offer, Outlet, Outlets, Queue, Stdout, Totals},
    pipeline::{self, Counting, RunResult, Setup, Stop, Whereabouts},
    plan::{IdScope, Outcomes, Plan, View},
    render::{Event, FormatOptions, ended::Ended, format},
};
use kube_tcpstates_events::{HeartbeatAttributes, Line, Log, LogAttributes, Start};
use kube_tcpstates_kernel_tests::requirements;

use pipelines::{Looked, Looks};

const HOUR: u64 = 3_600_000_000_000;

/// What an outlet has seen, shared with the test.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    fn count(&self, wanted: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|seen| *seen == wanted).count()
    }

    fn last(&self) -> Option<String> {
        self.0.lock().unwrap().last().cloned()
    }
}

/// Takes so many transitions; then its reader has gone.
struct Recorder {
    seen: Seen,
    room: usize,
    totals: Totals,
}

impl Outlet for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn transition(&mut self, _: &Event<'_>) -> Offer {
        if self.seen.count("transition") >= self.room {
            self.totals.lost_write += 1;
            return Offer::Closed;
        }
        self.seen.note("transition".to_owned());
        Offer::Accepted
    }

    fn connection(&mut self, _: &Event<'_>, _: &Ended<'_>) -> Offer {
        self.seen.note("connection".to_owned());
        Offer::Accepted
    }

    fn line(&mut self, line: &Line) -> Offer {
        self.seen.note(match line {
            Line::Heartbeat(heartbeat) if heartbeat.tcpstates.last => "last heartbeat".to_owned(),
            line => serde_json::to_value(line).unwrap()["tcpstates"]["type"].as_str().unwrap().to_owned(),
        });
        Offer::Accepted
    }

    fn flush(&mut self) {}

    fn totals(&self) -> Totals {
        self.totals
    }

    fn is_over(&self) -> bool {
        false
    }

    fn finish(self: Box<Self>, _: Duration) -> Finished {
        self.seen.note("finish".to_owned());
        Finished { totals: self.totals, end: End::Drained }
    }
}

/// Nobody reads it, and it has no room.
struct Stuck;

impl Looks for Stuck {
    fn transition(&mut self) -> Offer {
        Offer::Full
    }

    fn connection(&mut self) -> Offer {
        Offer::Full
    }

    fn line(&mut self, _: &Line) -> Offer {
        Offer::Full
    }
}

/// A trace of the connections to a port. Summaries come at the end.
fn plan(mode: Mode, port: u16) -> Plan {
    let port = PortRange::new(port, port).unwrap();
    let filter = TraceFilter { mode, peer_ports: vec![port], ..TraceFilter::default() };
    Plan::of_command_line(filter, (Outcomes::ANY, HOUR), IdScope::default(), None)
}

/// Runs the pipeline over so many connections to a port of this test, with a recorder that has room for so many
/// transitions. Returns how it ended, and the lines of the run's own outlet.
fn run(connections: usize, seen: &Seen, room: usize) -> (RunResult, Vec<Line>) {
    let (mut reader, writer) = pipe().unwrap();
    let reading = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    });
    let json = format("json").unwrap();
    let queue = Queue::start(writer.into(), 8 << 20, |_| {}).unwrap();
    let own = Stdout::new(queue, (json.make)(&FormatOptions::default()), json.columns);
    let recorder = recorder_of(seen, room);
    let outlets = Outlets::new(Box::new(own)).and(Box::new(recorder));
    let outcome =
        run_with(outlets, |port| plan(Mode::Transitions, port), connections, || seen.count("heartbeat") > 0);
    (outcome, reading.join().unwrap())
}

fn recorder_of(seen: &Seen, room: usize) -> Recorder {
    Recorder { seen: seen.clone(), room, totals: Totals::default() }
}

/// Runs the pipeline over so many connections to a port of this test, until enough has been seen.
fn run_with(
    outlets: Outlets,
    plan: impl FnOnce(u16) -> Plan,
    connections: usize,
    is_enough: impl Fn() -> bool,
) -> RunResult {
    requirements::require(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (diagnostics, waiting) = std::sync::mpsc::channel();
    let setup = Setup {
        kernel: load(Options { hook: None, ring_bytes: 8 << 20, want_on_cpu: false, tasks: None }, None)
            .expect("loading the programs"),
        mount: None,
        proc_root: "/proc".into(),
        whereabouts: Whereabouts::default(),
        outlets,
        start_line: Box::new(|_| Line::Start(Box::<Start>::default())),
        diagnostics: Some(waiting),
        summary: |_| {},
        ids: ConnectionIds::new("00000000-0000-4000-8000-000000000000", [7; 16]),
        run: "00000001".to_owned(),
        identity_wait: Duration::ZERO,
        lines_per_second: 0,
        count: None,
        counting: Counting::Nothing,
        inherited: None,
        left: None,
    };
    let view = View { plan: Arc::new(plan(address.port())), roster: None, refused: 0 };
    let running = pipeline::start(setup, Some(view), || {}).expect("starting the pipeline");
    let said = LogAttributes { text: "said by the test".to_owned(), ..LogAttributes::default() };
    diagnostics.send(Log { tcpstates: said, ..Log::default() }).unwrap();
    for _ in 0..connections {
        let client = TcpStream::connect(address).unwrap();
        drop(listener.accept().unwrap());
        drop(client);
    }
    running.handle.heartbeat();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_enough() {
        assert!(Instant::now() < deadline, "not enough was seen");
        thread::sleep(Duration::from_millis(5));
    }
    running.handle.stop(Stop::ForGood);
    running.join().expect("the pipeline did not panic")
}

fn transitions(lines: &[Line]) -> usize {
    lines.iter().filter(|line| matches!(line, Line::Transition(_))).count()
}

#[test]
fn an_outlet_beside_stdout_gets_every_kind_of_line_and_the_end_of_the_run() {
    let seen = Seen::default();
    let (outcome, lines) = run(20, &seen, usize::MAX);
    println!("{}", outcome.tally);
    assert!(transitions(&lines) >= 80, "{} transitions of 20 clients", transitions(&lines));
    assert_eq!(seen.count("transition"), transitions(&lines));
    for kind in ["start", "log", "last heartbeat", "finish"] {
        assert_eq!(seen.count(kind), 1, "{kind}");
    }
    assert!(seen.count("heartbeat") >= 1);
    assert_eq!(seen.last().as_deref(), Some("finish"));
    assert!(outcome.end.is_success() && outcome.tally.lost().total() == 0);
}

#[test]
fn a_reader_that_stops_is_its_outlets_loss_and_is_told_by_its_name() {
    let seen = Seen::default();
    let (outcome, lines) = run(20, &seen, 5);
    println!("{}", outcome.tally);
    assert_eq!(seen.count("transition"), 5);
    // The run's own outlet has every transition, and no loss of its own.
    let all = transitions(&lines);
    assert!(all >= 80, "{all} transitions of 20 clients");
    assert_eq!(outcome.tally.lost().total(), 0);
    let told: Vec<u64> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Lost(lost) => lost.tcpstates.lost.by_outlet.get("recorder").copied(),
            _ => None,
        })
        .collect();
    assert_eq!(told.last(), Some(&(all as u64 - 5)), "{told:?}");
    let Some(Line::Heartbeat(heartbeat)) = lines.last() else { panic!("the run ends in a heartbeat") };
    let HeartbeatAttributes { lost_by_outlet, totals, .. } = &heartbeat.tcpstates;
    assert_eq!(lost_by_outlet["recorder"], all as u64 - 5);
    assert_eq!((totals.lost, totals.written), (0, all as u64));
    assert_eq!(seen.count("lost"), told.len());
}

#[test]
fn an_outlet_beside_stdout_gets_connections_and_what_is_open() {
    let seen = Seen::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let open = TcpStream::connect(to).unwrap();
    let snapshots = Snapshots { every_ns: HOUR, states: OpenStates::ANY, min_age_ns: 0, limit: 100 };
    // Of every port: what is open are the listener here and both ends of its connection, beside those of others.
    let plan = |_| {
        let filter = TraceFilter { mode: Mode::Connections, ..TraceFilter::default() };
        Plan::of_command_line(filter, (Outcomes::ANY, 0), IdScope::default(), Some(snapshots))
    };
    let outlets = Outlets::new(Box::new(recorder_of(&Seen::default(), 0)))
        .and(Box::new(recorder_of(&seen, usize::MAX)));
    let outcome =
        run_with(outlets, plan, 20, || seen.count("snapshot") > 0 && seen.count("connection") >= 20);
    println!("{}", outcome.tally);
    drop((open, listener));
    assert!(seen.count("socket") >= 2 && seen.count("listener") >= 1);
    assert_eq!((seen.count("snapshot"), seen.count("last heartbeat"), seen.count("transition")), (1, 1, 0));
}

#[test]
fn an_outlet_beside_one_that_is_stuck_gets_each_line_once() {
    let seen = Seen::default();
    let outlets = Outlets::new(Box::new(Looked(Stuck))).and(Box::new(recorder_of(&seen, usize::MAX)));
    let outcome = run_with(outlets, |port| plan(Mode::Summary, port), 20, || seen.count("heartbeat") > 0);
    println!("{}", outcome.tally);
    for kind in ["start", "summary", "last heartbeat", "finish"] {
        assert_eq!(seen.count(kind), 1, "{kind}");
    }
    assert_eq!(seen.last().as_deref(), Some("finish"));
    assert_eq!(outcome.tally.totals().summarised, 20);
}
