//! How many traces are looked at. Whoever may make traces can make many, and none of them may take the memory of every
//! agent. Agents and operator refuse the same ones.

use std::collections::HashMap;

/// Traces, of both kinds.
pub const MOST: usize = 4_096;
/// Bytes of the specs of one namespace. A usual spec has some hundred.
pub const MOST_BYTES_OF_ONE: usize = 1024 * 1024;
/// Bytes of all specs.
pub const MOST_BYTES: usize = 24 * 1024 * 1024;

/// A trace that asks for room.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// `None` for a `ClusterTcpStateTrace`.
    pub namespace: Option<&'a str>,
    /// `metadata.name`.
    pub name: &'a str,
    /// `metadata.creationTimestamp`, s since the Unix epoch.
    pub created_s: i64,
    /// Bytes of its spec.
    pub bytes: usize,
}

/// What has room so far.
#[derive(Default)]
struct Room {
    traces: usize,
    bytes: usize,
}

/// Places, in the order given, of those for which there is no room: the youngest of the namespaces that have most. The order
/// is that in which they get slots, so a namespace with thousands keeps out its own.
pub fn without_room<'a>(candidates: impl Iterator<Item = Candidate<'a>>) -> Vec<usize> {
    let mut candidates: Vec<_> = candidates.enumerate().collect();
    let bytes: usize = candidates.iter().map(|(_, candidate)| candidate.bytes).sum();
    // Most clusters have a few.
    if candidates.len() <= MOST && bytes <= MOST_BYTES_OF_ONE {
        return Vec::new();
    }
    candidates.sort_by_key(|(_, of)| (of.created_s, of.namespace, of.name));
    let mut refused = Vec::new();
    let mut own: HashMap<&str, Room> = HashMap::new();
    let mut ranked = Vec::with_capacity(candidates.len());
    for (place, candidate) in candidates {
        let Some(namespace) = candidate.namespace else {
            ranked.push((0, place, candidate.bytes));
            continue;
        };
        let room = own.entry(namespace).or_default();
        room.traces += 1;
        if room.bytes + candidate.bytes > MOST_BYTES_OF_ONE {
            refused.push(place);
            // Nothing of it is kept, but it stands before the younger ones all the same.
            ranked.push((room.traces, place, 0));
        } else {
            room.bytes += candidate.bytes;
            ranked.push((room.traces, place, candidate.bytes));
        }
    }
    ranked.sort_by_key(|(rank, ..)| *rank);
    let mut all = Room::default();
    for (_, place, bytes) in ranked {
        all.traces += 1;
        if all.traces > MOST || all.bytes + bytes > MOST_BYTES {
            refused.push(place);
        } else {
            all.bytes += bytes;
        }
    }
    refused
}
