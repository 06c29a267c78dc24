//! The summaries of one trace: what it keeps apart, and since when.

use std::{
    cmp::Reverse,
    collections::{HashMap, hash_map::Entry},
    hash::{Hash, Hasher},
    net::IpAddr,
    sync::Arc,
};

use kube_tcpstates_events::{Attribution, NetworkType, Role};

use super::{MAX_OF_TRACE, sums::Sums};
use crate::{
    connection::Story,
    decode::Transition,
    names::{Numbered, Owner, Peer, QuickMap},
};

/// A connection that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The transition that ends it.
    pub transition: &'a Transition,
    /// What it was.
    pub story: &'a Story,
    /// How its owner was found.
    pub attribution: Attribution,
    /// Its owner, with the labels that the trace asks for.
    pub owner: Option<&'a Arc<Numbered<Owner>>>,
    /// Who the other end is, where the trace asks for it and it is known.
    pub peer: Option<&'a Numbered<Peer>>,
}

/// Whose connections are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// An owner, by its place in the table.
    Owner(usize),
    /// Nobody's that is known; the cgroup that made the sockets, where that is known.
    Cgroup(Option<u64>),
}

/// What the connections of one summary have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Common {
    /// Whose they are.
    pub whose: Whose,
    /// How that was found.
    pub attribution: Attribution,
    /// Address family.
    pub family: NetworkType,
    /// The other end.
    pub peer: Option<IpAddr>,
    /// Of link-local addresses.
    pub interface: Option<u32>,
    /// The server's port: of a client the other end's, of a server its own; 0 where the side is not known, as one of the
    /// two is another for each connection.
    pub port: u16,
    /// The side.
    pub role: Option<Role>,
    /// Number of who the other end is.
    peer_number: u64,
}

/// Of what tells most of them apart, in few pieces: it is done for every connection. Keyed all the same, as tenants choose
/// addresses.
impl Hash for Common {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(match self.whose {
            Whose::Owner(place) => place as u64,
            Whose::Cgroup(id) => !id.unwrap_or(0),
        });
        state.write_u16(self.port);
        match self.peer {
            Some(IpAddr::V4(address)) => state.write_u32(address.to_bits()),
            Some(IpAddr::V6(address)) => state.write_u128(address.to_bits()),
            None => {}
        }
    }
}

impl Common {
    fn of(seen: &Seen<'_>, whose: Whose) -> Self {
        let transition = seen.transition;
        let port = match transition.role {
            Some(Role::Client) => transition.peer.map_or(0, |peer| peer.port),
            Some(Role::Server) => transition.local.port,
            None => 0,
        };
        Self {
            whose,
            attribution: seen.attribution,
            family: transition.family,
            peer: transition.peer.map(|peer| peer.address).filter(|address| !address.is_unspecified()),
            interface: transition.interface,
            port,
            role: transition.role,
            peer_number: seen.peer.map_or(0, Numbered::number),
        }
    }
}

/// What has come together of connections that have much in common.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Since when; `CLOCK_BOOTTIME`, ns.
    pub from_ns: u64,
    /// What they add up to.
    pub sums: Sums,
    /// Their owner.
    pub owner: Option<Arc<Numbered<Owner>>>,
    /// Who the other end is.
    pub peer: Option<Peer>,
}

/// An interval that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Its end; `CLOCK_BOOTTIME`, ns.
    pub to_ns: u64,
    /// How long it was to be, ns.
    pub interval_ns: u64,
}

/// The summaries of one trace.
#[derive(Debug)]
pub struct Table {
    interval_ns: u64,
    /// Since when what comes is new, and when it is to be told; `CLOCK_BOOTTIME`, ns.
    from_ns: u64,
    due_ns: u64,
    kept: HashMap<Common, Kept>,
    /// All that could not be kept apart.
    other: Option<Kept>,
    /// Places of owners. A number is of one time, as an owner gets another when the view changes; names are for good.
    by_number: QuickMap<u64, usize>,
    by_name: HashMap<Owner, usize>,
}

