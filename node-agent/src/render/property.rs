//! The hand-written lines against the types of the events crate, over random events; and how fast they are made.

mod peer;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use kube_tcpstates_common::state::State;
use kube_tcpstates_events as events;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use self::peer::{peer, sample_peer, typed_peer, workload};
use super::fixtures::{Fixture, bare, pod};
use crate::names::{Numbered, Owner, Peer, PodName, ServiceName, TraceName, Workload, WorkloadKind};

use super::{
    AttributionSource, AttributionStatus, Ecs, Errno, FORMATS, Format as _, FormatEntry, FormatOptions, Json,
    MAX_LINE, TextOptions, escape, time,
};
use crate::decode::{Endpoint, OnCpu, OwnerSource, Process, Role, Transition};

/// An event and what its owner and its traces were rendered from.
#[derive(Debug)]
pub(super) struct Sample {
    transition: Transition,
    unix_ns: u64,
    connection_id: u64,
    attribution: events::Attribution,
    owner: Option<Owner>,
    peer: Option<Peer>,
    traces: Vec<TraceName>,
}

impl Sample {
    pub(super) fn fixture(&self) -> Fixture {
        Fixture {
            transition: self.transition,
            unix_ns: self.unix_ns,
            connection_id: self.connection_id,
            attribution: self.attribution,
            owner: self.owner.clone().map(Numbered::new),
            peer: self.peer.clone().map(Numbered::new),
            traces: Numbered::new(self.traces.clone()),
        }
    }

    /// The line by way of the types: plain, slow, and written apart from the code under test.
    fn typed(&self, seq: u64) -> events::Transition {
        let transition = &self.transition;
        let listens = matches!((transition.old_state.0, transition.new_state.0), (_, 10) | (10, 0..=2 | 4..));
        let end = |end: &Endpoint, any: bool| events::Endpoint {
            address: (any || !end.address.is_unspecified()).then(|| end.address.to_string()),
            port: (end.port != 0).then_some(end.port),
        };
        let peer = transition.peer.as_ref().map(|peer| end(peer, false));
        let process = transition.process.as_ref();
        let name = |process: &Process| text_of(&process.comm);
        let container_id = self.owner.as_ref().and_then(|fields| fields.container_id.clone());
        events::Transition {
            time: time::rfc3339(self.unix_ns),
            tcpstates: self.typed_own(seq),
            network: events::Network {
                transport: events::Transport::Tcp,
                kind: transition.family,
                local: end(&transition.local, listens),
                peer: peer.filter(|peer| *peer != events::Endpoint::default()),
                connection: super::event::otel_state(transition.new_state)
                    .map(|state| events::ConnectionState { state: state.to_owned() }),
            },
            error: transition.error.map(|number| events::Failure { kind: Errno(number).to_string() }),
            k8s: self.owner.as_ref().and_then(typed_k8s),
            container: container_id.map(|id| events::Container { id }),
            process: process.map(|process| events::Process { pid: process.pid }),
            thread: process.map(name).filter(|name| !name.is_empty()).map(|name| events::Thread { name }),
        }
    }

