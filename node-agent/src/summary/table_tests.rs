use std::sync::Arc;

use bytemuck::Zeroable as _;
use kube_tcpstates_common::{record::TransitionRecord, state::State};
use kube_tcpstates_events::{AttributionSource, AttributionStatus, ClosedBy, Direction, Outcome, PeerSource};

use super::{super::MAX_IN_ALL, *};
use crate::{
    connection::{Ending, SocketFigures},
    decode::{Endpoint, transitions},
    names::ServiceName,
};

const SECOND: u64 = 1_000_000_000;

/// What one connection was.
struct Scene {
    transition: Transition,
    story: Story,
    owner: Option<Arc<Numbered<Owner>>>,
    peer: Option<Numbered<Peer>>,
}

fn owner(name: &str) -> Arc<Numbered<Owner>> {
    Arc::new(Numbered::new(Owner { pod_name: Some(name.to_owned()), ..Owner::default() }))
}

impl Scene {
    fn new(role: Role, local: u16, peer: (&str, u16)) -> Self {
        let mut transition = transitions(&TransitionRecord { traces: 1, ..TransitionRecord::zeroed() })[0];
        transition.role = Some(role);
        transition.local.port = local;
        transition.peer = Some(Endpoint { address: peer.0.parse().unwrap(), port: peer.1 });
        let direction = |bytes| Direction { bytes, segments: 1, idle_us: None };
        let socket = SocketFigures {
            sent: direction(100),
            received: direction(2_000),
            retransmits: 3,
            out_of_order: None,
            unread_bytes: None,
            unsent_bytes: 4,
            srtt_us: None,
            min_rtt_us: None,
            peer_window_us: 0,
            send_buffer_us: 0,
        };
        let story = Story {
            ending: Ending { outcome: Outcome::Closed, cause: None, closed_by: Some(ClosedBy::Local) },
            start_ns: 0,
            duration_ns: 5_000_999,
            since_attach: false,
            states: [None; State::TIMED.len()],
            handshake_us: Some(40),
            syn_retransmits: Some(1),
            socket: Some(socket),
            listener: None,
        };
        Self { transition, story, owner: Some(owner("a")), peer: None }
    }

    fn client(local: u16) -> Self {
        Self::new(Role::Client, local, ("10.0.0.9", 443))
    }

    fn add(&self, table: &mut Table, now_ns: u64) {
        self.add_where(table, now_ns, true);
    }

    fn add_where(&self, table: &mut Table, now_ns: u64, has_room: bool) {
        let seen = Seen {
            transition: &self.transition,
            story: &self.story,
            attribution: Attribution {
                source: AttributionSource::SocketCgroup,
                status: AttributionStatus::Resolved,
            },
            owner: self.owner.as_ref(),
            peer: self.peer.as_ref(),
        };
        table.add(&seen, || now_ns, has_room);
    }
}

/// All that a table tells.
fn told(table: &mut Table, now_ns: u64) -> Vec<(Option<Common>, Kept)> {
    let mut all = Vec::new();
    table.tell(now_ns, MAX_IN_ALL, |_, common, kept, _| {
        all.push((common.copied(), kept.clone()));
        true
    });
    all
}

#[test]
fn connections_from_different_ports_of_a_client_add_up() {
    let mut table = Table::new(10 * SECOND, SECOND, 1);
    for port in 40_000..40_003 {
        Scene::client(port).add(&mut table, 2 * SECOND);
    }
    let mut failed = Scene::client(50_000);
    failed.story.ending.outcome = Outcome::Refused;
    (failed.story.socket, failed.story.handshake_us, failed.story.duration_ns) = (None, None, 9_000_000);
    failed.add(&mut table, 2 * SECOND);
    let all = told(&mut table, 11 * SECOND);
    let [(Some(common), kept)] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((common.port, common.peer), (443, Some("10.0.0.9".parse().unwrap())));
    let sums = &kept.sums;
    assert_eq!((sums.connections, sums.measured, sums.failed()), (4, 3, 1));
    assert_eq!((sums.sent, sums.received, sums.retransmits, sums.unsent), (300, 6_000, 9, 12));
    assert_eq!(sums.syn_retransmits, 4);
    assert_eq!(sums.outcomes().collect::<Vec<_>>(), [(Outcome::Closed, 3), (Outcome::Refused, 1)]);
    assert_eq!((sums.handshakes.count, sums.handshakes.mean(), sums.handshakes.max), (3, Some(40), 40));
    assert_eq!(
        (sums.handshake_quantile(50), sums.handshake_quantile(99)),
        (Some(40), Some(40)),
        "never above the longest"
    );
    assert_eq!((sums.durations.mean(), sums.durations.max), (Some(6_000), 9_000));
    assert!(table.is_empty() && table.due_ns().is_none());
}

