//! The directory, told by hand.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::names::{Workload, WorkloadKind};

const START: u64 = 10_000 * SECOND;
/// The second of the wall clock at `START`.
const START_S: i64 = 1_795_361_100;

/// A directory with a clock.
struct Scene {
    directory: Directory,
    now_ns: u64,
}

impl Scene {
    fn new() -> Self {
        Self { directory: Directory::default(), now_ns: START }
    }

    fn moment(&self) -> Moment {
        let passed_s = i64::try_from((self.now_ns - START) / SECOND).unwrap();
        Moment { boot_ns: self.now_ns, unix_s: START_S + passed_s }
    }

    fn tell(&mut self, news: News) {
        self.directory.take(news, self.moment());
    }

    fn slice(&mut self, slice: SliceInfo) {
        self.tell(News::Slices(Update::Is(slice)));
    }

    fn look_at(&mut self, pods: &[PodInfo]) {
        let mut roster = Roster::default();
        roster.replace(pods.to_vec(), self.now_ns);
        self.directory.look_at(&roster, self.moment());
    }

    fn pass(&mut self, seconds: u64) {
        self.now_ns += seconds * SECOND;
    }

    /// Who had an address at a port then, as `service`, `pod` or `service pod`; nothing where that is not known.
    fn named(&mut self, address: &str, port: u16, began_ns: u64) -> String {
        let Some(peer) = self.directory.name(address.parse().unwrap(), port, began_ns) else {
            return String::new();
        };
        let service = peer.service.as_ref().map(|service| &*service.name);
        let pod = peer.pod.as_ref().map(|pod| &*pod.name);
        service.into_iter().chain(pod).collect::<Vec<_>>().join(" ")
    }

    /// For a connection that begins now.
    fn now(&mut self, address: &str, port: u16) -> String {
        let now_ns = self.now_ns;
        self.named(address, port, now_ns)
    }
}

/// A slice of a Service with these pods, each `address pod`, at port 80.
fn slice(service: &str, pods: &[&str]) -> SliceInfo {
    let endpoints = pods.iter().map(|text| {
        let (address, pod) = text.split_once(' ').unwrap();
        Endpoint { address: address.parse().unwrap(), pod: pod.to_owned(), uid: format!("uid-{pod}") }
    });
    SliceInfo {
        namespace: "shop".to_owned(),
        name: format!("{service}-slice"),
        service: Some(service.to_owned()),
        changed_s: None,
        ports: vec![80],
        endpoints: endpoints.collect(),
    }
}

fn service(name: &str, own: &str, shared: &str, ports: &[u16]) -> ServiceInfo {
    ServiceInfo {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        created_s: Some(START_S - 3600),
        own: own.parse().into_iter().collect(),
        shared: shared.parse().into_iter().collect(),
        ports: ports.to_vec(),
    }
}

fn local(pod: &str, address: &str, is_the_nodes: bool) -> PodInfo {
    PodInfo {
        uid: format!("uid-{pod}"),
        namespace: "shop".to_owned(),
        name: pod.to_owned(),
        workload: Some(Workload { kind: WorkloadKind::Deployment, name: "local".to_owned() }),
        network: PodNetwork {
            addresses: vec![address.parse().unwrap()],
            is_the_nodes,
            started_s: Some(START_S - 60),
        },
        ..PodInfo::default()
    }
}

#[test]
fn a_service_has_its_own_address_at_every_port_and_shares_others_by_port() {
    let mut scene = Scene::new();
    scene.tell(News::Services(Update::All(vec![
        service("cart", "10.96.0.7", "192.0.2.1", &[80]),
        service("shop", "10.96.0.8", "192.0.2.1", &[443, 80]),
        service("headless", "None", "", &[80]),
    ])));
    assert_eq!(scene.now("10.96.0.7", 80), "cart");
    assert_eq!(scene.now("10.96.0.7", 9), "cart");
    assert_eq!(scene.now("192.0.2.1", 443), "shop");
    assert_eq!(scene.now("192.0.2.1", 80), "", "either of two");
    assert_eq!(scene.now("192.0.2.1", 22), "");
    assert_eq!(scene.now("10.96.0.9", 80), "");
    let peer = scene.directory.name("10.96.0.7".parse().unwrap(), 80, START).unwrap();
    assert_eq!((peer.source, peer.namespace()), (PeerSource::Service, Some("shop")));
    assert_eq!(scene.named("10.96.0.7", 80, START - 3601 * SECOND), "", "before it was made");
}

