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
    let base = array.checked_add(layout.bucket_head.into())?;
    let table = Table { base, stride: layout.bucket_size, buckets, mark: LISTENING_MARK, mask: 0 };
    (array != 0).then_some(table).filter(Table::is_one)
}

/// The buckets of connections are heads and nothing else.
fn connected(layout: &TablesLayout, memory: &[u8]) -> Option<Table> {
    let base = word_at(memory, layout.connections as usize)?;
    let mask = half_at(memory, layout.connections_mask as usize)?;
    let table = Table { base, stride: 8, buckets: mask.checked_add(1)?, mark: 0, mask };
    (base != 0).then_some(table).filter(Table::is_one)
}

impl Table {
    /// Memory that is another's by now says all kinds of things.
    fn is_one(&self) -> bool {
        self.buckets.is_power_of_two() && self.buckets <= MOST_BUCKETS
    }
}

fn word_at(memory: &[u8], at: usize) -> Option<u64> {
    memory.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

fn half_at(memory: &[u8], at: usize) -> Option<u32> {
    memory.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: TablesLayout = TablesLayout {
        size: 32,
        connections: 0,
        connections_mask: 8,
        listeners: Listeners::Table { at: 16, mask: 24 },
        bucket_size: 16,
        bucket_head: 8,
    };

    fn memory(connections: u64, connections_mask: u32, listeners: u64, listeners_mask: u32) -> Vec<u8> {
        let words = [connections, connections_mask.into(), listeners, listeners_mask.into()];
        words.into_iter().flat_map(u64::to_ne_bytes).collect()
    }

    #[test]
    fn both_tables_are_read_from_their_description() {
        let memory = memory(0x1000, 7, 0x2000, 3);
        let connections = Table { base: 0x1000, stride: 8, buckets: 8, mark: 0, mask: 7 };
        assert_eq!(connected(&LAYOUT, &memory), Some(connections));
        let listeners = Table { base: 0x2008, stride: 16, buckets: 4, mark: LISTENING_MARK, mask: 0 };
        assert_eq!(listening(&LAYOUT, 0x9000, &memory), Some(listeners));
    }

    #[test]
    fn before_5_19_listeners_are_in_the_description_itself() {
        let layout = TablesLayout { listeners: Listeners::Inside { at: 64 }, ..LAYOUT };
        let listeners = Table { base: 0x9048, stride: 16, buckets: 32, mark: LISTENING_MARK, mask: 0 };
        assert_eq!(listening(&layout, 0x9000, &[]), Some(listeners));
    }

    #[test]
    fn what_is_no_description_has_no_tables() {
        for (address, mask) in [(0, 7), (0x1000, 6), (0x1000, u32::MAX), (0x1000, (1 << 27) - 1)] {
            let memory = memory(address, mask, address, mask);
            assert_eq!((connected(&LAYOUT, &memory), listening(&LAYOUT, 1, &memory)), (None, None));
        }
        assert_eq!(connected(&LAYOUT, &[0; 4]), None);
    }
}