#[test]
fn the_port_that_counts_is_the_servers_and_none_where_the_side_is_not_known() {
    let mut table = Table::new(10 * SECOND, 0, 1);
    for port in [1_000, 1_001] {
        Scene::new(Role::Server, 80, ("10.0.0.9", port)).add(&mut table, 0);
        let mut unknown = Scene::client(port);
        unknown.transition.role = None;
        unknown.add(&mut table, 0);
    }
    Scene::new(Role::Server, 81, ("10.0.0.9", 1_000)).add(&mut table, 0);
    let mut ports: Vec<_> = told(&mut table, 0)
        .into_iter()
        .map(|(common, kept)| (common.unwrap().port, kept.sums.connections))
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [(0, 2), (80, 2), (81, 1)]);
}

#[test]
fn what_differs_in_owner_other_end_or_its_name_is_kept_apart() {
    let mut table = Table::new(10 * SECOND, 0, 1);
    let mut scenes = vec![Scene::client(1), Scene::client(2), Scene::new(Role::Client, 3, ("10.0.0.8", 443))];
    // An owner whom another view gave another number is the same.
    scenes[1].owner = Some(owner("a"));
    let mut other = Scene::client(4);
    other.owner = Some(owner("b"));
    let mut named = Scene::client(5);
    let service = ServiceName { namespace: "shop".into(), name: "cart".into() };
    named.peer = Some(Numbered::new(Peer {
        service: Some(Arc::new(service)),
        pod: None,
        source: PeerSource::Service,
    }));
    let (mut nobody, mut elsewhere) = (Scene::client(6), Scene::client(7));
    (nobody.owner, elsewhere.owner) = (None, None);
    elsewhere.transition.cgroup_id = Some(8);
    scenes.extend([other, named, nobody, elsewhere]);
    for scene in &scenes {
        scene.add(&mut table, 0);
    }
    let all = told(&mut table, 0);
    let counts: Vec<_> = all.iter().map(|(_, kept)| kept.sums.connections).collect();
    assert_eq!(counts, [2, 1, 1, 1, 1, 1], "the most first");
    assert_eq!(all.iter().filter(|(_, kept)| kept.peer.is_some()).count(), 1);
    assert_eq!(all.iter().filter(|(_, kept)| kept.owner.is_none()).count(), 2);
}

#[test]
fn what_is_more_than_the_bound_is_one_and_the_last() {
    let mut table = Table::new(10 * SECOND, 0, 1);
    let most = u16::try_from(MAX_OF_TRACE).unwrap();
    for port in 1..=most + 10 {
        Scene::new(Role::Client, 1, ("10.0.0.9", port)).add(&mut table, 0);
    }
    // What is kept already still adds up.
    Scene::new(Role::Client, 1, ("10.0.0.9", 1)).add_where(&mut table, 0, false);
    assert_eq!((table.len(), table.untold(0)), (MAX_OF_TRACE, u64::from(most) + 11));
    let all = told(&mut table, 0);
    assert_eq!(all.len(), MAX_OF_TRACE + 1);
    assert_eq!(all.first().unwrap().1.sums.connections, 2);
    let (common, other) = all.last().unwrap();
    assert!(common.is_none());
    assert_eq!(other.sums.connections, 10);
    Scene::client(1).add_where(&mut table, 0, false);
    assert!(told(&mut table, 0).pop().unwrap().0.is_none(), "other tables have taken the room");
}

#[test]
fn intervals_follow_each_other_however_late_one_is_told() {
    let mut table = Table::new(10 * SECOND, SECOND, 1);
    let scene = Scene::client(1);
    scene.add(&mut table, 2 * SECOND);
    assert_eq!(table.due_ns(), Some(11 * SECOND));
    assert_eq!(told(&mut table, 12 * SECOND)[0].1.from_ns, SECOND);
    scene.add(&mut table, 13 * SECOND);
    assert_eq!(table.due_ns(), Some(21 * SECOND));
    // What was told until then is told.
    assert_eq!(told(&mut table, 21 * SECOND)[0].1.from_ns, 12 * SECOND);
    // After a time without connections an interval does not begin before it would have.
    scene.add(&mut table, 58 * SECOND);
    assert_eq!(table.due_ns(), Some(61 * SECOND));
    assert_eq!(told(&mut table, 59 * SECOND)[0].1.from_ns, 51 * SECOND);
    scene.add(&mut table, 60 * SECOND);
    assert_eq!((table.due_ns(), table.untold(0)), (Some(61 * SECOND), 1));
}