/// A Service's port of all nodes is at no address of its own, and whoever is in a node's network is not behind it.
#[test]
fn a_port_that_a_service_has_at_every_node_names_nobody() {
    let mut scene = Scene::new();
    scene.tell(News::Services(Update::All(vec![service("cart", "10.96.0.7", "", &[80])])));
    scene.look_at(&[local("agent", "10.0.0.1", true)]);
    scene.slice(slice("gate", &["10.0.0.1 gate-a", "10.0.0.2 gate-b"]));
    for node in ["10.0.0.1", "10.0.0.2"] {
        assert!(scene.now(node, 80).starts_with("gate gate-"), "{node}");
        assert_eq!(scene.now(node, 30_080), "", "{node}");
    }
}

#[test]
fn a_pod_is_named_with_the_only_service_that_it_is_behind() {
    let mut scene = Scene::new();
    scene.slice(slice("cart", &["10.1.0.2 cart-a", "10.1.0.3 cart-b"]));
    assert_eq!(scene.now("10.1.0.2", 80), "cart cart-a");
    assert_eq!(scene.now("10.1.0.2", 50_000), "cart cart-a", "as a client");
    scene.slice(SliceInfo { ports: vec![9090], ..slice("metrics", &["10.1.0.2 cart-a"]) });
    assert_eq!(scene.now("10.1.0.2", 80), "cart cart-a", "the port tells which");
    assert_eq!(scene.now("10.1.0.2", 9090), "metrics cart-a");
    assert_eq!(scene.now("10.1.0.2", 50_000), "cart-a", "either of two Services");
    let peer = scene.directory.name("10.1.0.2".parse().unwrap(), 80, scene.now_ns).unwrap();
    assert_eq!((peer.source, peer.namespace()), (PeerSource::EndpointSlice, Some("shop")));
    assert_eq!(peer.pod.as_ref().map(|pod| &*pod.uid), Some("uid-cart-a"));
}

#[test]
fn a_connection_keeps_the_name_of_who_had_the_address_when_it_began() {
    let mut scene = Scene::new();
    scene.slice(slice("cart", &["10.1.0.2 first"]));
    let began_ns = scene.now_ns;
    scene.pass(60);
    scene.slice(slice("cart", &[]));
    scene.pass(1);
    let between_ns = scene.now_ns;
    assert_eq!(scene.now("10.1.0.2", 80), "", "nobody has it");
    scene.pass(59);
    scene.slice(slice("cart", &["10.1.0.2 second"]));
    assert_eq!(scene.named("10.1.0.2", 80, began_ns), "cart first");
    assert_eq!(scene.named("10.1.0.2", 80, between_ns), "");
    assert_eq!(scene.now("10.1.0.2", 80), "cart second");
    // It had the address before the slice said so, and used it.
    assert_eq!(scene.named("10.1.0.2", 80, scene.now_ns - 29 * SECOND), "cart second");
    assert_eq!(scene.named("10.1.0.2", 80, scene.now_ns - 31 * SECOND), "");
}

#[test]
fn who_comes_to_an_address_has_it_from_when_the_other_went() {
    let mut scene = Scene::new();
    scene.slice(slice("cart", &["10.1.0.2 first"]));
    scene.pass(100);
    scene.slice(slice("cart", &["10.1.0.2 second"]));
    assert_eq!(scene.named("10.1.0.2", 80, scene.now_ns - 1), "cart first");
    assert_eq!(scene.now("10.1.0.2", 80), "cart second");
    // Told by another object before the first one has gone: two have it, so nobody does.
    scene.pass(100);
    scene.slice(slice("other", &["10.1.0.2 third"]));
    assert_eq!(scene.now("10.1.0.2", 80), "");
    scene.pass(1);
    scene.slice(slice("cart", &[]));
    assert_eq!(scene.now("10.1.0.2", 80), "other third");
}

