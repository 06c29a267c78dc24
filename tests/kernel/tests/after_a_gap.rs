//! What an agent finds pinned when it comes back to other traces, or with another hook.

#![expect(clippy::unwrap_used, reason = "what a test made itself is as it made it")]

mod pipelines;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use kube_tcpstates::filter::{Mode, TraceFilter};
use kube_tcpstates::outlet::Offer;
use kube_tcpstates::pipeline::{RunResult, Running, Stop};
use kube_tcpstates::plan::{IdScope, Outcomes, Plan, View};
use kube_tcpstates_events::Hook;
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::pinned::BpfFs;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::workload::enter::enter;

use pipelines::{Looked, Looks, start_pinned};

/// Connections in the gap.
const CONNECTIONS: u64 = 50;

/// Counts lines of events.
#[derive(Clone, Default)]
struct Told(Arc<AtomicU64>);

impl Looks for Told {
    fn transition(&mut self) -> Offer {
        self.0.fetch_add(1, Ordering::Relaxed);
        Offer::Accepted
    }

    fn connection(&mut self) -> Offer {
        self.transition()
    }
}

fn of(mut plan: Plan, revision: u64) -> View {
    plan.revision = revision;
    View { plan: Arc::new(plan), roster: None, refused: 0 }
}

/// One trace of connections.
fn trace(netns: &Netns) -> View {
    let netns = [netns.inode().try_into().unwrap()].into();
    let filter = TraceFilter { mode: Mode::Connections, netns: Some(netns), ..TraceFilter::default() };
    of(Plan::of_command_line(filter, (Outcomes::ANY, 0), IdScope::default(), None), 1)
}

/// An agent with one trace ends, and clients connect.
fn gap(netns: &Netns, bpf: &BpfFs) {
    let running = start_pinned(Looked(Told::default()), trace(netns), Hook::TpBtf, &bpf.place());
    end(running, Stop::AnotherGoesOn);
    thread::scope(|scope| {
        scope.spawn(|| {
            enter(None, Some(netns.name())).expect("entering the namespace");
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            for _ in 0..CONNECTIONS {
                let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (server, _) = listener.accept().unwrap();
                drop(client);
                drop(server);
            }
        });
    });
}

fn end(running: Running, how: Stop) -> RunResult {
    running.handle.stop(how);
    running.join().expect("it ran to its end")
}

#[test]
fn what_was_captured_for_a_trace_that_was_deleted_meanwhile_is_counted_and_not_told() {
    require(&[]);
    let (netns, bpf, told) = (Netns::new(), BpfFs::mount(), Told::default());
    gap(&netns, &bpf);
    let running = start_pinned(Looked(told.clone()), of(Plan::default(), 2), Hook::TpBtf, &bpf.place());
    let tally = end(running, Stop::ForGood).tally;
    assert_eq!(told.0.load(Ordering::Relaxed), 0);
    assert!(tally.filtered_user >= 2 * CONNECTIONS, "{tally}");
    assert_eq!(bpf.sets(), 0);
}

#[test]
fn the_programs_of_another_hook_are_ended_and_what_they_saw_is_told() {
    require(&[]);
    let (netns, bpf, told) = (Netns::new(), BpfFs::mount(), Told::default());
    gap(&netns, &bpf);
    let running = start_pinned(Looked(told.clone()), trace(&netns), Hook::RawTp, &bpf.place());
    assert_eq!(bpf.sets(), 1, "a set of its own, and no other");
    let tally = end(running, Stop::ForGood).tally;
    assert_eq!(told.0.load(Ordering::Relaxed), 2 * CONNECTIONS, "{tally}");
    assert_eq!(bpf.sets(), 0);
}
