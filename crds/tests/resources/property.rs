//! Random specs: the agent and the server come to the same verdict, and what is accepted can be acted upon.

use std::net::IpAddr;
use std::time::Duration;

use kube_tcpstates_crds::text::{
    TextError, parse_cidr, parse_min_state_duration, parse_snapshot_interval, parse_summary_interval,
    parse_ttl,
};
use kube_tcpstates_crds::trace::Mode;
use kube_tcpstates_crds::validate::{Problem, check_object};
use kube_tcpstates_crds::{CheckedTrace, Refusal};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use crate::judges::{agent, cel_errors, object, structural_errors};

fn cidr() -> BoxedStrategy<String> {
    let v4 = (any::<u32>(), 0..=34_u32).prop_map(|(bits, length)| {
        // Mostly without host bits.
        let network = if bits % 4 == 0 {
            bits
        } else {
            bits & u32::MAX.checked_shl(32_u32.saturating_sub(length)).unwrap_or(0)
        };
        format!("{}/{length}", std::net::Ipv4Addr::from_bits(network))
    });
    let v6 = (any::<u128>(), 0..=130_u32).prop_map(|(bits, length)| {
        let network = bits & u128::MAX.checked_shl(128_u32.saturating_sub(length)).unwrap_or(0);
        format!("{}/{length}", std::net::Ipv6Addr::from_bits(network))
    });
    let odd = select(vec![
        "10.0.0.0",
        "1.2.3/8",
        "::ffff:10.0.0.0/104",
        ":/0",
        "1:2:3/8",
        "01.2.3.4/32",
        "::/00",
        "::1%1/128",
        " ::/0",
    ]);
    prop_oneof![5 => v4, 3 => v6, 1 => odd.prop_map(str::to_owned)].boxed()
}

fn duration() -> BoxedStrategy<String> {
    let unit = select(vec!["h", "m", "s", "ms", "us", "s", "m", "ns", "d", ""]);
    let part =
        (prop_oneof![3 => 0..20_u32, 1 => any::<u32>()], unit).prop_map(|(n, unit)| format!("{n}{unit}"));
    vec(part, 1..4).prop_map(|parts| parts.concat()).boxed()
}

fn states() -> BoxedStrategy<Value> {
    let names = vec![
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "CLOSING",
        "CLOSE",
        "LISTEN",
        "TIME_WAIT",
    ];
    vec(select(names), 0..3).prop_map(Value::from).boxed()
}

fn transition() -> BoxedStrategy<Value> {
    (proptest::option::of(states()), proptest::option::of(states()))
        .prop_map(|(from, to)| {
            let sides = [("from", from), ("to", to)].into_iter();
            sides.filter_map(|(name, side)| Some((name.to_owned(), side?))).collect::<Map<_, _>>().into()
        })
        .boxed()
}

fn port() -> BoxedStrategy<Value> {
    let number = || prop_oneof![20 => 1..=65535_i64, 1 => Just(0), 1 => Just(65536), 1 => Just(-1)];
    (number(), proptest::option::weighted(0.3, number()))
        .prop_map(|(port, end)| {
            end.map_or(json!({ "port": port }), |end| json!({ "port": port, "endPort": end }))
        })
        .boxed()
}

fn label() -> BoxedStrategy<String> {
    prop_oneof![4 => "[a-z]{1,5}(/[A-Za-z]{1,5})?", 1 => "[a-zA-Z0-9_./ -]{0,8}"].boxed()
}

fn selector() -> BoxedStrategy<Value> {
    let operator = select(vec!["In", "NotIn", "Exists", "DoesNotExist"]);
    let requirement = (label(), operator, vec("[a-z-]{0,3}", 0..3))
        .prop_map(|(key, operator, values)| json!({ "key": key, "operator": operator, "values": values }));
    (proptest::collection::btree_map(label(), "[a-zA-Z0-9_. -]{0,4}", 0..2), vec(requirement, 0..2))
        .prop_map(|(labels, expressions)| json!({ "matchLabels": labels, "matchExpressions": expressions }))
        .boxed()
}

