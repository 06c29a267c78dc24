//! The directory itself: addresses, and who had them when.
//!
//! An address names who had it when a connection began. Who had it before is kept for ten minutes, so that the end of a
//! connection to a pod that is gone still has the pod's name, and never that of the next one at the address. Where two
//! may be meant nobody is named.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use kube_tcpstates_events::PeerSource;

use super::holding::{Holder, Holdings, Telling};
use super::news::{Endpoint, Moment, News, ServiceInfo, SliceInfo, Update};
use crate::names::{Numbered, Peer, PodName, ServiceName};
use crate::roster::{PodInfo, PodNetwork, Roster};

const SECOND: u64 = 1_000_000_000;
/// How long it is kept who had an address, ns.
const KEPT_NS: u64 = 600 * SECOND;
/// A pod has its address, and uses it, before a slice tells: that takes a probe's success and two programs' work, ns.
const EARLY_NS: u64 = 30 * SECOND;
/// Whoever may make Services and pods can make many.
const MOST: usize = 131_072;
/// Names shown lately. Above this they are all dropped, and made again as they are needed.
const SHOWN: usize = 16_384;

/// What tells of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Object {
    Service(Arc<str>, Box<str>),
    Slice(Arc<str>, Box<str>),
    /// The pods of this node.
    Node,
}

#[derive(Debug)]
struct Known {
    telling: Telling,
    addresses: Box<[IpAddr]>,
}

/// One address of an object.
struct Entry {
    address: IpAddr,
    holder: Holder,
    ports: Arc<[u16]>,
    held_ns: u64,
}

/// A pod and a Service, one of which may be absent.
type Shown = (Option<Arc<PodName>>, Option<Arc<ServiceName>>);

/// Who had which address when.
#[derive(Debug, Default)]
pub struct Directory {
    by_address: HashMap<IpAddr, Holdings>,
    holdings: usize,
    objects: HashMap<Object, Known>,
    objects_made: u32,
    /// Pods of this node by UID.
    local: HashMap<Box<str>, Arc<PodName>>,
    /// Addresses of this node, as far as its pods are in its network.
    node_addresses: Vec<IpAddr>,
    /// When something ended, and at which address, the longest ago first.
    ended: VecDeque<(u64, IpAddr)>,
    shown: HashMap<Shown, Numbered<Peer>>,
    is_full: bool,
    /// All Services have been told, all slices.
    told: [bool; 2],
}

impl Directory {
    /// Something is new.
    pub fn take(&mut self, news: News, now: Moment) {
        self.expire(now.boot_ns);
        match news {
            News::Services(Update::All(all)) => {
                let all = all.iter().map(|service| service_entries(service, now)).collect();
                self.replace(all, now.boot_ns, |object| matches!(object, Object::Service(..)));
                self.told[0] = true;
            }
            News::Services(Update::Is(service)) => {
                let (object, entries) = service_entries(&service, now);
                self.tell(object, entries, now.boot_ns);
            }
            News::Services(Update::Gone(gone)) => {
                self.gone(&Object::Service(gone.namespace.into(), gone.name.into()), now.boot_ns);
            }
            News::Slices(Update::All(all)) => {
                let all = all.iter().map(|slice| slice_entries(slice, now)).collect();
                self.replace(all, now.boot_ns, |object| matches!(object, Object::Slice(..)));
                self.told[1] = true;
            }
            News::Slices(Update::Is(slice)) => {
                let (object, entries) = slice_entries(&slice, now);
                self.tell(object, entries, now.boot_ns);
            }
            News::Slices(Update::Gone(gone)) => {
                self.gone(&Object::Slice(gone.namespace.into(), gone.name.into()), now.boot_ns);
            }
        }
    }

    /// The pods of this node may be others.
    pub fn look_at(&mut self, roster: &Roster, now: Moment) {
        self.expire(now.boot_ns);
        let mut entries = Vec::new();
        let mut local = HashMap::new();
        self.node_addresses.clear();
        for (pod, stopped_ns) in roster.with_stops(now.boot_ns) {
            let name = local_name(pod);
            local.insert(Box::clone(&name.uid), Arc::clone(&name));
            if stopped_ns.is_some() {
                continue;
            }
            let PodNetwork { addresses, is_the_nodes, started_s } = &pod.network;
            if *is_the_nodes {
                self.node_addresses.extend(addresses);
            }
            let held_ns = started_s.map_or(now.boot_ns, |started_s| now.boot_ns_of(started_s));
            entries.extend(addresses.iter().map(|address| Entry {
                address: *address,
                holder: Holder::Pod(Arc::clone(&name), None),
                ports: Arc::default(),
                held_ns,
            }));
        }
        self.node_addresses.sort_unstable();
        self.node_addresses.dedup();
        self.local = local;
        self.tell(Object::Node, entries, now.boot_ns);
    }