    fn typed_own(&self, seq: u64) -> events::TransitionAttributes {
        let transition = &self.transition;
        let state = |state: State| state.name().map_or_else(|| state.0.to_string(), str::to_owned);
        let fields = self.owner.clone().unwrap_or_default();
        let host = events::Host { slice: fields.host_slice, unit: fields.host_unit };
        let netns = events::Netns {
            inode: transition.netns,
            cookie: transition.netns_cookie.map(|cookie| cookie.to_string()),
        };
        let named = |wanted: fn(&TraceName) -> Option<&String>| {
            self.traces.iter().filter_map(wanted).cloned().collect()
        };
        events::TransitionAttributes {
            schema: events::SchemaId::V1,
            run: "5f0c2a91".to_owned(),
            seq,
            old_state: state(transition.old_state),
            new_state: state(transition.new_state),
            state_duration_us: transition.duration_ns.map(|ns| ns / 1000),
            state_duration_since_attach: transition.since_attach && transition.duration_ns.is_some(),
            role: transition.role,
            gap: transition.gap,
            inferred: transition.inferred,
            cause: ((transition.old_state.0, transition.new_state.0) == (2, 7) && transition.error.is_none())
                .then_some(events::Cause::Unknown),
            mptcp: transition.mptcp,
            dual_stack: transition.v4_mapped,
            connection: events::Connection {
                id: format!("{:016x}", self.connection_id),
                community_id: None,
                cookie: transition.cookie.map(|cookie| cookie.to_string()),
                partial: !transition.birth_known,
            },
            owner: transition.process.map(|process| events::Ownership { source: process.source }),
            qos: fields.qos.map(str::to_owned),
            labels_omitted: None,
            container: fields.runtime.map(|runtime| events::ContainerRuntime { runtime: runtime.to_owned() }),
            host: (host != events::Host::default()).then_some(host),
            cgroup: transition.cgroup_id.map(|id| events::Cgroup { id: id.to_string() }),
            peer: self.peer.as_ref().map(typed_peer),
            interface: transition.interface.map(|index| events::Interface { index }),
            netns: (netns != events::Netns::default()).then_some(netns),
            attribution: self.attribution,
            traces: named(|trace| match trace {
                TraceName::Namespaced(name) => Some(name),
                TraceName::Cluster(_) => None,
            }),
            cluster_traces: named(|trace| match trace {
                TraceName::Cluster(name) => Some(name),
                TraceName::Namespaced(_) => None,
            }),
            traces_omitted: None,
        }
    }
}

fn typed_k8s(fields: &Owner) -> Option<Box<events::K8s>> {
    let named = |name: &Option<String>| name.clone().map(|name| events::Named { name });
    let pod = events::Pod {
        name: fields.pod_name.clone(),
        uid: fields.pod_uid.clone(),
        label: fields.pod_labels.iter().map(|(key, value)| (key.replace('.', "_"), value.clone())).collect(),
    };
    let mut k8s = events::K8s {
        cluster: named(&fields.cluster),
        node: named(&fields.node),
        namespace: named(&fields.namespace),
        pod: (pod != events::Pod::default()).then_some(pod),
        container: named(&fields.container_name),
        ..events::K8s::default()
    };
    if let Some(workload) = &fields.workload {
        let slot = match workload.kind {
            WorkloadKind::Deployment => &mut k8s.deployment,
            WorkloadKind::ReplicaSet => &mut k8s.replicaset,
            WorkloadKind::StatefulSet => &mut k8s.statefulset,
            WorkloadKind::DaemonSet => &mut k8s.daemonset,
            WorkloadKind::Job => &mut k8s.job,
            WorkloadKind::CronJob => &mut k8s.cronjob,
        };
        *slot = Some(events::Named { name: workload.name.clone() });
    }
    (k8s != events::K8s::default()).then(|| Box::new(k8s))
}

/// A comm as text: up to the first NUL, bytes that are not UTF-8 spelled out.
fn text_of(comm: &[u8; 16]) -> String {
    let name = comm.split(|&byte| byte == 0).next().unwrap_or_default();
    let spelled = |chunk: std::str::Utf8Chunk<'_>| {
        let invalid: Vec<_> = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("{}{}", chunk.valid(), invalid.concat())
    };
    name.utf8_chunks().map(spelled).collect()
}

/// Text within every bound, of any characters.
fn text() -> impl Strategy<Value = Option<String>> {
    option::of(prop::collection::vec(any::<char>(), 1..8).prop_map(String::from_iter))
}

fn ends() -> impl Strategy<Value = (Endpoint, Option<Endpoint>)> {
    let v4 = || prop_oneof![Just(Ipv4Addr::UNSPECIFIED), any::<Ipv4Addr>()].prop_map(IpAddr::V4);
    let v6 = || {
        let sparse = prop::collection::vec(prop_oneof![Just(0), any::<u16>()], 8)
            .prop_map(|parts| Ipv6Addr::from(<[u16; 8]>::try_from(parts).unwrap()));
        prop_oneof![Just(Ipv6Addr::UNSPECIFIED), sparse].prop_map(IpAddr::V6)
    };
    let port = || prop_oneof![Just(0), any::<u16>()];
    let end = |(address, port)| Endpoint { address, port };
    prop_oneof![
        ((v4(), port()).prop_map(end), option::of((v4(), port()).prop_map(end))),
        ((v6(), port()).prop_map(end), option::of((v6(), port()).prop_map(end))),
    ]
}

