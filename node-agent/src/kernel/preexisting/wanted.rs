//! Whether a trace may want a socket, asked of the tables that the program itself asks.

use std::collections::HashMap;

use aya::maps::MapError;
use kube_tcpstates_common::{
    classify::{Address, Tables, half_sets, judge_identity},
    rule::{RuleTable, TraceSet},
    walk::OpenSocket,
};

use crate::kernel::rules::Rules;

/// The half of the tables in force, with what was asked of it before.
pub(super) struct Wanted<'a> {
    rules: &'a Rules,
    half: u32,
    table: Box<RuleTable>,
    /// By cgroup and network namespace.
    judged: HashMap<(u64, u32), bool>,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(rules: &'a Rules) -> Result<Self, MapError> {
        let half = rules.generation() & 1;
        let table = Box::new(rules.tables.get(&half, 0)?.0);
        Ok(Self { rules, half, table, judged: HashMap::new() })
    }

    /// Whether some trace wants it, or may once its cgroup is known.
    pub(super) fn may_be(&mut self, socket: &OpenSocket) -> bool {
        let key = (socket.cgroup_id, socket.netns);
        if let Some(judged) = self.judged.get(&key) {
            return *judged;
        }
        let identity = Identity { rules: self.rules, half: self.half };
        let may_be = judge_identity(&identity, &self.table, socket.cgroup_id, || socket.netns).0 != 0;
        self.judged.insert(key, may_be);
        may_be
    }
}

/// The tables that an identity is judged by; no port or prefix is looked at.
struct Identity<'a> {
    rules: &'a Rules,
    half: u32,
}

impl Tables for Identity<'_> {
    fn cgroup(&self, id: u64) -> Option<(TraceSet, TraceSet)> {
        self.rules.cgroups.get(&id, 0).ok().map(|entry| half_sets(&entry.0.sets, self.half))
    }

    fn netns(&self, inode: u32) -> TraceSet {
        self.rules.netns.get(&[inode, self.half], 0).unwrap_or(0)
    }

    fn port_class(&self, _: bool, _: u16) -> u16 {
        0
    }

    fn peer_prefix(&self, _: u8, _: &Address) -> TraceSet {
        TraceSet::MAX
    }
}
