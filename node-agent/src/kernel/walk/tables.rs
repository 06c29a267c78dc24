//! The hash tables of TCP sockets, and which of their chains hold something.

use std::collections::BTreeSet;

use kube_tcpstates_common::walk::{COPIED, end};

use super::{
    Walker,
    layout::{Listeners, TablesLayout},
};
use crate::kernel::error::BoxError;

/// `INET_LHTABLE_SIZE`, of `listening_hash`.
const INSIDE_BUCKETS: u32 = 32;
/// `LISTENING_NULLS_BASE`, `include/net/inet_hashtables.h`.
const LISTENING_MARK: u32 = 1 << 29;
/// More buckets than any kernel makes: what is above is no table.
const MOST_BUCKETS: u32 = 1 << 26;

/// A hash table of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Table {
    /// Address of the head of bucket 0.
    pub(super) base: u64,
    /// Bytes from one head to the next.
    pub(super) stride: u32,
    pub(super) buckets: u32,
    /// What the mark at a chain's end says of bucket 0.
    pub(super) mark: u32,
    /// A socket's hash under this mask is its bucket; 0 where it does not depend on its hash.
    pub(super) mask: u32,
}

impl Walker<'_> {
    /// Every table there is: listeners' first. Namespaces share them unless they were given one of their own.
    pub(super) fn tables(&mut self) -> Result<Vec<Table>, BoxError> {
        let mut addresses = BTreeSet::new();
        self.ring("walk_namespaces", |shared| addresses.extend(shared.take_told::<u64>()))?;
        let layout = self.layout.tables;
        let (mut listeners, mut connections) = (BTreeSet::new(), BTreeSet::new());
        for address in addresses {
            // A namespace's own table goes with it.
            let Some(memory) = self.memory(address, layout.size)? else { continue };
            listeners.extend(listening(&layout, address, &memory));
            connections.extend(connected(&layout, &memory));
        }
        Ok(listeners.into_iter().chain(connections).collect())
    }

    /// Copies kernel memory, at most [`COPIED`] bytes; `None` where there is none.
    fn memory(&mut self, address: u64, len: u32) -> Result<Option<Vec<u8>>, BoxError> {
        self.begin(|walk| (walk.cursor.base, walk.cursor.stride) = (address, len));
        let read = self.slice("walk_memory")? == end::DONE;
        let bytes: &[u8] = bytemuck::cast_slice(&self.shared.get().words);
        Ok(read.then(|| bytes[..(len as usize).min(COPIED)].to_vec()))
    }

    /// The buckets of a table whose chains are not empty.
    pub(super) fn occupied(&mut self, table: &Table) -> Result<Vec<u32>, BoxError> {
        let in_a_piece = u32::try_from(COPIED)? / table.stride;
        let mut occupied = Vec::new();
        for first in (0..table.buckets).step_by(in_a_piece as usize) {
            let buckets = in_a_piece.min(table.buckets - first);
            let from = table.base + u64::from(first) * u64::from(table.stride);
            // From the first head to the end of the last one.
            let len = (buckets - 1) * table.stride + 8;
            let Some(memory) = self.memory(from, len)? else { continue };
            occupied.extend(
                (0..buckets)
                    .filter(|bucket| {
                        let head = word_at(&memory, (bucket * table.stride) as usize);
                        head.is_some_and(|head| head & 1 == 0 && head != 0)
                    })
                    .map(|bucket| first + bucket),
            );
        }
        Ok(occupied)
    }
}

fn listening(layout: &TablesLayout, address: u64, memory: &[u8]) -> Option<Table> {
    let (array, buckets) = match layout.listeners {
        Listeners::Inside { at } => (address + u64::from(at), INSIDE_BUCKETS),
        Listeners::Table { at, mask } => {
            (word_at(memory, at as usize)?, half_at(memory, mask as usize)?.checked_add(1)?)
        }
    };
    table(array, layout.bucket_head, layout.bucket_size, buckets, LISTENING_MARK, 0)
}

/// The buckets of connections are heads and nothing else.
fn connected(layout: &TablesLayout, memory: &[u8]) -> Option<Table> {
    let mask = half_at(memory, layout.connections_mask as usize)?;
    table(word_at(memory, layout.connections as usize)?, 0, 8, mask.checked_add(1)?, 0, mask)
}

fn table(array: u64, head: u32, stride: u32, buckets: u32, mark: u32, mask: u32) -> Option<Table> {
    let is_one = array != 0 && buckets.is_power_of_two() && buckets <= MOST_BUCKETS;
    is_one.then(|| Table { base: array + u64::from(head), stride, buckets, mark, mask })
}

fn word_at(memory: &[u8], at: usize) -> Option<u64> {
    memory.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

fn half_at(memory: &[u8], at: usize) -> Option<u32> {
    memory.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}
