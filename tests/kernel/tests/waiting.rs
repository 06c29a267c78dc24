//! Transitions that wait in their sockets' records wait no longer than somebody may want them.

use std::net::Ipv4Addr;

use kube_tcpstates::{
    filter::{PortRange, TraceFilter, compile},
    kernel::{Loaded, Options, load},
};
use kube_tcpstates_common::counter::Counter;
use kube_tcpstates_kernel_tests::{netns::Netns, place::Place, puppet::Puppet, requirements::require};

/// A connect that waits for the other end's answer, and under rules that ask for ports for a port of its own, must not
/// be counted as waiting for ever when those rules are gone.
#[test]
fn what_waits_for_a_port_is_settled_under_rules_that_ask_for_none() {
    require(&[]);
    let mut kernel = load(Options { hook: None, ring_bytes: 8 << 20, want_on_cpu: false, tasks: None }, None)
        .expect("loading the programs");
    let namespace = Netns::new();
    let mut puppet = Puppet::start(&Place::default().netns(&namespace));
    let here = TraceFilter {
        netns: Some([u32::try_from(namespace.inode()).unwrap()].into()),
        local_ports: vec![PortRange::new(1_024, u16::MAX).unwrap()],
        ..TraceFilter::default()
    };
    let elsewhere = TraceFilter { netns: Some([1].into()), ..TraceFilter::default() };
    kernel.rules.swap(&compile([(0, &here)]).unwrap()).unwrap();
    kernel.attach().expect("attaching");
    let pending = |kernel: &Loaded| kernel.counters.snapshot().get(Counter::Pending);
    let listener = puppet.listen("listener", (Ipv4Addr::LOCALHOST, 0).into());
    // Nobody accepts: when the queue is full, a SYN has no answer.
    let mut waiting = 0;
    while pending(&kernel) == 0 {
        assert!(waiting < 8_192, "every connect has an answer");
        puppet.begin_connect(&format!("client {waiting}"), listener);
        waiting += 1;
    }
    for _ in 0..3 {
        kernel.rules.some_wait(pending(&kernel) != 0);
        kernel.rules.swap(&compile([(0, &elsewhere)]).unwrap()).unwrap();
    }
    for client in 0..waiting {
        puppet.close(&format!("client {client}"));
    }
    assert_eq!(pending(&kernel), 0);
    // Nor when nobody has watched for a while.
    kernel.rules.swap(&compile([(0, &here)]).unwrap()).unwrap();
    puppet.begin_connect("last", listener);
    assert_eq!(pending(&kernel), 1);
    kernel.detach();
    kernel.attach().expect("attaching again");
    assert_eq!(pending(&kernel), 0);
}
