use std::sync::Arc;

use kube_tcpstates_events::{Line, PeerSource};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    connection::{OfKernel, Story},
    filter::Mode,
    names::{Numbered, Owner, Peer, PodName, ServiceName, TraceName, Workload, WorkloadKind},
    render::{
        Csv, Format as _, MAX_LINE, Table as Columns, TextOptions,
        fixtures::{Fixture, pod},
        line,
    },
    summary::{Seen, Table},
};

const SECOND: u64 = 1_000_000_000;
/// 2026-11-22T15:25:01.123456789Z
const NOW: u64 = 1_795_361_101_123_456_789;

/// The lines of a table with what a fixture ends, added so many times; the last is what there was no room for.
fn lines(fixture: &Fixture, owner: Option<Owner>, times: u32) -> Vec<SummaryLine> {
    let owner = owner.map(|owner| Arc::new(Numbered::new(owner)));
    let mut table = Table::new(10 * SECOND, 0, 1);
    let figures = bytemuck::Zeroable::zeroed();
    let transition = crate::decode::Transition { figures: Some(figures), ..fixture.transition };
    let of_kernel = OfKernel { jiffy_ns: 1, resets_watched: true };
    let story = Story::of(&transition, of_kernel).unwrap();
    let seen = Seen {
        transition: &transition,
        story: &story,
        attribution: fixture.attribution,
        owner: owner.as_ref(),
        peer: fixture.peer.as_ref(),
    };
    for _ in 0..times {
        table.add(&seen, || 0, true);
    }
    let elsewhere = crate::decode::Transition { role: None, ..transition };
    table.add(&Seen { transition: &elsewhere, ..seen }, || 0, false);
    let of = Of { run: "5f0c2a91".to_owned(), unix_ns: NOW };
    let mut lines = Vec::new();
    table.tell(10 * SECOND, 0, |_, common, kept, period| {
        let added = Added { common, kept, period, from_unix_ns: NOW - 10 * SECOND };
        lines.push(summary_line(&of, &added, None, &fixture.traces));
        true
    });
    lines
}

fn json(line: &SummaryLine) -> String {
    let mut out = Vec::new();
    line::json(&mut out, &Line::Summary(Box::new(line.clone())));
    String::from_utf8(out).unwrap()
}

fn peer_of(name: &str) -> Numbered<Peer> {
    Numbered::new(Peer {
        service: Some(Arc::new(ServiceName { namespace: "shop".into(), name: name.into() })),
        pod: Some(Arc::new(PodName {
            namespace: "shop".into(),
            name: name.into(),
            uid: name.into(),
            workload: Some(Workload { kind: WorkloadKind::Deployment, name: name.to_owned() }),
        })),
        source: PeerSource::EndpointSlice,
    })
}