#[test]
fn what_finds_no_room_comes_with_the_next_interval() {
    let mut table = Table::new(10 * SECOND, 0, 1);
    let (much, little) = (Scene::client(1), Scene::new(Role::Client, 1, ("10.0.0.8", 443)));
    for _ in 0..2 {
        much.add(&mut table, 0);
    }
    little.add(&mut table, 0);
    let mut offered = 0;
    table.tell(10 * SECOND, MAX_IN_ALL, |_, _, _, _| {
        offered += 1;
        offered == 1
    });
    assert_eq!((offered, table.untold(0), table.due_ns()), (2, 1, Some(20 * SECOND)));
    for _ in 0..3 {
        little.add(&mut table, 11 * SECOND);
        much.add(&mut table, 11 * SECOND);
        much.add(&mut table, 11 * SECOND);
    }
    let all = told(&mut table, 20 * SECOND);
    let counts: Vec<_> = all.iter().map(|(_, kept)| (kept.from_ns, kept.sums.connections)).collect();
    assert_eq!(counts, [(0, 4), (10 * SECOND, 6)], "the oldest first");
}

/// Offers everything; the outlets of these places have no room. Returns what each of two was told: since when, and how
/// many connections.
fn offer(table: &mut Table, now_ns: u64, full: &[usize]) -> [Vec<(u64, u64)>; 2] {
    let mut told = [Vec::new(), Vec::new()];
    table.tell(now_ns, MAX_IN_ALL, |place, _, kept, _| {
        let has_room = !full.contains(&place);
        if has_room {
            told[place].push((kept.from_ns / SECOND, kept.sums.connections));
        }
        has_room
    });
    told
}

#[test]
fn an_outlet_without_room_keeps_nothing_from_another_and_gets_all_of_it_later() {
    let mut table = Table::new(10 * SECOND, 0, 2);
    let (one, other) = (Scene::client(1), Scene::new(Role::Client, 1, ("10.0.0.8", 443)));
    one.add(&mut table, 0);
    one.add(&mut table, 0);
    other.add(&mut table, 0);
    assert_eq!(offer(&mut table, 10 * SECOND, &[0]), [vec![], vec![(0, 2), (0, 1)]]);
    assert_eq!(offer(&mut table, 10 * SECOND, &[0]), [vec![], vec![]], "nothing comes twice");
    assert_eq!((table.untold(0), table.untold(1), table.len()), (3, 0, 0));
    one.add(&mut table, 11 * SECOND);
    assert_eq!(offer(&mut table, 20 * SECOND, &[1]), [vec![(0, 3), (0, 1)], vec![]]);
    one.add(&mut table, 21 * SECOND);
    assert_eq!((table.untold(0), table.untold(1)), (1, 2));
    assert_eq!(offer(&mut table, 30 * SECOND, &[]), [vec![(20, 1)], vec![(10, 2)]]);
    assert!(table.is_empty());
}

#[test]
fn what_is_owed_to_one_takes_no_room_from_another_and_is_bounded() {
    let most = u16::try_from(MAX_OF_TRACE).unwrap();
    let mut table = Table::new(10 * SECOND, 0, 2);
    for round in 0..3 {
        for port in 1..=most {
            let mut scene = Scene::new(Role::Client, 1, ("10.0.0.9", port));
            // Others each time.
            scene.owner = Some(owner(&format!("{round}-{port}")));
            scene.add(&mut table, round * 10 * SECOND);
        }
        let [_, beside] = offer(&mut table, (round + 1) * 10 * SECOND, &[0]);
        assert_eq!(beside, vec![(round * 10, 1); MAX_OF_TRACE], "round {round}");
    }
    assert_eq!((table.owed(), table.untold(0)), (MAX_OF_TRACE, 3 * u64::from(most)));
    let [own, _] = offer(&mut table, 40 * SECOND, &[]);
    assert_eq!((own.len(), own.last()), (MAX_OF_TRACE + 1, Some(&(10, 2 * u64::from(most)))));
    assert!(table.is_empty() && table.by_name.is_empty());
}

#[test]
fn owners_of_what_is_owed_are_still_told_apart() {
    let mut table = Table::new(10 * SECOND, 0, 1);
    let scenes = ["a", "b"].map(|name| {
        let mut scene = Scene::client(1);
        scene.owner = Some(owner(name));
        scene
    });
    scenes[0].add(&mut table, 0);
    offer(&mut table, 10 * SECOND, &[0]);
    scenes[1].add(&mut table, 11 * SECOND);
    scenes[0].add(&mut table, 11 * SECOND);
    assert_eq!(offer(&mut table, 20 * SECOND, &[])[0], [(0, 2), (10, 1)]);
}
