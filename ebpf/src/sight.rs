//! What is known of a socket before its record: the rules, its place, and what these leave of the traces.

use core::cell::Cell;

use kube_tcpstates_common::{
    classify::{judge_identity, ports_exclude},
    rule::{RuleTable, TraceSet},
};

use crate::{
    hook::Tuple,
    lease,
    maps::{RULES, in_force},
    memory::Memory,
    place,
    tables::MapTables,
};

/// A socket under the rules in force.
pub(crate) struct Sight {
    pub(crate) rules: &'static RuleTable,
    pub(crate) tables: MapTables,
    pub(crate) generation: u32,
    pub(crate) attached_ns: u64,
    pub(crate) cgroup_id: u64,
    /// The traces that its cgroup and namespace leave, and those of them that depend on whose it is.
    pub(crate) identity: (TraceSet, TraceSet),
}

impl Sight {
    #[inline(always)]
    pub(crate) fn of<M: Memory>(socket: *const u8) -> Option<Self> {
        let (generation, attached_ns) = in_force()?;
        let half = generation & 1;
        let rules = RULES.get(half | lease::is_over() << 1)?;
        let tables = MapTables { half, epoch: Cell::new(rules.none) };
        let cgroup_id = place::cgroup_id::<M>(socket, rules.none);
        let identity = judge_identity(&tables, rules, cgroup_id, || place::netns::<M>(socket));
        Some(Self { rules, tables, generation, attached_ns, cgroup_id, identity })
    }

    #[inline(always)]
    pub(crate) fn is_nobodys(&self) -> bool {
        self.identity.0 == 0
    }

    /// Most of what is filtered by a port ends here, without a record. Not a client whose port the kernel may choose among
    /// those that are asked for.
    #[inline(always)]
    pub(crate) fn ports_exclude<M: Memory>(&self, socket: *const u8, tuple: &Tuple) -> bool {
        let Self { rules, tables, identity, .. } = self;
        let ports = (tuple.local_port, tuple.peer_port);
        ports_exclude(tables, rules, identity.0, ports, || place::port_range::<M>(socket))
    }
}
