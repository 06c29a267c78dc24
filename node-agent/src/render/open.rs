//! The lines of what is open: `socket`, `listener`, `time_wait` and `snapshot`.

use kube_tcpstates_events::{
    AcceptQueue, HalfOpen, K8s, Line, Listener, ListenerAttributes, SchemaId, Shown, Snapshot,
    SnapshotAttributes, Socket, SocketAttributes, TimeWait, TimeWaitAttributes,
};

use super::{
    event::Event,
    peer,
    time::rfc3339,
    traces,
    whose::{self, Around},
};
use crate::{
    decode::Transition,
    names::{Owner, TraceNames},
    open::{Counts, Figures, Queue, What},
};

/// What the lines of one snapshot have in common.
#[derive(Clone, Debug)]
pub struct Of {
    /// Names the run, 8 hex digits.
    pub run: String,
    /// When it was taken, ns since the epoch.
    pub unix_ns: u64,
}

/// The line of an open socket. `id` is its connection's, where a tracer has a record of it.
pub fn socket_line(of: &Of, event: &Event<'_>, what: &What, id: Option<u64>) -> Line {
    match what {
        What::Connection(figures) => Line::Socket(Box::new(socket(of, event, figures, id))),
        What::Listener(queue) => Line::Listener(Box::new(listener(of, event, queue, id))),
    }
}

fn socket(of: &Of, event: &Event<'_>, figures: &Figures, id: Option<u64>) -> Socket {
    let Around { network, k8s, container, process, thread } = Around::of(event);
    let transition = event.transition;
    let state = transition.new_state;
    let tcpstates = SocketAttributes {
        schema: SchemaId::V1,
        run: of.run.clone(),
        seq: 0,
        state: state.name().map_or_else(|| state.0.to_string(), str::to_owned),
        state_age_us: age_us(transition),
        state_age_since_attach: transition.since_attach,
        idle_us: figures.idle_ns.map(|ns| ns / 1000),
        unread_bytes: figures.unread_bytes,
        unsent_bytes: figures.unsent_bytes,
        retransmits_pending: figures.retransmits,
        peer: event.peer.map(|known| Box::new(peer::line(known))),
        open: whose::own(event, id),
    };
    Socket { time: rfc3339(of.unix_ns), tcpstates, network, k8s, container, process, thread }
}

fn listener(of: &Of, event: &Event<'_>, queue: &Queue, id: Option<u64>) -> Listener {
    let Around { network, k8s, container, process, thread } = Around::of(event);
    let transition = event.transition;
    let tcpstates = ListenerAttributes {
        schema: SchemaId::V1,
        run: of.run.clone(),
        seq: 0,
        state_age_us: age_us(transition),
        state_age_since_attach: transition.since_attach,
        accept_queue: AcceptQueue { length: queue.length, limit: queue.limit, drops: queue.drops },
        half_open: HalfOpen { count: queue.half_open, acknowledged: queue.acknowledged },
        open: whose::own(event, id),
    };
    Listener { time: rfc3339(of.unix_ns), tcpstates, network, k8s, container, process, thread }
}

fn age_us(transition: &Transition) -> Option<u64> {
    transition.duration_ns.map(|ns| ns / 1000)
}

/// How many connections of a network namespace are in `TIME_WAIT`, and how many more wait for their peer's FIN. One of
/// them says which namespace it is.
pub fn time_wait_line(
    of: &Of,
    one: &Transition,
    (count, fin_wait2): (u64, u64),
    owner: Option<&Owner>,
    names: &TraceNames,
) -> Line {
    let (traces, cluster_traces, traces_omitted) = traces::lists(names);
    let tcpstates = TimeWaitAttributes {
        schema: SchemaId::V1,
        run: of.run.clone(),
        seq: 0,
        count,
        fin_wait2,
        netns: whose::netns(one),
        traces,
        cluster_traces,
        traces_omitted,
    };
    let k8s = owner.and_then(whose::k8s).map(Box::new);
    let container = owner.and_then(whose::container);
    Line::TimeWait(Box::new(TimeWait { time: rfc3339(of.unix_ns), tcpstates, k8s, container }))
}

