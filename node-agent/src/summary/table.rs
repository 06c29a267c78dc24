//! The summaries of one trace: what it keeps apart, and since when.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{HashMap, HashSet, hash_map::Entry},
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

    const fn place(&self) -> Option<usize> {
        match self.whose {
            Whose::Owner(place) => Some(place),
            Whose::Cgroup(_) => None,
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

impl Kept {
    fn join(&mut self, other: &Self) {
        self.from_ns = self.from_ns.min(other.from_ns);
        self.sums.join(&other.sums);
    }
}

/// What one summary says; without what they have in common it is of those that could not be kept apart.
type Row = (Option<Common>, Kept);

/// Summaries that are not told.
#[derive(Clone, Debug, Default)]
struct Rows {
    apart: HashMap<Common, Kept>,
    /// All that could not be kept apart.
    other: Option<Kept>,
}

impl Rows {
    fn is_empty(&self) -> bool {
        self.apart.is_empty() && self.other.is_none()
    }

    fn connections(&self) -> u64 {
        self.apart.values().chain(&self.other).map(|kept| kept.sums.connections).sum()
    }

    /// Keeps it apart if `room` allows, or if there is one like it.
    fn add(&mut self, common: Option<Common>, kept: Kept, room: usize) {
        let has_room = self.apart.len() < room;
        let like = match common.map(|common| self.apart.entry(common)) {
            Some(Entry::Occupied(entry)) => entry.into_mut(),
            Some(Entry::Vacant(entry)) if has_room => {
                entry.insert(kept);
                return;
            }
            _ => match &mut self.other {
                Some(other) => other,
                none => {
                    *none = Some(Kept { owner: None, peer: None, ..kept });
                    return;
                }
            },
        };
        like.join(&kept);
    }

    fn with(mut self, more: &[Row]) -> Self {
        for (common, kept) in more {
            self.add(*common, kept.clone(), usize::MAX);
        }
        self
    }

    /// The oldest first, and of the same age the most.
    fn sorted(self) -> Vec<Row> {
        let mut all: Vec<Row> = self.apart.into_iter().map(|(common, kept)| (Some(common), kept)).collect();
        all.extend(self.other.map(|other| (None, other)));
        all.sort_by_key(|(common, kept)| (common.is_none(), kept.from_ns, Reverse(kept.sums.connections)));
        all
    }
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
    /// What no outlet was offered yet.
    fresh: Rows,
    /// What each outlet was offered and had no room for, by its place.
    owed: Vec<Rows>,
    /// Places of owners. A number is of one time, as an owner gets another when the view changes; names are for good.
    by_number: QuickMap<u64, usize>,
    by_name: HashMap<Owner, usize>,
    /// The next place, and how many owners are only those of what is owed.
    next_place: usize,
    owing: usize,
}

impl Table {
    /// One whose first interval begins now, told to so many outlets.
    pub fn new(interval_ns: u64, now_ns: u64, outlets: usize) -> Self {
        Self {
            interval_ns: interval_ns.max(1),
            from_ns: now_ns,
            due_ns: now_ns.saturating_add(interval_ns.max(1)),
            fresh: Rows::default(),
            owed: vec![Rows::default(); outlets],
            by_number: QuickMap::default(),
            by_name: HashMap::new(),
            next_place: 0,
            owing: 0,
        }
    }

    /// How many it keeps apart of what came since the last time.
    pub fn len(&self) -> usize {
        self.fresh.apart.len()
    }

    /// How many it keeps apart for the outlet that it owes most.
    pub fn owed(&self) -> usize {
        self.owed.iter().map(|rows| rows.apart.len()).max().unwrap_or(0)
    }

    /// Nothing has come since the last time, and every outlet has what came before.
    pub fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.owed.iter().all(Rows::is_empty)
    }

    /// Connections that the outlet of a place has not been told.
    pub fn untold(&self, place: usize) -> u64 {
        self.fresh.connections() + self.owed.get(place).map_or(0, Rows::connections)
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
        let has_room = has_room && self.len() < MAX_OF_TRACE;
        let kept = match self.whose(seen).map(|whose| self.fresh.apart.entry(Common::of(seen, whose))) {
            Some(Entry::Occupied(entry)) => entry.into_mut(),
            Some(Entry::Vacant(entry)) if has_room => entry.insert(Kept {
                from_ns,
                sums: Sums::default(),
                owner: seen.owner.cloned(),
                peer: seen.peer.map(|peer| Peer::clone(peer)),
            }),
            _ => self.fresh.other.get_or_insert_with(|| Kept {
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
        let place = match self.by_name.get(&**owner) {
            Some(place) => *place,
            None if self.by_name.len() >= MAX_OF_TRACE + self.owing => return None,
            None => {
                let next = self.next_place;
                self.next_place += 1;
                *self.by_name.entry(Owner::clone(owner)).or_insert(next)
            }
        };
        if self.by_number.len() >= 2 * MAX_OF_TRACE {
            self.by_number.clear();
        }
        self.by_number.insert(owner.number(), place);
        Some(Whose::Owner(place))
    }

    /// Offers everything to each outlet that was not told it, by its place, the run's own last: the oldest first, and of
    /// the same age the most. What one does not take is owed to it alone, with all that follows it, and comes to it with
    /// the next interval; of that, `room` is kept apart. The next interval begins.
    pub fn tell(
        &mut self,
        now_ns: u64,
        room: usize,
        mut take: impl FnMut(usize, Option<&Common>, &Kept, Period) -> bool,
    ) {
        let period = Period { to_ns: now_ns, interval_ns: self.interval_ns };
        let fresh = std::mem::take(&mut self.fresh).sorted();
        let room = room.min(MAX_OF_TRACE);
        for (place, owed) in self.owed.iter_mut().enumerate().rev() {
            let rows = if owed.is_empty() {
                Cow::Borrowed(&fresh)
            } else {
                Cow::Owned(std::mem::take(owed).with(&fresh).sorted())
            };
            let is_taken = |(common, kept): &&Row| take(place, common.as_ref(), kept, period);
            let taken = rows.iter().take_while(is_taken).count();
            if taken < rows.len() {
                rows.into_owned()
                    .into_iter()
                    .skip(taken)
                    .for_each(|(common, kept)| owed.add(common, kept, room));
            }
        }
        if !fresh.is_empty() || self.is_empty() {
            self.forget_owners();
        }
        self.turn(now_ns);
        self.from_ns = now_ns;
    }

    /// The outlet of a place will not be told what it was offered in vain. Returns how many connections.
    pub fn give_up(&mut self, place: usize) -> u64 {
        self.owed.get_mut(place).map_or(0, |rows| std::mem::take(rows).connections())
    }

    /// Of the owners those stay whose connections are owed.
    fn forget_owners(&mut self) {
        let owing: HashSet<usize> =
            self.owed.iter().flat_map(|rows| rows.apart.keys()).filter_map(Common::place).collect();
        self.by_number.clear();
        self.by_name.retain(|_, place| owing.contains(place));
        self.owing = self.by_name.len();
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
