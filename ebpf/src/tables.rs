//! The filter's tables as maps.

use core::cell::Cell;

use kube_tcpstates_common::{
    classify::{Address, Tables, half_sets},
    rule::{PORTS, TraceSet, port_table_index, prefix_traces},
    verifier::masked,
};

use crate::maps::{
    CGROUP_SETS, NETNS_SETS, PORT_CLASSES, PREFIXES_V4_A, PREFIXES_V4_B, PREFIXES_V6_A, PREFIXES_V6_B,
    prefix_key,
};

/// One half of every table.
pub(crate) struct MapTables {
    pub(crate) half: u32,
    /// Of the cgroup's entry that was looked up, 0 where there was none.
    pub(crate) epoch: Cell<u64>,
}

impl Tables for MapTables {
    #[inline(always)]
    fn cgroup(&self, id: u64) -> Option<(TraceSet, TraceSet)> {
        // SAFETY: user space only ever writes a whole entry, and never a set that is in use.
        unsafe { CGROUP_SETS.get(id) }.map(|entry| {
            self.epoch.set(entry.epoch);
            half_sets(&entry.sets, self.half)
        })
    }

    #[inline(always)]
    fn netns(&self, inode: u32) -> TraceSet {
        // SAFETY: user space writes entries of the idle half only.
        unsafe { NETNS_SETS.get([inode, self.half]) }.copied().unwrap_or(0)
    }

    #[inline(always)]
    fn port_class(&self, peer: bool, port: u16) -> u16 {
        PORT_CLASSES
            .get(port_table_index(self.half, peer))
            .map_or(0, |classes| classes[masked::<{ PORTS - 1 }>(port.into())])
    }

    #[inline(always)]
    fn peer_prefix(&self, family: u8, address: &Address) -> TraceSet {
        let set = if family == 4 {
            let key = prefix_key(address[0].to_ne_bytes());
            if self.half == 0 { PREFIXES_V4_A.get(&key) } else { PREFIXES_V4_B.get(&key) }
        } else {
            let key = prefix_key(bytes(*address));
            if self.half == 0 { PREFIXES_V6_A.get(&key) } else { PREFIXES_V6_B.get(&key) }
        };
        set.map_or(0, |set| prefix_traces(*set))
    }
}

#[inline(always)]
fn bytes(address: Address) -> [u8; 16] {
    // SAFETY: sixteen bytes either way.
    unsafe { core::mem::transmute::<Address, [u8; 16]>(address) }
}