prop_compose! {
    fn process()(
        pid in any::<u32>(),
        comm in any::<[u8; 16]>(),
        source in prop::sample::select(vec![
            OwnerSource::Connect, OwnerSource::Listen, OwnerSource::Accept, OwnerSource::Close, OwnerSource::Kernel,
            OwnerSource::Descriptor,
        ]),
    ) -> Process {
        Process { pid, comm, source, noted_ns: 0 }
    }
}

prop_compose! {
    fn transition()(
        (local, peer) in ends(),
        states in (0_u8..16, 0_u8..16),
        duration_ns in option::of(any::<u64>()),
        flags in any::<[bool; 6]>(),
        role in option::of(prop::sample::select(vec![Role::Client, Role::Server])),
        error in option::of(1_u32..600),
        ids in (option::of(any::<u64>()), option::of(any::<u64>()), option::of(any::<u64>())),
        netns in option::of(any::<u32>()),
        interface in option::of(any::<u32>()),
        process in option::of(process()),
        on_cpu in any::<(u32, [u8; 16])>(),
    ) -> Transition {
        let [since_attach, v4_mapped, mptcp, birth_known, gap, inferred] = flags;
        Transition {
            duration_ns, since_attach, v4_mapped, mptcp, peer, role, error, birth_known, gap, inferred,
            cookie: ids.0, cgroup_id: ids.1, netns_cookie: ids.2, netns, interface, process,
            on_cpu: OnCpu { pid: on_cpu.0, comm: on_cpu.1 },
            ..bare(State(states.0), State(states.1), local)
        }
    }
}

prop_compose! {
    fn owner()(
        ids in (text(), text(), option::of(Just("cri-o")), option::of(Just("guaranteed"))),
        names in (text(), text(), text(), text(), text()),
        workload in workload(),
        pod_labels in prop::collection::btree_map("[a-z./\"]{1,20}", "[a-z\"\n]{0,9}", 0..3),
        host in (text(), text()),
    ) -> Owner {
        Owner {
            container_id: ids.0, pod_uid: ids.1, runtime: ids.2, qos: ids.3,
            pod_name: names.0, namespace: names.1, container_name: names.2, node: names.3, cluster: names.4,
            workload,
            pod_labels: pod_labels.into_iter().collect(),
            host_slice: host.0, host_unit: host.1,
        }
    }
}

prop_compose! {
    pub(super) fn sample()(
        transition in transition(),
        unix_ns in any::<u64>(),
        connection_id in any::<u64>(),
        source in prop::sample::select(vec![
            AttributionSource::SocketCgroup, AttributionSource::TaskCgroup, AttributionSource::Netns, AttributionSource::Task,
            AttributionSource::None,
        ]),
        status in prop::sample::select(vec![
            AttributionStatus::Resolved, AttributionStatus::PendingExpired, AttributionStatus::Host,
            AttributionStatus::Unknown,
        ]),
        owner in option::of(owner()),
        peer in option::of(peer()),
        traces in prop::collection::vec(
            prop_oneof![
                "[a-z]{1,9}/[a-z\"]{1,9}".prop_map(TraceName::Namespaced),
                "[a-z]{1,9}".prop_map(TraceName::Cluster),
            ],
            0..4,
        ),
    ) -> Sample {
        let attribution = events::Attribution { source, status };
        Sample { transition, unix_ns, connection_id, attribution, owner, peer, traces }
    }
}

/// What every line of text for a machine must be: one line, under the bound, nothing in it that acts.
pub(super) fn assert_sound(line: &[u8]) -> String {
    assert_sound_below(MAX_LINE, line)
}

/// The same, under a format's own bound.
pub(super) fn assert_sound_below(longest: usize, line: &[u8]) -> String {
    let text = String::from_utf8(line.to_vec()).unwrap();
    assert!(text.len() < longest, "{} bytes: {text}", text.len());
    assert!(!text.strip_suffix('\n').unwrap().chars().any(escape::acts), "{text}");
    text
}