/// The end of a snapshot.
pub fn snapshot_line(
    of: &Of,
    counts: &Counts,
    (time_wait, is_incomplete): (u64, bool),
    k8s: Option<K8s>,
    names: &TraceNames,
) -> Line {
    let (traces, cluster_traces, _) = traces::lists(names);
    let shown = |(open, shown): (u64, u64)| Shown { open, shown, left_out: open - shown };
    let tcpstates = SnapshotAttributes {
        schema: SchemaId::V1,
        run: of.run.clone(),
        seq: 0,
        sockets: shown(counts.sockets),
        listeners: shown(counts.listeners),
        time_wait,
        incomplete: is_incomplete,
        traces,
        cluster_traces,
    };
    let k8s = k8s.map(Box::new);
    Line::Snapshot(Box::new(Snapshot { time: rfc3339(of.unix_ns), tcpstates, k8s }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kube_tcpstates_common::state::State;
    use kube_tcpstates_events::{Line, PeerSource};
    use serde_json::Value;

    use super::{Of, snapshot_line, socket_line, time_wait_line};
    use crate::{
        decode::Endpoint,
        names::{Numbered, Owner, Peer, PodName, ServiceName, TraceName, Workload, WorkloadKind},
        open::{Counts, Figures, Queue, What},
        render::{MAX_LINE, fixtures::Fixture, line},
    };

    fn of() -> Of {
        Of { run: "5f0c2a91".to_owned(), unix_ns: Fixture::client().event().unix_ns }
    }

    fn leaked() -> Fixture {
        let mut fixture = Fixture::client();
        (fixture.transition.old_state, fixture.transition.new_state) = (State::CLOSE_WAIT, State::CLOSE_WAIT);
        fixture
    }

    fn figures() -> What {
        let (idle_ns, retransmits) = (Some(33_400_000_999), Some(0));
        What::Connection(Figures { idle_ns, unread_bytes: Some(417), unsent_bytes: Some(0), retransmits })
    }

    fn json(line: &Line) -> String {
        let mut out = Vec::new();
        line::json(&mut out, line);
        String::from_utf8(out).unwrap()
    }

    fn ecs(line: &Line) -> Value {
        let mut out = Vec::new();
        line::ecs(&mut out, line);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_connection_of_which_everything_is_known() {
        assert_eq!(
            json(&socket_line(&of(), &leaked().event(), &figures(), Some(0x9f2c))).trim_end(),
            r#"{"time":"2026-11-22T15:25:01.123456789Z","tcpstates":{"type":"socket","schema":"tcpstates.dev/events/v1","run":"5f0c2a91","seq":0,"state":"CLOSE_WAIT","state_age_us":433,"idle_us":33400000,"unread_bytes":417,"unsent_bytes":0,"retransmits_pending":0,"role":"client","connection":{"id":"0000000000009f2c","cookie":"16386"},"owner":{"source":"connect"},"qos":"burstable","container":{"runtime":"containerd"},"cgroup":{"id":"7421"},"netns":{"inode":4026532281},"attribution":{"source":"socket_cgroup","status":"resolved"},"traces":["shop/checkout-egress"],"cluster_traces":["all-https"]},"network":{"transport":"tcp","type":"ipv4","local":{"address":"10.1.2.3","port":43512},"peer":{"address":"10.9.8.7","port":443},"connection":{"state":"close_wait"}},"k8s":{"cluster":{"name":"prod"},"node":{"name":"n1"},"namespace":{"name":"shop"},"pod":{"name":"checkout-7d4f","uid":"0b8e7c52-9f3e-4d1a-8c55-1f0e2d3c4b5a","label":{"app":"checkout","app_kubernetes_io/part-of":"shop"}},"container":{"name":"app"},"deployment":{"name":"checkout"}},"container":{"id":"4f1e0c9a7b21d6534f1e0c9a7b21d6534f1e0c9a7b21d6534f1e0c9a7b21d653"},"process":{"pid":4242},"thread":{"name":"checkout"}}"#
        );
    }

    #[test]
    fn the_other_end_is_named_where_it_is_known() {
        let mut fixture = leaked();
        let cart = ServiceName { namespace: "shop".into(), name: "cart".into() };
        fixture.peer = Some(Numbered::new(Peer {
            service: Some(Arc::new(cart)),
            pod: None,
            source: PeerSource::Service,
        }));
        let line = socket_line(&of(), &fixture.event(), &figures(), None);
        let peer =
            r#""peer":{"k8s":{"namespace":{"name":"shop"},"service":{"name":"cart"}},"source":"service"},"#;
        assert!(json(&line).contains(peer), "{}", json(&line));
        assert_eq!(ecs(&line).pointer("/tcpstates/peer/k8s/service/name"), Some(&"cart".into()));
        // A listener has none.
        let listener = socket_line(&of(), &fixture.event(), &What::Listener(Queue::default()), None);
        assert!(!json(&listener).contains("cart"));
    }

    #[test]
    fn a_listener_shows_its_unspecified_address_and_what_the_kernel_does_not_tell_is_absent() {
        let mut fixture = Fixture::listener();
        fixture.transition.old_state = State::LISTEN;
        fixture.transition.duration_ns = None;
        let queue = Queue { length: Some(3), limit: Some(2), ..Queue::default() };
        let line = json(&socket_line(&of(), &fixture.event(), &What::Listener(queue), None));
        assert!(
            line.contains(r#""accept_queue":{"length":3,"limit":2},"half_open":{},"role":"server","owner""#),
            "{line}"
        );
        assert!(
            line.contains(r#""local":{"address":"0.0.0.0","port":8080},"connection":{"state":"listen"}}"#),
            "{line}"
        );
    }

    #[test]
    fn a_snapshot_ends_with_what_there_was() {
        let names = Numbered::new(vec![TraceName::Namespaced("shop/leaks".to_owned())]);
        let counts = Counts { sockets: (50, 20), listeners: (1, 1) };
        assert_eq!(
            json(&snapshot_line(&of(), &counts, (7, true), None, &names)).trim_end(),
            r#"{"time":"2026-11-22T15:25:01.123456789Z","tcpstates":{"type":"snapshot","schema":"tcpstates.dev/events/v1","run":"5f0c2a91","seq":0,"sockets":{"open":50,"shown":20,"left_out":30},"listeners":{"open":1,"shown":1,"left_out":0},"time_wait":7,"incomplete":true,"traces":["shop/leaks"]}}"#
        );
    }

    #[test]
    fn in_ecs_a_client_is_the_source_and_the_pod_a_resource() {
        let line = ecs(&socket_line(&of(), &leaked().event(), &figures(), None));
        for (pointer, expected) in [
            ("/event/kind", "state"),
            ("/event/dataset", "tcpstates.socket"),
            ("/source/ip", "10.1.2.3"),
            ("/client/address", "10.1.2.3"),
            ("/destination/ip", "10.9.8.7"),
            ("/network/direction", "egress"),
            ("/orchestrator/resource/name", "checkout-7d4f"),
            ("/orchestrator/namespace", "shop"),
            ("/host/name", "n1"),
            ("/container/name", "app"),
            ("/process/thread/name", "checkout"),
            ("/tcpstates/pod/label/app", "checkout"),
            ("/tcpstates/workload/kind", "deployment"),
            ("/tcpstates/state", "CLOSE_WAIT"),
        ] {
            assert_eq!(line.pointer(pointer).and_then(Value::as_str), Some(expected), "{pointer}: {line}");
        }
        assert!(line.get("k8s").is_none() && line.pointer("/process/pid").is_some(), "{line}");
    }

    #[test]
    fn every_line_is_valid_by_the_published_schema_and_short_whatever_the_names() {
        let schema = serde_json::to_value(kube_tcpstates_events::schema::json_schema()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let long = |text: &str| Some(text.repeat(300));
        let mut fixture = leaked();
        fixture.transition.local = Endpoint { address: [0xfd00; 8].into(), port: 65_535 };
        fixture.transition.process = fixture.transition.process.map(|mut process| {
            process.comm = [0xff; 16];
            process
        });
        let owner = Owner {
            container_id: long("\u{1b}"),
            pod_uid: long("u"),
            pod_name: long("ż"),
            namespace: long("\"n"),
            node: long("\u{202e}"),
            cluster: long("c"),
            host_slice: long("\u{1b}"),
            host_unit: long("\u{1b}"),
            pod_labels: (0..30).map(|n| (format!("{n}/{}", "k".repeat(250)), "v".repeat(63))).collect(),
            ..Owner::default()
        };
        let owner = Numbered::new(owner);
        let names = Numbered::new(
            (0..64).map(|n| TraceName::Namespaced(format!("{n}/{}", "t".repeat(300)))).collect(),
        );
        let long_name = |text: &str| text.repeat(300).into_boxed_str();
        let pod = PodName {
            namespace: long_name("n").into(),
            name: long_name("p"),
            uid: long_name("u"),
            workload: Some(Workload { kind: WorkloadKind::Deployment, name: "w".repeat(300) }),
        };
        let service = ServiceName { namespace: long_name("n").into(), name: long_name("s").into() };
        let peer = Numbered::new(Peer {
            service: Some(Arc::new(service)),
            pod: Some(Arc::new(pod)),
            source: PeerSource::EndpointSlice,
        });
        let event = crate::render::Event {
            owner: Some(&owner),
            traces: &names,
            peer: Some(&peer),
            ..fixture.event()
        };
        let lines = [
            socket_line(&of(), &event, &figures(), Some(1)),
            socket_line(&of(), &event, &What::Listener(Queue::default()), None),
            time_wait_line(&of(), &fixture.transition, (5, 2), Some(&owner), &names),
            snapshot_line(&of(), &Counts::default(), (0, false), None, &names),
        ];
        for mut line in lines {
            let text = json(&line);
            // There is no room for both ends.
            if let Line::Socket(socket) = &mut line {
                assert!(socket.tcpstates.peer.take().is_some());
            }
            assert!(text.len() < MAX_LINE, "{}: {text}", text.len());
            let read = serde_json::from_str(&text).unwrap();
            assert_eq!(validator.iter_errors(&read).map(|error| error.to_string()).next(), None, "{text}");
            assert!(serde_json::to_vec(&ecs(&line)).unwrap().len() < MAX_LINE);
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
        }
    }
}