/// Specs of which about half are good: each field is absent more often than not.
fn spec() -> impl Strategy<Value = Value> {
    let value = |strategy: BoxedStrategy<Value>| proptest::option::weighted(0.3, strategy);
    let text = |strategy: BoxedStrategy<String>| value(strategy.prop_map(Value::from).boxed());
    let list = |strategy: BoxedStrategy<Value>| value(vec(strategy, 0..3).prop_map(Value::from).boxed());
    let texts = |strategy: BoxedStrategy<String>| list(strategy.prop_map(Value::from).boxed());
    let limit = (0..3_u32, 0..3_u32)
        .prop_map(|(lines, burst)| json!({ "linesPerSecondPerNode": lines, "burst": burst }));
    let open = (duration(), 0..3_u32, select(vec!["CLOSE_WAIT", "TIME_WAIT", "CLOSE"]))
        .prop_map(|(every, limit, state)| json!({ "every": every, "limit": limit, "states": [state] }));
    (
        selector(),
        [list(port()), list(port()), list(transition()), texts(cidr()), texts(label())],
        [texts("[a-z-]{1,4}".boxed()), text(duration()), text(duration())],
        [
            value(limit.boxed()),
            value(open.boxed()),
            value(select(vec!["Any", "IPv4", "IPv6", "ipv6"]).prop_map(Value::from).boxed()),
            value(select(vec![json!(true), json!(false), json!("yes")]).boxed()),
            value(
                select(vec!["Transitions", "Connections", "Summary", "Summary"])
                    .prop_map(Value::from)
                    .boxed(),
            ),
            value(duration().prop_map(Value::from).boxed()),
            value(vec(select(vec!["failed", "closed", "lost"]), 0..2).prop_map(Value::from).boxed()),
        ],
    )
        .prop_map(|(selector, lists, texts, others)| {
            let names = [
                "localPorts",
                "peerPorts",
                "transitions",
                "peerCIDRs",
                "podLabels",
                "containers",
                "minStateDuration",
                "ttl",
                "rateLimit",
                "openSockets",
                "family",
                "peerNames",
                "mode",
                "interval",
                "outcomes",
            ];
            let values = lists.into_iter().chain(texts).chain(others);
            let fields = names.into_iter().zip(values);
            let fields = fields.filter_map(|(name, value)| Some((name.to_owned(), value?)));
            fields.chain([("podSelector".to_owned(), selector)]).collect::<Map<_, _>>().into()
        })
}

/// What no server can tell: see the table of bad objects.
fn only_the_agent_knows(refusal: &Refusal) -> bool {
    refusal.errors().iter().all(|error| match &error.problem {
        Problem::Text(TextError::HostBits(network)) => network.contains(':'),
        Problem::Text(TextError::LabelKey) => error.field.contains("matchLabels"),
        _ => false,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn agent_and_server_agree(spec in spec()) {
        let object = object("TcpStateTrace", &spec);
        let structural = structural_errors(&object);
        let cel = if structural.is_empty() { cel_errors(&object) } else { Vec::new() };
        match agent(&object) {
            Ok(checked) => {
                prop_assert!(structural.is_empty() && cel.is_empty(), "{structural:?} {cel:?}");
                can_be_acted_upon(&checked);
            }
            Err(refusal) => prop_assert!(
                !structural.is_empty() || !cel.is_empty() || only_the_agent_knows(&refusal),
                "the agent alone refuses: {refusal}"
            ),
        }
    }

    #[test]
    fn no_json_makes_the_agent_panic(spec in json_value()) {
        let _ = check_object(&object("TcpStateTrace", &spec));
        let _ = check_object(&object("ClusterTcpStateTrace", &json!({ "podSelector": spec, "peerCIDRs": spec })));
    }

    #[test]
    fn prefixes_without_host_bits_are_read_as_what_they_are(text in cidr()) {
        if let Ok((address, length)) = parse_cidr(&text) {
            let (expected, bits) = text.split_once('/').unwrap();
            prop_assert_eq!(address, expected.parse::<IpAddr>().unwrap());
            prop_assert_eq!(u32::from(length), bits.parse::<u32>().unwrap());
        }
    }
}

/// Everything an agent has to turn into its own form can be.
fn can_be_acted_upon(checked: &CheckedTrace) {
    let spec = &checked.spec;
    for ports in spec.local_ports.iter().chain(&spec.peer_ports) {
        let (first, last) = ports.bounds();
        assert!(first > 0 && first <= last);
    }
    for text in &spec.peer_cidrs {
        let (address, length) = parse_cidr(text).unwrap();
        assert!(length <= if address.is_ipv4() { 32 } else { 128 });
    }
    for transition in &spec.transitions {
        assert!(!transition.from.is_empty() || !transition.to.is_empty());
    }
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    if let Some(text) = &spec.min_state_duration {
        let least = parse_min_state_duration(text).unwrap();
        assert!(least > Duration::ZERO && least <= hours(720));
    }
    if let Some(text) = &spec.ttl {
        let ttl = parse_ttl(text).unwrap();
        assert!(ttl >= Duration::from_secs(10) && ttl <= hours(720));
    }
    if let Some(open) = &spec.open_sockets {
        let every = parse_snapshot_interval(&open.every).unwrap();
        assert!(every >= Duration::from_secs(10) && every <= hours(1) && open.limit > 0);
    }
    if let Some(text) = &spec.interval {
        let interval = parse_summary_interval(text).unwrap();
        assert!(interval >= Duration::from_secs(10) && interval <= hours(1) && spec.mode == Mode::Summary);
    }
    assert!(spec.transitions.is_empty() || spec.mode == Mode::Transitions);
    assert!(spec.outcomes.is_empty() || spec.mode != Mode::Transitions);
    assert!(spec.rate_limit.burst > 0 && spec.rate_limit.lines_per_second_per_node > 0);
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        "[0-9:./hms]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let names = select(vec![
            "podSelector",
            "matchLabels",
            "matchExpressions",
            "key",
            "operator",
            "localPorts",
            "port",
            "transitions",
            "from",
            "peerCIDRs",
            "ttl",
            "rateLimit",
            "burst",
            "other",
        ]);
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(names, inner, 0..4).prop_map(|map| map
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<Map<_, _>>()
                .into()),
        ]
    })
}
