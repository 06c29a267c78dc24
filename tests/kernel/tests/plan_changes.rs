//! A trace that goes while its connections end: what the ring still holds is told as that trace asked, or not at all.

#![expect(clippy::unwrap_used, reason = "what a test made itself is as it made it")]

mod pipelines;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use kube_tcpstates::cgroupfs::Mount;
use kube_tcpstates::filter::{Mode, TraceFilter};
use kube_tcpstates::outlet::Offer;
use kube_tcpstates::pipeline::Counting;
use kube_tcpstates::plan::{IdScope, Outcomes, Plan, View};
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::workload::enter::enter;

use pipelines::{Looked, Looks, start};

/// The trace comes and goes so often.
const CHANGES: u64 = 60;

/// Counts what it is given.
#[derive(Clone, Default)]
struct Counted {
    transitions: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
}

impl Looks for Counted {
    fn transition(&mut self) -> Offer {
        self.transitions.fetch_add(1, Ordering::Relaxed);
        Offer::Accepted
    }

    fn connection(&mut self) -> Offer {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Offer::Accepted
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
    let running =
        start(Looked(counted.clone()), Mount::find(None).ok(), view(&netns, true, 1), Counting::Nothing);
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
