//! Who has an address, from when to when.

use std::sync::Arc;

use crate::names::{PodName, ServiceName};

/// The end of what lasts.
const STILL: u64 = u64::MAX;

/// Somebody who has an address.
#[derive(Clone, Debug)]
pub(super) enum Holder {
    /// A Service.
    Service(Arc<ServiceName>),
    /// A pod, with the Service that a slice of it says it is behind.
    Pod(Arc<PodName>, Option<Arc<ServiceName>>),
}

impl Holder {
    /// Whether it is the same by all that this tells.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Service(one), Self::Service(other)) => one == other,
            (Self::Pod(one, service), Self::Pod(other, its_service)) => {
                one.uid == other.uid && service == its_service
            }
            _ => false,
        }
    }

    /// Whether it is the same Service or the same pod, whatever that is behind.
    fn is_one_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pod(one, _), Self::Pod(other, _)) => one.uid == other.uid,
            (one, other) => one.is_same(other),
        }
    }
}

/// That somebody has an address, as one object tells it. Times are `CLOCK_BOOTTIME`, ns.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    pub(super) holder: Holder,
    /// At these ports; empty is all.
    pub(super) ports: Arc<[u16]>,
    /// Number of the object that tells it.
    teller: u32,
    /// The telling of which it was last a part.
    telling: u32,
    since_ns: u64,
    until_ns: u64,
}

impl Holding {
    /// Whether it was so then.
    pub(super) const fn was(&self, at_ns: u64) -> bool {
        self.since_ns <= at_ns && at_ns < self.until_ns
    }

    pub(super) const fn lasts(&self) -> bool {
        self.until_ns == STILL
    }

    /// It is at every port, or at this one.
    pub(super) fn is_at(&self, port: u16) -> bool {
        self.ports.is_empty() || self.names_port(port)
    }

    /// The Service that the pod is behind.
    pub(super) fn behind(&self) -> Option<&ServiceName> {
        match &self.holder {
            Holder::Pod(_, behind) => behind.as_deref(),
            Holder::Service(_) => None,
        }
    }

    /// This is one of the ports that the object names.
    pub(super) fn names_port(&self, port: u16) -> bool {
        self.ports.contains(&port)
    }
}

/// Everybody who has an address or had it lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Holdings(Vec<Holding>);

/// Which object tells something, and in which of its tellings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Telling {
    teller: u32,
    number: u32,
}

impl Telling {
    /// The first of an object.
    pub(super) const fn first(teller: u32) -> Self {
        Self { teller, number: 0 }
    }

    /// The one after it.
    pub(super) const fn next(self) -> Self {
        Self { number: self.number.wrapping_add(1), ..self }
    }
}

impl Holdings {
    /// Those that were then.
    pub(super) fn at(&self, at_ns: u64) -> impl Iterator<Item = &Holding> {
        self.0.iter().filter(move |holding| holding.was(at_ns))
    }

    pub(super) fn all(&self) -> &[Holding] {
        &self.0
    }

    /// An object says again what it said before. False when it has not said so.
    pub(super) fn confirm(&mut self, telling: Telling, holder: &Holder, ports: &Arc<[u16]>) -> bool {
        let is_it = |held: &&mut Holding| {
            held.lasts() && held.teller == telling.teller && held.holder.is_same(holder)
        };
        let Some(known) = self.0.iter_mut().find(is_it) else { return false };
        known.telling = telling.number;
        known.ports = Arc::clone(ports);
        true
    }

    /// An object says that somebody has the address, since `held_ns` at the latest: not while another had it by what is
    /// known, and as long as another object says that it is so.
    pub(super) fn begin(&mut self, telling: Telling, holder: Holder, ports: Arc<[u16]>, held_ns: u64) {
        let others = self.0.iter().filter(|held| !held.lasts() && !held.holder.is_one_with(&holder));
        let mut since_ns = others.map(|held| held.until_ns).max().unwrap_or(0).max(held_ns);
        for own in self.0.iter().filter(|held| held.holder.is_one_with(&holder)) {
            if own.until_ns >= since_ns {
                since_ns = since_ns.min(own.since_ns);
            }
        }
        let Telling { teller, number } = telling;
        // As a rule there is one, and room for four would be most of what this takes.
        self.0.reserve_exact(1);
        self.0.push(Holding { holder, ports, teller, telling: number, since_ns, until_ns: STILL });
    }

    /// Ends what an object told before this telling and did not confirm. Whether there was anything.
    pub(super) fn end(&mut self, telling: Telling, now_ns: u64) -> bool {
        let mut ended = false;
        for held in &mut self.0 {
            if held.lasts() && held.teller == telling.teller && held.telling != telling.number {
                held.until_ns = now_ns;
                ended = true;
            }
        }
        ended
    }

    /// Forgets those that had ended by then. How many they were.
    pub(super) fn forget(&mut self, at_ns: u64) -> usize {
        let before = self.0.len();
        self.0.retain(|held| held.until_ns > at_ns);
        if self.0.len() < before {
            self.0.shrink_to_fit();
        }
        before - self.0.len()
    }
}