impl Table {
    /// One whose first interval begins now.
    pub fn new(interval_ns: u64, now_ns: u64) -> Self {
        Self {
            interval_ns: interval_ns.max(1),
            from_ns: now_ns,
            due_ns: now_ns.saturating_add(interval_ns.max(1)),
            kept: HashMap::new(),
            other: None,
            by_number: QuickMap::default(),
            by_name: HashMap::new(),
        }
    }

    /// How many it keeps apart.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Nothing has come since the last time.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.other.is_none()
    }

    /// Connections that have not been told.
    pub fn connections(&self) -> u64 {
        self.kept.values().chain(&self.other).map(|kept| kept.sums.connections).sum()
    }

    /// When there is something to tell; `CLOCK_BOOTTIME`, ns.
    pub fn due_ns(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.due_ns)
    }

    /// Adds a connection. `now_ns` is asked when nothing has come since the last time; `has_room`: there is some, as far as
    /// other tables go.
    pub fn add(&mut self, seen: &Seen<'_>, now_ns: impl FnOnce() -> u64, has_room: bool) {
        if self.is_empty() {
            let now_ns = now_ns();
            if now_ns >= self.due_ns {
                self.turn(now_ns);
                self.from_ns = self.due_ns.saturating_sub(self.interval_ns);
            }
        }
        let from_ns = self.from_ns;
        let has_room = has_room && self.kept.len() < MAX_OF_TRACE;
        let kept = match self.whose(seen).map(|whose| self.kept.entry(Common::of(seen, whose))) {
            Some(Entry::Occupied(entry)) => entry.into_mut(),
            Some(Entry::Vacant(entry)) if has_room => entry.insert(Kept {
                from_ns,
                sums: Sums::default(),
                owner: seen.owner.cloned(),
                peer: seen.peer.map(|peer| Peer::clone(peer)),
            }),
            _ => self.other.get_or_insert_with(|| Kept {
                from_ns,
                sums: Sums::default(),
                owner: None,
                peer: None,
            }),
        };
        kept.sums.add(seen.story);
    }

    /// `None` where there is no room for another owner.
    fn whose(&mut self, seen: &Seen<'_>) -> Option<Whose> {
        let Some(owner) = seen.owner else { return Some(Whose::Cgroup(seen.transition.cgroup_id)) };
        if let Some(place) = self.by_number.get(&owner.number()) {
            return Some(Whose::Owner(*place));
        }
        let next = self.by_name.len();
        let place = match self.by_name.get(&**owner) {
            Some(place) => *place,
            None if next >= MAX_OF_TRACE => return None,
            None => *self.by_name.entry(Owner::clone(owner)).or_insert(next),
        };
        if self.by_number.len() >= 2 * MAX_OF_TRACE {
            self.by_number.clear();
        }
        self.by_number.insert(owner.number(), place);
        Some(Whose::Owner(place))
    }

    /// Gives everything away, the oldest first, and of the same age the most; what is not taken stays, with all that
    /// follows it, and comes with the next interval. The next interval begins.
    pub fn tell(&mut self, now_ns: u64, mut take: impl FnMut(Option<&Common>, &Kept, Period) -> bool) {
        let period = Period { to_ns: now_ns, interval_ns: self.interval_ns };
        let mut all: Vec<(Option<Common>, Kept)> =
            self.kept.drain().map(|(common, kept)| (Some(common), kept)).collect();
        all.extend(self.other.take().map(|other| (None, other)));
        all.sort_by_key(|(common, kept)| (common.is_none(), kept.from_ns, Reverse(kept.sums.connections)));
        let mut full = false;
        for (common, kept) in all {
            full = full || !take(common.as_ref(), &kept, period);
            match common {
                _ if !full => {}
                Some(common) => drop(self.kept.insert(common, kept)),
                None => self.other = Some(kept),
            }
        }
        if self.kept.is_empty() {
            self.by_number.clear();
            self.by_name.clear();
        }
        self.turn(now_ns);
        self.from_ns = now_ns;
    }

    /// The next end of an interval: they follow each other by the interval from the first on, however late one is told.
    fn turn(&mut self, now_ns: u64) {
        if let Some(late_ns) = now_ns.checked_sub(self.due_ns) {
            let passed = late_ns / self.interval_ns + 1;
            self.due_ns = self.due_ns.saturating_add(passed.saturating_mul(self.interval_ns));
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
