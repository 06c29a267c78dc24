//! The compiled rules as the classifier looks things up in them, in user space.
//!
//! For tests, and for whatever has to judge what the kernel program judges: it is the same code over other tables.

use std::collections::HashMap;

use kube_tcpstates_common::classify::{Address, Tables};
use kube_tcpstates_common::rule::TraceSet;

use super::Compiled;

/// Compiled rules and a cgroup map.
pub struct UserTables<'a> {
    /// The rules.
    pub rules: &'a Compiled,
    /// cgroup2 id to (matched, maybe).
    pub cgroups: &'a HashMap<u64, (TraceSet, TraceSet)>,
}

/// Whether the first `prefix_len` bits are the same.
fn same_prefix(prefix_len: u8, prefix: &[u8], address: &[u8]) -> bool {
    let (bytes, bits) = (usize::from(prefix_len / 8), prefix_len % 8);
    prefix.get(..bytes) == address.get(..bytes)
        && (bits == 0
            || prefix
                .get(bytes)
                .zip(address.get(bytes))
                .is_some_and(|(a, b)| (a ^ b).leading_zeros() >= bits.into()))
}

/// What a longest-prefix map answers: one set, that of the longest prefix.
fn longest<const N: usize>(prefixes: &[(u8, [u8; N], TraceSet)], address: &[u8; 16]) -> TraceSet {
    prefixes
        .iter()
        .filter(|(prefix_len, prefix, _)| same_prefix(*prefix_len, prefix, address))
        .max_by_key(|(prefix_len, ..)| *prefix_len)
        .map_or(0, |(.., set)| *set)
}

impl Tables for UserTables<'_> {
    fn cgroup(&self, id: u64) -> Option<(TraceSet, TraceSet)> {
        self.cgroups.get(&id).copied()
    }

    fn netns(&self, inode: u32) -> TraceSet {
        self.rules
            .netns
            .binary_search_by_key(&inode, |entry| entry.0)
            .map_or(0, |index| self.rules.netns[index].1)
    }

    fn port_class(&self, peer: bool, port: u16) -> u16 {
        let classes = if peer { &self.rules.peer_classes } else { &self.rules.local_classes };
        classes.as_ref().map_or(0, |classes| classes[usize::from(port)])
    }

    fn peer_prefix(&self, family: u8, address: &Address) -> TraceSet {
        let address = bytemuck::cast_ref(address);
        if family == 6 {
            longest(&self.rules.v6_prefixes, address)
        } else {
            longest(&self.rules.v4_prefixes, address)
        }
    }
}
