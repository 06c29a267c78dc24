//! A trace that goes while its connections end: what the ring still holds is told as that trace asked, or not at all.

#![expect(clippy::unwrap_used, reason = "what a test made itself is as it made it")]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use kube_tcpstates::cgroupfs::Mount;
use kube_tcpstates::connection::ConnectionIds;
use kube_tcpstates::filter::{Mode, TraceFilter};
use kube_tcpstates::kernel::{Options, load};
use kube_tcpstates::outlet::{End, Finished, Offer, Outlet, Outlets, Totals};
use kube_tcpstates::pipeline::{self, Counting, Running, Setup, Whereabouts, task_hierarchy};
use kube_tcpstates::plan::{IdScope, Outcomes, Plan, View};
use kube_tcpstates::render::{Event, ended::Ended};
use kube_tcpstates_events::{Line, Start};
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::workload::enter::enter;

/// The trace comes and goes so often.
const CHANGES: u64 = 60;

/// Counts what it is given.
#[derive(Clone, Default)]
struct Counted {
    transitions: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
}

impl Outlet for Counted {
    fn name(&self) -> &'static str {
        "counted"
    }

    fn transition(&mut self, _: &Event<'_>) -> Offer {
        self.transitions.fetch_add(1, Ordering::Relaxed);
        Offer::Accepted
    }

    fn connection(&mut self, _: &Event<'_>, _: &Ended<'_>) -> Offer {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Offer::Accepted
    }

    fn line(&mut self, _: &Line) -> Offer {
        Offer::Accepted
    }

    fn flush(&mut self) {}

    fn totals(&self) -> Totals {
        Totals::default()
    }

    fn is_over(&self) -> bool {
        false
    }

    fn finish(self: Box<Self>, _: Duration) -> Finished {
        Finished { totals: Totals::default(), end: End::Drained }
    }
}

/// One trace of connections, or none.
fn view(netns: &Netns, is_there: bool, revision: u64) -> View {
    let mut plan = Plan::default();
    if is_there {
        let netns = [netns.inode().try_into().unwrap()].into();
        let filter = TraceFilter { mode: Mode::Connections, netns: Some(netns), ..TraceFilter::default() };
        plan = Plan::of_command_line(filter, (Outcomes::ANY, 0), IdScope::default(), None);
    }
    plan.revision = revision;
    View { plan: Arc::new(plan), roster: None, refused: 0 }
}

fn start(outlet: Counted, view: View) -> Running {
    let mount = Mount::find(None).ok();
    let tasks = mount.as_ref().and_then(task_hierarchy);
    let setup = Setup {
        kernel: load(Options { hook: None, ring_bytes: 8 << 20, want_on_cpu: false, tasks })
            .expect("loading the programs"),
        mount,
        proc_root: "/proc".into(),
        whereabouts: Whereabouts::default(),
        outlets: Outlets::new(Box::new(outlet)),
        start_line: Box::new(|_| Line::Start(Box::<Start>::default())),
        diagnostics: None,
        summary: |_| {},
        ids: ConnectionIds::new("00000000-0000-4000-8000-000000000000", [7; 16]),
        run: "00000001".to_owned(),
        identity_wait: Duration::from_secs(2),
        lines_per_second: 0,
        count: None,
        counting: Counting::Nothing,
    };
    pipeline::start(setup, Some(view), || {}).expect("starting the pipeline")
}

/// Connections that open and close, until told to end.
fn churn(end: &AtomicBool) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    while !end.load(Ordering::Relaxed) {
        let client = TcpStream::connect(to).unwrap();
        let (server, _) = listener.accept().unwrap();
        drop(client);
        drop(server);
    }
}

#[test]
fn a_trace_of_connections_that_is_taken_away_leaves_no_transitions() {
    require(&[]);
    let netns = Netns::new();
    let counted = Counted::default();
    let running = start(counted.clone(), view(&netns, true, 1));
    let end = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            enter(None, Some(netns.name())).expect("entering the namespace");
            churn(&end);
        });
        for revision in 2..2 + CHANGES {
            thread::sleep(Duration::from_millis(20));
            running.handle.view(view(&netns, revision % 2 == 1, revision));
        }
        end.store(true, Ordering::Relaxed);
    });
    let (transitions, connections) =
        (counted.transitions.load(Ordering::Relaxed), counted.connections.load(Ordering::Relaxed));
    eprintln!("{connections} connections told, {transitions} transitions");
    assert!(connections > 100, "{connections} connections: the trace was hardly ever there");
    assert_eq!(transitions, 0, "of a trace that asks for connections");
}