#[test]
fn a_former_holder_is_kept_for_ten_minutes() {
    let mut scene = Scene::new();
    scene.slice(slice("cart", &["10.1.0.2 cart-a"]));
    let began_ns = scene.now_ns;
    scene.pass(1);
    scene.tell(News::Slices(Update::Gone(slice("cart", &[]))));
    scene.pass(599);
    scene.slice(slice("other", &["10.1.0.9 other"]));
    assert_eq!(scene.named("10.1.0.2", 80, began_ns), "cart cart-a");
    scene.pass(1);
    scene.slice(slice("other", &["10.1.0.9 other"]));
    assert_eq!(scene.named("10.1.0.2", 80, began_ns), "");
    assert_eq!((scene.directory.by_address.len(), scene.directory.holdings), (1, 1));
}

#[test]
fn what_the_first_list_says_was_so_since_it_last_changed() {
    let mut scene = Scene::new();
    let changed_s = Some(START_S - 600);
    let told = SliceInfo { changed_s, ..slice("cart", &["10.1.0.2 cart-a"]) };
    scene.tell(News::Slices(Update::All(vec![told, slice("silent", &["10.1.0.3 silent"])])));
    assert_eq!(scene.named("10.1.0.2", 80, START - 600 * SECOND), "cart cart-a");
    assert_eq!(scene.named("10.1.0.2", 80, START - 700 * SECOND), "", "it may have been another's");
    assert_eq!(scene.named("10.1.0.3", 80, START), "silent silent");
    assert_eq!(scene.named("10.1.0.3", 80, START - 60 * SECOND), "");
}

#[test]
fn a_pod_that_moves_to_another_slice_has_had_its_address_all_along() {
    let mut scene = Scene::new();
    scene.slice(slice("cart", &["10.1.0.2 cart-a"]));
    let began_ns = scene.now_ns;
    scene.pass(300);
    scene.slice(SliceInfo { name: "cart-2".to_owned(), ..slice("cart", &["10.1.0.2 cart-a"]) });
    scene.slice(slice("cart", &[]));
    scene.pass(601);
    scene.slice(slice("other", &[]));
    assert_eq!(scene.named("10.1.0.2", 80, began_ns), "cart cart-a");
}

#[test]
fn a_list_ends_what_is_not_in_it_and_nothing_of_the_other_sort() {
    let mut scene = Scene::new();
    scene.tell(News::Services(Update::All(vec![service("cart", "10.96.0.7", "", &[80])])));
    scene.tell(News::Slices(Update::All(vec![
        slice("cart", &["10.1.0.2 cart-a"]),
        slice("shop", &["10.1.0.3 shop-a"]),
    ])));
    scene.pass(5);
    scene.tell(News::Slices(Update::All(vec![slice("shop", &["10.1.0.3 shop-a"])])));
    assert_eq!(scene.now("10.1.0.2", 80), "");
    assert_eq!(scene.now("10.1.0.3", 80), "shop shop-a");
    assert_eq!(scene.now("10.96.0.7", 80), "cart");
    scene.tell(News::Services(Update::Gone(service("cart", "", "", &[]))));
    assert_eq!(scene.now("10.96.0.7", 80), "");
}

#[test]
fn a_pod_of_this_node_has_its_workload_whatever_tells_of_it() {
    let mut scene = Scene::new();
    scene.look_at(&[local("cart-a", "10.1.0.2", false)]);
    let of = |scene: &mut Scene| {
        let peer = scene.directory.name("10.1.0.2".parse().unwrap(), 80, scene.now_ns).unwrap();
        let workload = peer.pod.as_ref().and_then(|pod| pod.workload.clone()).map(|workload| workload.name);
        (peer.source, workload.unwrap(), peer.service.is_some())
    };
    assert_eq!(of(&mut scene), (PeerSource::Node, "local".to_owned(), false));
    scene.slice(slice("cart", &["10.1.0.2 cart-a"]));
    assert_eq!(of(&mut scene), (PeerSource::Node, "local".to_owned(), true));
    // It is gone, and a connection of before still has its name.
    let began_ns = scene.now_ns;
    scene.pass(60);
    scene.look_at(&[]);
    scene.slice(slice("cart", &[]));
    assert_eq!(scene.now("10.1.0.2", 80), "");
    assert_eq!(scene.named("10.1.0.2", 80, began_ns), "cart cart-a");
}