    /// Who had an address when a connection began, at a port; `None` where that is not known for certain.
    pub fn name(&mut self, address: IpAddr, port: u16, began_ns: u64) -> Option<&Numbered<Peer>> {
        let (source, shown) = self.find(address, port, began_ns)?;
        if self.shown.len() >= SHOWN && !self.shown.contains_key(&shown) {
            self.shown.clear();
        }
        let named = self.shown.entry(shown).or_insert_with_key(|(pod, service)| {
            Numbered::new(Peer { pod: pod.clone(), service: service.clone(), source })
        });
        Some(named)
    }

    /// The cluster has told all that there is, and since then what is new.
    pub const fn is_told(&self) -> bool {
        self.told[0] && self.told[1]
    }

    /// More was told than is kept.
    pub const fn is_full(&self) -> bool {
        self.is_full
    }

    fn find(&self, address: IpAddr, port: u16, at_ns: u64) -> Option<(PeerSource, Shown)> {
        let held = self.by_address.get(&address)?;
        let mut service = Sole::default();
        let (mut at_port, mut at_any) = (Pods::default(), Pods::default());
        for holding in held.at(at_ns) {
            match &holding.holder {
                Holder::Service(name) if holding.is_at(port) => service.add(name, PartialEq::eq),
                Holder::Service(_) => {}
                Holder::Pod(pod, behind) => {
                    at_any.add(pod, behind.as_ref());
                    if holding.names_port(port) {
                        at_port.add(pod, behind.as_ref());
                    }
                }
            }
        }
        if service.is_any() {
            return Some((PeerSource::Service, (None, Some(Arc::clone(service.only()?)))));
        }
        // At a node's address only a port tells who it is.
        let pods = if at_port.pod.is_any() {
            at_port
        } else if self.is_a_nodes(address, held, at_ns) {
            return None;
        } else {
            at_any
        };
        let pod = pods.pod.only()?;
        let (source, pod) = match self.local.get(&pod.uid) {
            Some(local) => (PeerSource::Node, local),
            None => (PeerSource::EndpointSlice, pod),
        };
        Some((source, (Some(Arc::clone(pod)), pods.service.only().cloned())))
    }

    /// Whether processes may have the address that are in none of these pods: it is this node's, or the pods are behind a
    /// Service of which a pod of this node says that it is in the node's network.
    fn is_a_nodes(&self, address: IpAddr, held: &Holdings, at_ns: u64) -> bool {
        self.node_addresses.contains(&address)
            || held
                .at(at_ns)
                .any(|holding| holding.behind().is_some_and(|behind| self.is_in_node_network(behind)))
    }

    fn is_in_node_network(&self, service: &ServiceName) -> bool {
        let at_own = self.node_addresses.iter().filter_map(|address| self.by_address.get(address));
        at_own.flat_map(Holdings::all).any(|holding| holding.behind() == Some(service))
    }

    /// These are all objects of a sort.
    fn replace(&mut self, all: Vec<(Object, Vec<Entry>)>, now_ns: u64, is_of_sort: impl Fn(&Object) -> bool) {
        let listed: std::collections::HashSet<&Object> = all.iter().map(|(object, _)| object).collect();
        let gone = self.objects.keys().filter(|object| is_of_sort(object) && !listed.contains(object));
        for object in gone.cloned().collect::<Vec<_>>() {
            self.gone(&object, now_ns);
        }
        for (object, entries) in all {
            self.tell(object, entries, now_ns);
        }
    }

    fn gone(&mut self, object: &Object, now_ns: u64) {
        if let Some(Known { telling, addresses }) = self.objects.remove(object) {
            self.end(telling.next(), &addresses, now_ns);
        }
    }

    /// What an object says now, in place of what it said before.
    fn tell(&mut self, object: Object, entries: Vec<Entry>, now_ns: u64) {
        let before = self.objects.remove(&object);
        let telling = before.as_ref().map_or_else(
            || {
                self.objects_made = self.objects_made.wrapping_add(1);
                Telling::first(self.objects_made)
            },
            |known| known.telling.next(),
        );
        let mut addresses = Vec::with_capacity(entries.len());
        let mut new = Vec::new();
        for entry in entries {
            let held = self.by_address.get_mut(&entry.address);
            if held.is_some_and(|held| held.confirm(telling, &entry.holder, &entry.ports)) {
                addresses.push(entry.address);
            } else {
                new.push(entry);
            }
        }
        // Before others come: whoever comes to an address has it after whoever went.
        if let Some(before) = before {
            self.end(telling, &before.addresses, now_ns);
        }
        for Entry { address, holder, ports, held_ns } in new {
            if self.holdings >= MOST && !self.make_room() {
                self.is_full = true;
                break;
            }
            addresses.push(address);
            self.by_address.entry(address).or_default().begin(telling, holder, ports, held_ns);
            self.holdings += 1;
        }
        if !addresses.is_empty() {
            self.objects.insert(object, Known { telling, addresses: addresses.into() });
        }
    }

