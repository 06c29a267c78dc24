//! Network namespace -> identity, for sockets whose cgroup says nothing (cgroup v1). Learned from scans of /proc.
//!
//! A namespace names somebody only while exactly one container, or the containers of exactly one pod, use it; the
//! host's and shared ones name nobody. Anybody may have entered it since a scan, so what that saw holds for a while
//! only, and whoever is met in between is a user as well. Inode numbers are used again at once, so it moreover holds only
//! - for the namespace's cookie, once one event has bound the two together; or
//! - between the start of a process that holds the namespace and the last time it was seen to hold it.

use std::sync::Arc;

use super::model::Identity;
use crate::names::QuickMap;

/// A process, told apart from later ones with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Witness {
    /// Its number.
    pub pid: u32,
    /// When it started, `CLOCK_BOOTTIME` ns.
    pub started_ns: u64,
}

/// One process of a scan.
#[derive(Clone, Debug)]
pub struct Use {
    /// Inode number of the namespace it is in.
    pub inode: u32,
    /// The process.
    pub witness: Witness,
    /// What its cgroup says.
    pub identity: Arc<Identity>,
}

/// Who uses a namespace.
#[derive(Clone, Debug, PartialEq)]
enum User {
    /// The host, or somebody of whom nothing is known.
    Host,
    /// A container, or one pod (then without a container).
    One(Arc<Identity>),
    /// Several that do not belong together.
    Several,
}

impl User {
    fn says(&self) -> Found {
        match self {
            Self::Host => Found::Host,
            Self::One(identity) => Found::Private(Arc::clone(identity)),
            Self::Several => Found::Shared,
        }
    }
}

/// What a namespace says about the owner of a socket in it.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// The namespace is private to this container or pod.
    Private(Arc<Identity>),
    /// Only the host uses it.
    Host,
    /// Several share it, the host perhaps among them: it names nobody.
    Shared,
    /// No scan knows it for the time asked about. A new scan may.
    Stale,
    /// A scan after the time asked about did not find it, or it was not asked for.
    Unknown,
}

struct Entry {
    user: User,
    cookie: Option<u64>,
    /// Processes of the last scan that hold it.
    witnesses: Vec<Witness>,
    /// It is known to be the same namespace from here ...
    from_ns: u64,
    /// ... to here.
    checked_ns: u64,
}

/// More witnesses than this say nothing more.
const MAX_WITNESSES: usize = 4;

/// How long after a scan what it saw is believed, ns.
const HOLDS_NS: u64 = 10 * 1_000_000_000;

/// Namespaces in which somebody was met that are remembered. Above this all are forgotten.
const MAX_MET: usize = 16_384;

/// Namespaces, by inode number. As large as the last scan.
#[derive(Default)]
pub struct Namespaces {
    entries: QuickMap<u32, Entry>,
    /// Who was met in a namespace, by its cookie.
    met: QuickMap<u64, User>,
    host: Option<u32>,
    scanned_ns: Option<u64>,
}

impl Namespaces {
    /// Knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The host's own namespace.
    pub fn set_host(&mut self, inode: u32) {
        self.host = Some(inode);
    }

    /// Takes the result of a scan of all processes that started at `started_ns`. Namespaces that no process is in any
    /// more are forgotten.
    pub fn scanned(&mut self, started_ns: u64, uses: impl IntoIterator<Item = Use>) {
        let mut fresh: QuickMap<u32, Entry> = QuickMap::default();
        for Use { inode, witness, identity } in uses {
            let who = user_of(&identity);
            let entry = fresh.entry(inode).or_insert_with(|| Entry {
                user: who.clone(),
                cookie: None,
                witnesses: Vec::new(),
                from_ns: witness.started_ns,
                checked_ns: started_ns,
            });
            entry.user = join(&entry.user, &who);
            entry.from_ns = entry.from_ns.min(witness.started_ns);
            keep(&mut entry.witnesses, witness);
        }
        for (inode, entry) in &mut fresh {
            if let Some(before) = self.entries.get(inode).filter(|before| before.shares_a_witness(entry)) {
                entry.continues(before);
            }
        }
        self.entries = fresh;
        self.scanned_ns = Some(self.scanned_ns.map_or(started_ns, |before| before.max(started_ns)));
    }