#[test]
fn a_pod_that_has_ended_has_no_address() {
    let mut scene = Scene::new();
    scene.look_at(&[PodInfo { ended: true, ..local("job", "10.1.0.2", false) }]);
    assert_eq!(scene.now("10.1.0.2", 80), "");
}

#[test]
fn at_a_nodes_address_only_a_port_tells_which_pod_it_is() {
    let mut scene = Scene::new();
    // Two pods of another node.
    scene.slice(slice("exporter", &["192.0.2.8 exporter-a"]));
    scene.slice(SliceInfo { ports: vec![9090], ..slice("proxy", &["192.0.2.8 proxy-a"]) });
    assert_eq!(scene.now("192.0.2.8", 80), "exporter exporter-a");
    assert_eq!(scene.now("192.0.2.8", 9090), "proxy proxy-a");
    assert_eq!(scene.now("192.0.2.8", 50_000), "");
    // One of this node.
    scene.look_at(&[local("agent", "192.0.2.1", true)]);
    assert_eq!(scene.now("192.0.2.1", 50_000), "");
    scene.slice(slice("agent", &["192.0.2.1 agent", "192.0.2.9 agent-b"]));
    assert_eq!(scene.now("192.0.2.1", 80), "agent agent");
    assert_eq!(scene.now("192.0.2.1", 50_000), "");
    // The only pod known at its node's address; one beside it in its Service is in this node's network.
    assert_eq!(scene.now("192.0.2.9", 80), "agent agent-b");
    assert_eq!(scene.now("192.0.2.9", 50_000), "");
}

#[test]
fn there_is_an_end_to_what_is_kept() {
    let mut scene = Scene::new();
    let many = |service: &str, first: u32| SliceInfo {
        endpoints: (first..first + 100_000)
            .map(|n| Endpoint {
                address: std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into(),
                pod: String::new(),
                uid: n.to_string(),
            })
            .collect(),
        ..slice(service, &[])
    };
    scene.slice(many("a", 0));
    scene.slice(many("b", 200_000));
    assert!(scene.directory.is_full());
    assert_eq!(scene.directory.holdings, MOST);
    // Those that went make room.
    scene.tell(News::Slices(Update::Gone(slice("a", &[]))));
    scene.slice(slice("cart", &["10.200.0.1 cart-a"]));
    assert_eq!(scene.now("10.200.0.1", 80), "cart cart-a");
}

#[test]
fn a_name_that_was_shown_before_is_found_without_allocating() {
    let mut scene = Scene::new();
    scene.slice(slice("cart", &["10.1.0.2 cart-a"]));
    let address = "10.1.0.2".parse().unwrap();
    let mut find = || assert!(scene.directory.name(address, 80, START).is_some());
    find();
    assert_eq!(allocation_counter::measure(find).count_total, 0);
}

#[test]
fn the_same_names_are_one_thing_to_render() {
    let mut scene = Scene::new();
    scene.slice(slice("cart", &["10.1.0.2 cart-a", "10.1.0.3 cart-b"]));
    let mut number =
        |address: &str| scene.directory.name(address.parse().unwrap(), 80, START).map(Numbered::number);
    assert_eq!(number("10.1.0.2"), number("10.1.0.2"));
    assert_ne!(number("10.1.0.2"), number("10.1.0.3"));
}