#[test]
fn a_summary_says_who_talked_to_whom_and_how_much() {
    let mut fixture = Fixture::client();
    fixture.peer = Some(peer_of("cart"));
    let all = lines(&fixture, Some(Owner { pod_labels: Vec::new(), ..pod() }), 3);
    let [line, other] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(
        json(line).trim_end(),
        r#"{"time":"2026-11-22T15:25:01.123456789Z","tcpstates":{"type":"summary","schema":"tcpstates.dev/events/v1","run":"5f0c2a91","seq":0,"role":"client","summary":{"from":"2026-11-22T15:24:51.123456789Z","interval_s":10,"connections":3,"by_outcome":{"unknown":3},"unmeasured":3,"syn_retransmits":0,"duration":{"count":3,"mean_us":0,"max_us":0}},"qos":"burstable","container":{"runtime":"containerd"},"peer":{"k8s":{"namespace":{"name":"shop"},"service":{"name":"cart"},"pod":{"name":"cart","uid":"cart"},"deployment":{"name":"cart"}},"source":"endpointslice"},"attribution":{"source":"socket_cgroup","status":"resolved"},"traces":["shop/checkout-egress"],"cluster_traces":["all-https"]},"network":{"transport":"tcp","type":"ipv4","peer":{"address":"10.9.8.7","port":443}},"k8s":{"cluster":{"name":"prod"},"node":{"name":"n1"},"namespace":{"name":"shop"},"pod":{"name":"checkout-7d4f","uid":"0b8e7c52-9f3e-4d1a-8c55-1f0e2d3c4b5a"},"container":{"name":"app"},"deployment":{"name":"checkout"}},"container":{"id":"4f1e0c9a7b21d6534f1e0c9a7b21d6534f1e0c9a7b21d6534f1e0c9a7b21d653"}}"#
    );
    let other = json(other);
    assert!(other.contains(r#""interval_s":10,"other":true,"connections":1,"#), "{other}");
    assert!(
        !other.contains("network") && !other.contains("k8s") && !other.contains("attribution"),
        "{other}"
    );
}

#[test]
fn a_server_shows_its_own_port_and_ecs_the_peer_as_the_source() {
    let mut fixture = Fixture::client();
    fixture.transition.role = Some(Role::Server);
    fixture.transition.local.port = 8080;
    let line = lines(&fixture, None, 1).remove(0);
    let text = json(&line);
    assert!(text.contains(r#""local":{"port":8080},"peer":{"address":"10.9.8.7"}}"#), "{text}");
    assert!(text.contains(r#""cgroup":{"id":"7421"}"#), "{text}");
    let mut out = Vec::new();
    line::ecs(&mut out, &Line::Summary(Box::new(line)));
    let ecs: Value = serde_json::from_slice(&out).unwrap();
    for (pointer, expected) in [
        ("/event/kind", "metric"),
        ("/event/dataset", "tcpstates.summary"),
        ("/source/ip", "10.9.8.7"),
        ("/network/direction", "ingress"),
        ("/tcpstates/summary/from", "2026-11-22T15:24:51.123456789Z"),
    ] {
        assert_eq!(ecs.pointer(pointer).and_then(Value::as_str), Some(expected), "{pointer}: {ecs}");
    }
    assert_eq!(ecs.pointer("/destination/port"), Some(&8080.into()), "{ecs}");
}

#[test]
fn columns_have_one_header_and_are_no_wider_than_a_terminal() {
    let mut fixture = Fixture::client();
    fixture.peer = Some(peer_of("a-service-with-a-very-long-name-indeed"));
    let all = lines(&fixture, Some(pod()), 12_345);
    let shown = |wide| {
        let table = Columns::new(&TextOptions { wide, mode: Mode::Summary, ..TextOptions::default() });
        let mut out = Vec::new();
        table.header(&mut out);
        for line in &all {
            table.line(&mut out, &Line::Summary(Box::new(line.clone())));
        }
        String::from_utf8(out).unwrap()
    };
    let text = shown(false);
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    assert_eq!(
        text.lines().next().unwrap(),
        "TIME     OWNER                        SIDE   PEER                         PORT  CONNS   FAILED  SENT       RECEIVED"
    );
    assert!(
        text.lines().nth(1).unwrap().starts_with("15:25:01 shop/checkout-7d4f           client shop/"),
        "{text}"
    );
    assert!(text.lines().nth(1).unwrap().ends_with(" 443   12345   12345   -          -"), "{text}");
    assert!(text.lines().nth(2).unwrap().starts_with("15:25:01 (others) "), "{text}");
    let unit = Owner { host_unit: Some("u".repeat(99)), ..Owner::default() };
    let table = Columns::new(&TextOptions { mode: Mode::Summary, ..TextOptions::default() });
    let mut out = Vec::new();
    table.line(&mut out, &Line::Summary(Box::new(lines(&fixture, Some(unit), 1).remove(0))));
    assert!(out.len() <= 120, "{}", String::from_utf8_lossy(&out));
    assert!(shown(true).contains("shop/a-service-with-a-very-long-name-indeed"));
    let csv = Csv::new(&TextOptions { mode: Mode::Summary, ..TextOptions::default() });
    let mut out = Vec::new();
    csv.header(&mut out);
    for line in &all {
        csv.line(&mut out, &Line::Summary(Box::new(line.clone())));
    }
    let text = String::from_utf8(out).unwrap();
    let fields: Vec<_> = text.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(fields, [19; 3], "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_line_is_valid_by_the_published_schema_and_short_whatever_the_names(
        name in "\\PC{0,40}|[\u{1b}\u{202e}\"\\\\]{200,400}", times in 1_u32..4, role in 0_usize..3,
    ) {
        let schema = serde_json::to_value(kube_tcpstates_events::schema::json_schema()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let some = || Some(name.repeat(3));
        let owner = Owner {
            container_id: some(),
            pod_uid: some(),
            pod_name: some(),
            namespace: some(),
            node: some(),
            cluster: some(),
            host_slice: some(),
            host_unit: some(),
            pod_labels: (0..30).map(|n| (format!("{n}/{name}"), name.clone())).collect(),
            workload: Some(Workload { kind: WorkloadKind::Job, name: name.repeat(3) }),
            ..Owner::default()
        };
        let mut fixture = Fixture::client();
        fixture.peer = Some(peer_of(&name.repeat(3)));
        fixture.transition.role = [None, Some(Role::Client), Some(Role::Server)][role];
        fixture.traces = Numbered::new((0..9).map(|n| TraceName::Cluster(format!("{n}{name}"))).collect());
        for line in lines(&fixture, Some(owner), times) {
            let text = json(&line);
            prop_assert!(text.len() < MAX_LINE, "{}: {}", text.len(), text);
            let read: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(validator.iter_errors(&read).map(|error| error.to_string()).next(), None);
            let line = Line::Summary(Box::new(line));
            let back = serde_json::from_str::<Line>(&text).unwrap();
            prop_assert_eq!(serde_json::to_value(&back).unwrap(), read);
            let mut out = Vec::new();
            line::ecs(&mut out, &line);
            prop_assert!(out.len() < MAX_LINE);
        }
    }
}