proptest! {
    #[test]
    fn a_hand_written_line_is_the_one_its_type_serialises_to(sample in sample(), seq in any::<u64>()) {
        let mut out = Vec::new();
        Json::new(0x5f0c_2a91).transition(&mut out, seq, &sample.fixture().event());
        let text = assert_sound(&out);
        // By way of the kind's own type, which takes no name twice.
        let parsed: events::Transition = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&parsed, &sample.typed(seq));
        let line = events::Line::Transition(Box::new(parsed));
        prop_assert_eq!(&serde_json::from_str::<events::Line>(&text).unwrap(), &line);
        // Nothing stands on the line that the types do not know.
        prop_assert_eq!(serde_json::to_value(&line).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
    }

    #[test]
    fn an_ecs_line_says_the_same_as_the_json_line(sample in sample(), seq in any::<u64>()) {
        let mut out = Vec::new();
        Ecs::new(0x5f0c_2a91).transition(&mut out, seq, &sample.fixture().event());
        let mut ecs: Value = serde_json::from_str(&assert_sound(&out)).unwrap();
        let json = serde_json::to_value(sample.typed(seq)).unwrap();
        for (ours, theirs) in [
            ("/time", "/@timestamp"),
            ("/tcpstates/seq", "/event/sequence"),
            ("/network/type", "/network/type"),
            ("/network/connection/state", "/tcpstates/connection/state"),
            ("/error/type", "/error/type"),
            ("/container/id", "/container/id"),
            ("/tcpstates/container/runtime", "/container/runtime"),
            ("/k8s/container/name", "/container/name"),
            ("/k8s/pod/name", "/orchestrator/resource/name"),
            ("/k8s/pod/uid", "/orchestrator/resource/id"),
            ("/k8s/pod/label", "/tcpstates/pod/label"),
            ("/k8s/namespace/name", "/orchestrator/namespace"),
            ("/k8s/cluster/name", "/orchestrator/cluster/name"),
            ("/k8s/node/name", "/host/name"),
            ("/process/pid", "/process/pid"),
            ("/thread/name", "/process/thread/name"),
        ] {
            prop_assert_eq!(json.pointer(ours), ecs.pointer(theirs), "{}", theirs);
        }
        let near = if sample.transition.role == Some(Role::Server) { "destination" } else { "source" };
        prop_assert_eq!(json.pointer("/network/local/address"), ecs.pointer(&format!("/{near}/ip")));
        prop_assert_eq!(json.pointer("/network/local/port"), ecs.pointer(&format!("/{near}/port")));
        let workload = sample.owner.and_then(|owner| owner.workload);
        let workload = workload.map(|it| json!({"kind": it.kind.as_str(), "name": it.name}));
        prop_assert_eq!(ecs.pointer("/tcpstates/workload"), workload.as_ref());
        // Without what ECS has no field for, the object is the one of the JSON line.
        for (parent, only_in_ecs) in
            [("/tcpstates/connection", "state"), ("/tcpstates", "workload"), ("/tcpstates", "pod")]
        {
            ecs.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(only_in_ecs);
        }
        prop_assert_eq!(&json["tcpstates"], &ecs["tcpstates"]);
    }

    #[test]
    fn a_table_and_csv_have_one_line_each_with_nothing_in_it_that_acts(sample in sample()) {
        let options = TextOptions { wide: true, ..TextOptions::default() };
        let fixture = sample.fixture();
        let options = FormatOptions { text: options, ..FormatOptions::default() };
        for columns in FORMATS.iter().filter(|format| format.columns) {
            let mut out = Vec::new();
            (columns.make)(&options).transition(&mut out, 0, &fixture.event());
            assert_sound(&out);
        }
    }
}