    fn end(&mut self, telling: Telling, addresses: &[IpAddr], now_ns: u64) {
        for address in addresses {
            if self.by_address.get_mut(address).is_some_and(|held| held.end(telling, now_ns)) {
                self.ended.push_back((now_ns, *address));
            }
        }
    }

    /// Forgets what ended long ago.
    fn expire(&mut self, now_ns: u64) {
        while let Some((ended_ns, _)) = self.ended.front()
            && now_ns.saturating_sub(*ended_ns) >= KEPT_NS
        {
            self.forget_first();
        }
    }

    /// Forgets all that has ended. Whether there is room then.
    fn make_room(&mut self) -> bool {
        while !self.ended.is_empty() {
            self.forget_first();
        }
        self.holdings < MOST
    }

    fn forget_first(&mut self) {
        let Some((ended_ns, address)) = self.ended.pop_front() else { return };
        if let Some(held) = self.by_address.get_mut(&address) {
            self.holdings -= held.forget(ended_ns);
            if held.all().is_empty() {
                self.by_address.remove(&address);
            }
        }
    }
}

fn service_entries(service: &ServiceInfo, now: Moment) -> (Object, Vec<Entry>) {
    let name = Arc::new(ServiceName {
        namespace: service.namespace.as_str().into(),
        name: service.name.as_str().into(),
    });
    let entries = |addresses: &[IpAddr], ports: Arc<[u16]>, held_ns: u64| {
        let entry = |address: &IpAddr| Entry {
            address: *address,
            holder: Holder::Service(Arc::clone(&name)),
            ports: Arc::clone(&ports),
            held_ns,
        };
        addresses.iter().map(entry).collect::<Vec<_>>()
    };
    let early_ns = now.boot_ns.saturating_sub(EARLY_NS);
    let mut all = entries(
        &service.own,
        Arc::default(),
        service.created_s.map_or(early_ns, |created_s| now.boot_ns_of(created_s)),
    );
    // Without a port it has none of these.
    if !service.ports.is_empty() {
        all.extend(entries(&service.shared, service.ports.as_slice().into(), early_ns));
    }
    (Object::Service(Arc::clone(&name.namespace), (*name.name).into()), all)
}

fn slice_entries(slice: &SliceInfo, now: Moment) -> (Object, Vec<Entry>) {
    let namespace: Arc<str> = slice.namespace.as_str().into();
    let service = slice
        .service
        .as_ref()
        .map(|name| Arc::new(ServiceName { namespace: Arc::clone(&namespace), name: name.as_str().into() }));
    let ports: Arc<[u16]> = slice.ports.as_slice().into();
    let told_ns = slice.changed_s.map_or(now.boot_ns, |changed_s| now.boot_ns_of(changed_s));
    let entry = |endpoint: &Endpoint| Entry {
        address: endpoint.address,
        holder: Holder::Pod(
            Arc::new(PodName {
                namespace: Arc::clone(&namespace),
                name: endpoint.pod.as_str().into(),
                uid: endpoint.uid.as_str().into(),
                workload: None,
            }),
            service.clone(),
        ),
        ports: Arc::clone(&ports),
        held_ns: told_ns.saturating_sub(EARLY_NS),
    };
    let entries = slice.endpoints.iter().map(entry).collect();
    (Object::Slice(Arc::clone(&namespace), slice.name.as_str().into()), entries)
}

fn local_name(pod: &PodInfo) -> Arc<PodName> {
    Arc::new(PodName {
        namespace: pod.namespace.as_str().into(),
        name: pod.name.as_str().into(),
        uid: pod.uid.as_str().into(),
        workload: pod.workload.clone(),
    })
}

/// The only one of those that were added, if there is one.
struct Sole<'a, T> {
    first: Option<&'a Arc<T>>,
    another: bool,
}

impl<T> Default for Sole<'_, T> {
    fn default() -> Self {
        Self { first: None, another: false }
    }
}

impl<'a, T> Sole<'a, T> {
    fn add(&mut self, thing: &'a Arc<T>, is_same: impl Fn(&T, &T) -> bool) {
        match self.first {
            None => self.first = Some(thing),
            Some(first) => self.another |= !is_same(first, thing),
        }
    }

    const fn is_any(&self) -> bool {
        self.first.is_some()
    }

    fn only(&self) -> Option<&'a Arc<T>> {
        self.first.filter(|_| !self.another)
    }
}

/// Pods, and the Services that they are behind.
#[derive(Default)]
struct Pods<'a> {
    pod: Sole<'a, PodName>,
    service: Sole<'a, ServiceName>,
}

impl<'a> Pods<'a> {
    fn add(&mut self, pod: &'a Arc<PodName>, behind: Option<&'a Arc<ServiceName>>) {
        self.pod.add(pod, |one, other| one.uid == other.uid);
        if let Some(behind) = behind {
            self.service.add(behind, PartialEq::eq);
        }
    }
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
