//! `bench traces`: our programs with many traces at once, each of which takes every transition. Until it is
//! interrupted.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube_tcpstates::filter::{
    CgroupChoice, Cidr, Mode, PortRange, StateSet, TraceFilter, TransitionFilter, compile,
};
use kube_tcpstates::kernel::{self, EventRing, Loaded, Options};
use kube_tcpstates_common::rule::CgroupSets;
use kube_tcpstates_common::state::State;

/// Between two looks into the ring, as the agent's reader rests.
const REST: Duration = Duration::from_millis(3);

/// The agent's default.
pub const RING_BYTES: u32 = 8 << 20;

/// Attaches with `count` traces and empties the ring for ever. `cgroup` is the id of the load's.
pub fn run(count: usize, constrained: bool, cgroup: u64) -> Result<()> {
    let (_kernel, mut events) = attach(count, constrained, cgroup)?;
    loop {
        if events.drain(|_, _| {}) == 0 {
            thread::sleep(REST);
        }
    }
}

/// Our programs, attached, with their ring, and as many traces of a cgroup.
pub fn attach(count: usize, constrained: bool, cgroup: u64) -> Result<(Loaded, EventRing)> {
    attach_with(&(0..count).map(|number| filter(number, constrained)).collect::<Result<Vec<_>>>()?, cgroup)
}

/// The same with one trace of a mode, which constrains nothing.
pub fn attach_to_all(mode: Mode, cgroup: u64) -> Result<(Loaded, EventRing)> {
    attach_with(&[TraceFilter { mode, ..TraceFilter::default() }], cgroup)
}

fn attach_with(filters: &[TraceFilter], cgroup: u64) -> Result<(Loaded, EventRing)> {
    let mut kernel =
        kernel::load(Options { hook: None, ring_bytes: RING_BYTES, want_on_cpu: false, tasks: None }, None)?;
    kernel.rules.swap(&compile(filters.iter().enumerate())?)?;
    let matched = [u64::MAX >> (64 - filters.len().clamp(1, 64)); 2];
    kernel.rules.set_cgroup(cgroup, CgroupSets { matched, maybe: [0; 2], inherited: 0 })?;
    kernel.attach()?;
    let events = kernel.rings.take().context("the rings are in use")?.events;
    Ok((kernel, events))
}

/// Wide enough for all of the load's connections, and another for each number so that the tables fill.
fn filter(number: usize, constrained: bool) -> Result<TraceFilter> {
    if !constrained {
        return Ok(TraceFilter::default());
    }
    let number = u8::try_from(number % 64)?;
    let ports = vec![PortRange::new(1 + u16::from(number), u16::MAX)?];
    let leaves = [State::CLOSE, State::SYN_SENT, State::ESTABLISHED, State::SYN_RECV, State::FIN_WAIT1];
    let leaves =
        leaves.into_iter().chain([State::FIN_WAIT2, State::CLOSE_WAIT, State::LAST_ACK, State::LISTEN]);
    Ok(TraceFilter {
        cgroups: CgroupChoice::Selected,
        family: Some(kube_tcpstates::decode::NetworkType::Ipv4),
        local_ports: ports.clone(),
        peer_ports: ports,
        peer_cidrs: vec![Cidr::new([127, 0, 0, 0].into(), 8)?, Cidr::new([10, number, 0, 0].into(), 16)?],
        transitions: vec![TransitionFilter::new(StateSet::of(leaves)?, StateSet::ANY)?],
        ..TraceFilter::default()
    })
}