proptest! {
    /// Pods come to addresses and go, each for a Service of its own or for one that all are behind. Whoever is named had
    /// the address then, and who had it alone for half a minute is named.
    #[test]
    fn nobody_is_named_who_did_not_have_the_address(
        steps in prop::collection::vec((0..4_u32, 0..3_u32, any::<bool>(), 31..200_u64), 1..40),
        asked in prop::collection::vec((0..3_u32, 0..4_000_u64), 20),
    ) {
        let mut scene = Scene::new();
        // Address of each pod now; and (pod, address, from, to) of all times.
        let mut at = std::collections::BTreeMap::new();
        let mut history: Vec<(u32, u32, u64, u64)> = Vec::new();
        for (pod, address, own_slice, seconds) in steps {
            let taken = at.values().any(|held| *held == address);
            if let Some(held) = at.remove(&pod) {
                let entry = history.iter_mut().rfind(|entry| entry.0 == pod && entry.1 == held).unwrap();
                entry.3 = scene.now_ns;
            } else if !taken {
                at.insert(pod, address);
                history.push((pod, address, scene.now_ns, u64::MAX));
            }
            let texts: Vec<String> = at.iter().map(|(pod, address)| format!("10.1.0.{address} pod{pod}")).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            scene.slice(slice("all", &texts));
            if own_slice {
                scene.tell(News::Slices(Update::All(vec![slice("all", &texts)])));
            }
            scene.pass(seconds);
        }
        for (address, ago_s) in asked {
            let began_ns = scene.now_ns.saturating_sub(ago_s * SECOND);
            let named = scene.named(&format!("10.1.0.{address}"), 80, began_ns);
            let had = |slack_ns: u64| {
                let holds = |entry: &&(u32, u32, u64, u64)| {
                    entry.1 == address && entry.2 <= began_ns + slack_ns && began_ns < entry.3
                };
                history.iter().filter(holds).map(|entry| entry.0).collect::<BTreeSet<_>>()
            };
            if let Some(pod) = named.strip_prefix("all pod") {
                prop_assert!(had(EARLY_NS).contains(&pod.parse().unwrap()), "{named}");
            } else {
                let is_kept = |entry: &(u32, u32, u64, u64)| {
                    entry.1 == address && entry.2 <= began_ns && began_ns < entry.3 && entry.3 > scene.now_ns - KEPT_NS
                };
                prop_assert!(!history.iter().any(is_kept), "10.1.0.{address} has a name at {began_ns}");
            }
        }
    }
}

#[test]
fn ten_thousand_endpoints_take_less_than_eight_mebibytes() {
    let mut scene = Scene::new();
    // Services of ten pods each, with names as Deployments make them.
    let all = |generation: u32| {
        let slice = |service: u32| SliceInfo {
            namespace: format!("namespace-{}", service % 50),
            name: format!("some-service-{service}-abcde"),
            service: Some(format!("some-service-{service}")),
            endpoints: (0..10)
                .map(|n| Endpoint {
                    address: std::net::Ipv4Addr::from_bits(
                        0x0a00_0000 + generation * 10_000 + service * 10 + n,
                    )
                    .into(),
                    pod: format!("some-deployment-{service:04}-7d4f8b9c6d-{n}{generation:03}x"),
                    uid: format!("0b8e7c52-9f3e-4d1a-8c55-{service:08x}{generation:02x}{n:02x}"),
                })
                .collect(),
            ..slice("", &[])
        };
        (0..1_000).map(slice).collect::<Vec<_>>()
    };
    let services = (0..1_000).map(|n| ServiceInfo {
        namespace: format!("namespace-{}", n % 50),
        name: format!("some-service-{n}"),
        own: vec![std::net::Ipv4Addr::from_bits(0x0a60_0000 + n).into()],
        ..ServiceInfo::default()
    });
    let services = News::Services(Update::All(services.collect()));
    let [first, second] = [0, 1].map(|generation| News::Slices(Update::All(all(generation))));
    let mut tell = |news: News| {
        let (told, now) = (news.clone(), scene.moment());
        scene.pass(1);
        // What is told goes in it, so that what stays is the directory's.
        let kept = allocation_counter::measure(|| scene.directory.take(told, now));
        let given = allocation_counter::measure(|| drop(news));
        // Each block has a header.
        (kept.bytes_current - given.bytes_current) + 16 * (kept.count_current - given.count_current)
    };
    let once = tell(services) + tell(first);
    let twice = once + tell(second);
    eprintln!("{once} bytes, with as many that were replaced {twice}");
    assert_eq!(scene.directory.holdings, 21_000);
    assert!((2 << 20..8 << 20).contains(&once) && twice < 2 * once, "{once} {twice}");
}