/// Everything as long as it can be and longer.
pub(super) fn worst() -> Fixture {
    let long = || Some("\u{1b}\"".repeat(5_000));
    let address = "fd00:1111:2222:3333:4444:5555:6666:7777".parse().unwrap();
    let end = Endpoint { address, port: u16::MAX };
    let transition = Transition {
        duration_ns: Some(u64::MAX),
        since_attach: true,
        v4_mapped: true,
        mptcp: true,
        gap: true,
        inferred: true,
        birth_known: false,
        peer: Some(end),
        role: Some(Role::Client),
        error: Some(u32::MAX),
        cookie: Some(u64::MAX),
        cgroup_id: Some(u64::MAX),
        netns: Some(u32::MAX),
        interface: Some(u32::MAX),
        netns_cookie: Some(u64::MAX),
        process: Some(Process {
            pid: u32::MAX,
            comm: [0x1b; 16],
            source: OwnerSource::Descriptor,
            noted_ns: 0,
        }),
        ..bare(State::NEW_SYN_RECV, State::ESTABLISHED, end)
    };
    let owner = Owner {
        container_id: long(),
        pod_uid: long(),
        pod_name: long(),
        namespace: long(),
        container_name: long(),
        node: long(),
        cluster: long(),
        workload: long().map(|name| Workload { kind: WorkloadKind::StatefulSet, name }),
        pod_labels: (0..100).map(|n| (format!("{n}"), "\"".repeat(1_000))).collect(),
        host_slice: long(),
        host_unit: long(),
        ..pod()
    };
    let namespace: Arc<str> = "\u{1b}".repeat(5_000).into();
    let peer = Peer {
        service: Some(Arc::new(ServiceName {
            namespace: Arc::clone(&namespace),
            name: Arc::clone(&namespace),
        })),
        pod: Some(Arc::new(PodName {
            name: (&*namespace).into(),
            uid: (&*namespace).into(),
            namespace,
            workload: long().map(|name| Workload { kind: WorkloadKind::StatefulSet, name }),
        })),
        source: events::PeerSource::EndpointSlice,
    };
    let trace = |n: usize| {
        if n.is_multiple_of(2) { TraceName::Namespaced } else { TraceName::Cluster }
    };
    let names: Vec<_> = (0..64).map(|n| trace(n)(format!("{n:\u{1b}>500}"))).collect();
    Fixture {
        transition,
        unix_ns: u64::MAX,
        owner: Some(Numbered::new(owner)),
        peer: Some(Numbered::new(peer)),
        traces: Numbered::new(names),
        ..Fixture::client()
    }
}

#[test]
fn the_longest_line_there_can_be_is_under_the_bound_in_every_format() {
    let options = TextOptions { wide: true, since_first: true, ..TextOptions::default() };
    let options = FormatOptions { text: options, run: 0 };
    for format in FORMATS {
        let mut out = Vec::new();
        (format.make)(&options).transition(&mut out, u64::MAX, &worst().event());
        let text = assert_sound_below(format.longest, &out);
        if text.starts_with('{') {
            assert!(serde_json::from_str::<Value>(&text).is_ok());
            assert!(text.contains("labels_omitted") && text.contains("traces_omitted"));
        }
    }
}

#[test]
fn names_of_the_other_end_are_left_out_where_they_would_make_a_line_too_long() {
    let peer = |fixture: &Fixture| {
        FORMATS
            .iter()
            .filter(|format| written_by_hand(format))
            .map(|format| {
                let mut out = b"before\n".to_vec();
                (format.make)(&FormatOptions::default()).transition(&mut out, 1, &fixture.event());
                let line: Value = serde_json::from_slice(&out["before\n".len()..]).unwrap();
                line["tcpstates"].get("peer").is_some()
            })
            .collect::<Vec<_>>()
    };
    let mut fixture = Fixture { peer: worst().peer, ..Fixture::client() };
    assert_eq!(peer(&fixture), [true, true]);
    fixture.owner = worst().owner;
    fixture.traces = worst().traces;
    fixture.transition = worst().transition;
    assert_eq!(peer(&fixture), [false, false]);
}

/// The lines of OpenTelemetry are made of the JSON lines, by way of a document.
pub(super) fn written_by_hand(format: &FormatEntry) -> bool {
    !format.columns && format.name != "otlp-json"
}

#[test]
fn in_steady_state_a_document_takes_no_allocation_with_the_other_end_or_without() {
    let with = Fixture { peer: Some(Numbered::new(sample_peer())), ..Fixture::client() };
    for fixture in [Fixture::client(), with] {
        for format in FORMATS.iter().filter(|format| written_by_hand(format)) {
            let mut format = (format.make)(&FormatOptions::default());
            let mut out = Vec::with_capacity(2 * MAX_LINE);
            let mut line = || {
                out.clear();
                format.transition(&mut out, 1, &fixture.event());
            };
            line();
            assert_eq!(allocation_counter::measure(line).count_total, 0);
        }
    }
}