    /// What namespace `inode` said at `at_ns`. `cookie` is the namespace's, where the kernel tells it; the first one
    /// that fits is remembered and makes later look-ups independent of scans.
    pub fn find(&mut self, inode: u32, cookie: Option<u64>, at_ns: u64) -> Found {
        let is_scan_older = self.scanned_ns.is_none_or(|scanned| scanned < at_ns);
        let missing = if is_scan_older { Found::Stale } else { Found::Unknown };
        let Some(entry) = self.entries.get_mut(&inode) else {
            return missing;
        };
        if at_ns.saturating_sub(entry.checked_ns) > HOLDS_NS {
            return Found::Stale;
        }
        if self.host == Some(inode) {
            return join(&entry.user, &User::Host).says();
        }
        let met = cookie.and_then(|cookie| self.met.get(&cookie));
        match (entry.cookie, cookie) {
            (Some(known), Some(asked)) if known == asked => return entry.with(met).says(),
            (Some(_), Some(_)) => return missing,
            _ => {}
        }
        if at_ns < entry.from_ns {
            // An earlier namespace with the same number.
            return Found::Unknown;
        }
        if at_ns > entry.checked_ns {
            return Found::Stale;
        }
        entry.cookie = entry.cookie.or(cookie);
        entry.with(met).says()
    }

    /// Other evidence has told who owns a socket in a namespace.
    pub fn met(&mut self, cookie: u64, identity: &Arc<Identity>) {
        let who = user_of(identity);
        let known = self.met.get(&cookie).map_or_else(|| who.clone(), |known| join(known, &who));
        if self.met.len() >= MAX_MET {
            self.met.clear();
        }
        self.met.insert(cookie, known);
    }

    /// Namespaces known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Nothing was learned yet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Entry {
    /// Its users, and who was met in it.
    fn with(&self, met: Option<&User>) -> User {
        met.map_or_else(|| self.user.clone(), |met| join(&self.user, met))
    }

    fn shares_a_witness(&self, other: &Self) -> bool {
        self.witnesses.iter().any(|witness| other.witnesses.contains(witness))
    }

    /// `before` is the same namespace: who has used it once may have left sockets in it.
    fn continues(&mut self, before: &Self) {
        // The older one first: where both say the same, its `Arc` stays, and with it whatever is cached by it.
        self.user = join(&before.user, &self.user);
        self.cookie = before.cookie;
        self.from_ns = self.from_ns.min(before.from_ns);
        self.checked_ns = self.checked_ns.max(before.checked_ns);
    }
}

/// The oldest ones, which are the likeliest to stay: a pod's pause process is among them.
fn keep(witnesses: &mut Vec<Witness>, witness: Witness) {
    if witnesses.contains(&witness) {
        return;
    }
    let place =
        witnesses.partition_point(|kept| (kept.started_ns, kept.pid) < (witness.started_ns, witness.pid));
    witnesses.insert(place, witness);
    witnesses.truncate(MAX_WITNESSES);
}

fn user_of(identity: &Arc<Identity>) -> User {
    if identity.container_id.is_some() || identity.pod_uid.is_some() {
        User::One(Arc::clone(identity))
    } else {
        User::Host
    }
}

fn join(one: &User, other: &User) -> User {
    match (one, other) {
        (User::Host, User::Host) => User::Host,
        // A hostNetwork pod, or a debugging shell of the host in a pod's namespace: one's sockets cannot be told from
        // the other's.
        (User::Several | User::Host, _) | (_, User::Several | User::Host) => User::Several,
        (User::One(a), User::One(b)) => join_contained(a, b),
    }
}

fn join_contained(a: &Arc<Identity>, b: &Arc<Identity>) -> User {
    if a.pod_uid != b.pod_uid {
        return User::Several;
    }
    match (&a.container_id, &b.container_id) {
        (Some(one), Some(other)) if one == other => User::One(Arc::clone(a)),
        (None, _) => User::One(Arc::clone(a)),
        (_, None) => User::One(Arc::clone(b)),
        _ if a.pod_uid.is_none() => User::Several,
        _ => User::One(Arc::new(pod_only(a))),
    }
}

/// The pod without the container: several containers of it share the namespace.
fn pod_only(identity: &Identity) -> Identity {
    let parent = |path: &str| path.rsplit_once('/').map_or(String::new(), |(parent, _)| parent.to_owned());
    let mut path = identity.path.clone();
    while !path.is_empty() {
        path = parent(&path);
        let above = Identity::from_path(&path);
        if above.pod_uid == identity.pod_uid && above.container_id.is_none() {
            return above;
        }
    }
    // Pod and container in one component (driver mismatch): there is no directory for the pod.
    Identity {
        path: String::new(),
        container_id: None,
        runtime: None,
        containers: identity
            .containers
            .iter()
            .filter(|container| container.pod_uid != identity.pod_uid)
            .cloned()
            .collect(),
        ..identity.clone()
    }
}

#[cfg(test)]
#[path = "netns_tests.rs"]
mod tests;
