use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn trace(namespace: &str, name: &str) -> Trace {
    Trace { namespace: Some(namespace.to_owned()), name: name.to_owned() }
}

fn cluster_trace(name: &str) -> Trace {
    Trace { namespace: None, name: name.to_owned() }
}

const LINE: &str = r#"{"time":"2026-11-27T07:08:11.713357122Z","tcpstates":{"type":"transition","schema":"tcpstates.dev/events/v1","run":"1035e3e9","seq":100,"old_state":"SYN_SENT","traces":["shop/refused","bank/all"],"cluster_traces":["anywhere"],"traces_omitted":2,"role":"client"},"k8s":{"pod":{"label":{"b":"1","a":"\u001b"}}}}"#;

#[test]
fn of_the_traces_that_a_line_names_the_readers_own_is_left() {
    let passed = |trace: &Trace| Filter::new(trace).pass(LINE);
    let before = r#"{"time":"2026-11-27T07:08:11.713357122Z","tcpstates":{"type":"transition","schema":"tcpstates.dev/events/v1","run":"1035e3e9","seq":100,"old_state":"SYN_SENT","#;
    let behind = r#","role":"client"},"k8s":{"pod":{"label":{"b":"1","a":"\u001b"}}}}"#;
    assert_eq!(passed(&trace("bank", "all")).unwrap(), format!(r#"{before}"traces":["bank/all"]{behind}"#));
    assert_eq!(
        passed(&cluster_trace("anywhere")).unwrap(),
        format!(r#"{before}"cluster_traces":["anywhere"]{behind}"#)
    );
    for foreign in
        [trace("bank", "al"), trace("shop", "all"), trace("hop", "refused"), trace("client", "client")]
    {
        assert_eq!(passed(&foreign), None, "{foreign}");
    }
    // A cluster trace called as a namespace is, or as what else stands on a line.
    for foreign in [cluster_trace("shop"), cluster_trace("client"), cluster_trace("traces")] {
        assert_eq!(passed(&foreign), None, "{foreign}");
    }
}

#[test]
fn a_namespaced_and_a_cluster_trace_are_not_taken_for_each_other() {
    let line = |list: &str| {
        LINE.replace(r#""cluster_traces":["anywhere"],"#, "")
            .replace(r#""traces":["shop/refused","bank/all"]"#, list)
    };
    let only = line(r#""traces":["anywhere"]"#);
    assert_eq!(Filter::new(&cluster_trace("anywhere")).pass(&only), None);
    let only = line(r#""cluster_traces":["shop/refused"]"#);
    assert_eq!(Filter::new(&trace("shop", "refused")).pass(&only), None);
}

#[test]
fn a_line_that_names_not_all_its_traces_may_be_any_of_its_namespace() {
    let line = LINE.replace(r#""pod":"#, r#""namespace":{"name":"shop"},"pod":"#);
    let may = |trace: &Trace, line: &str| Filter::new(trace).may_leave_it_out(line);
    assert!(may(&trace("shop", "all"), &line) && may(&cluster_trace("all"), &line));
    assert!(!may(&trace("shop", "refused"), &line) && !may(&cluster_trace("anywhere"), &line), "it is named");
    assert!(!may(&trace("hop", "all"), &line) && !may(&trace("shop", "all"), LINE), "of another's pod");
    // A label of that name counts nothing.
    let label = line.replace(r#""traces_omitted":2,"#, "").replace(r#""b":"1""#, r#""traces_omitted":"1""#);
    assert!(!may(&trace("shop", "all"), &label));
    assert!(!may(&trace("shop", "all"), r#"half of a line, "traces_omitted":2,"#));
}

#[test]
fn what_is_about_the_agent_itself_is_not_passed_on() {
    for kind in ["start", "lost", "heartbeat", "log"] {
        let line = LINE.replace("transition", kind);
        assert_eq!(Filter::new(&trace("bank", "all")).pass(&line), None, "{kind}");
    }
    let panic = "thread 'main' panicked at \"bank/all\"";
    assert_eq!((Head::of(panic), Filter::new(&trace("bank", "all")).pass(panic)), (None, None));
}

#[test]
fn a_line_with_two_lists_of_traces_is_nobodys() {
    let line = LINE.replace(r#""role":"client""#, r#""traces":["shop/mine"]"#);
    assert_eq!(Filter::new(&trace("shop", "mine")).pass(&line), None);
    assert_eq!(Filter::new(&trace("bank", "all")).pass(&line), None);
}

#[test]
fn what_a_trace_has_lost_is_read_from_the_agents_count() {
    let line = r#"{"time":"2026-11-27T11:06:38.783393682Z","tcpstates":{"type":"lost","schema":"tcpstates.dev/events/v1","run":"6ed24cc6","seq":284,"lost":{"since_last":518,"total":518,"by_place":{"ring":518,"recursion":0,"queue":0,"rate":0,"write":0,"identity":0},"by_trace":{"bank/all":7,"anywhere":9}},"exact":true}}"#;
    let lost = |trace: &Trace| Filter::new(trace).lost(line);
    assert_eq!(lost(&trace("bank", "all")), Some(7));
    assert_eq!(lost(&cluster_trace("anywhere")), Some(9));
    assert_eq!(lost(&trace("shop", "refused")), None);
}

#[test]
fn where_a_line_stands_is_read_whatever_the_order_of_its_members() {
    let head = Head::of(LINE).unwrap();
    assert_eq!((&*head.time, &*head.kind), ("2026-11-27T07:08:11.713357122Z", "transition"));
    assert_eq!((&*head.run, head.seq), ("1035e3e9", Some(100)));
    let sorted = serde_json::from_str::<Value>(LINE).unwrap().to_string();
    assert_ne!(sorted, LINE);
    assert_eq!(Head::of(&sorted), Some(head));
    let log =
        r#"{"time":"t","tcpstates":{"type":"log","schema":"s","run":"r","level":"info","text":"\"seq\":1"}}"#;
    assert_eq!(Head::of(log).unwrap().seq, None);
    assert_eq!(Head::of(r#"{"tcpstates":{}}"#), None);
}

#[test]
fn the_last_line_of_a_run_is_known() {
    assert!(is_final(r#"{"tcpstates":{"type":"heartbeat","final":true}}"#));
    assert!(!is_final(r#"{"tcpstates":{"type":"heartbeat"}}"#));
}

/// Text that someone chose to look like a line's own.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(r#""shop/mine""#.to_owned()),
        Just(r#"x","traces":["shop/mine"],"y":""#.to_owned()),
        Just(r#"\"],"traces":["shop/mine"]}}"#.to_owned()),
        Just(r#"{"tcpstates":{"traces":["shop/mine"]}}"#.to_owned()),
        Just("shop/mine".to_owned()),
        any::<String>(),
    ]
}

fn names() -> impl Strategy<Value = Vec<String>> {
    let name = prop_oneof![
        Just("shop/mine"),
        Just("shop/min"),
        Just("shop/mine2"),
        Just("xshop/mine"),
        Just("bank/mine"),
        Just("mine"),
        Just("shop/mi…"),
    ];
    prop::collection::btree_set(name, 0..4).prop_map(|names| names.into_iter().map(str::to_owned).collect())
}

proptest! {
    /// The traces on the line decide, whatever else stands there; and nothing else of the line changes.
    #[test]
    fn a_line_passes_if_and_only_if_its_list_names_the_trace(
        traces in names(),
        cluster_traces in names(),
        texts in prop::collection::vec(hostile(), 5),
    ) {
        let mut line = json!({
            "time": "2026-11-27T07:08:11.713357122Z",
            "tcpstates": {
                "type": "transition", "schema": "tcpstates.dev/events/v1", "run": "1035e3e9", "seq": 3,
                "host": {"slice": texts[0], "unit": texts[1]}, "cluster_traces": cluster_traces, "traces": traces,
                "traces_omitted": 1,
            },
            "thread": {"name": texts[2]},
            "k8s": {"pod": {"name": "p", "label": {"app": texts[3]}}, "container": {"name": texts[4]}},
        });
        if traces.is_empty() {
            line["tcpstates"].as_object_mut().unwrap().remove("traces");
        }
        let text = line.to_string();
        for (trace, list, other, named) in [
            (trace("shop", "mine"), "traces", "cluster_traces", &traces),
            (cluster_trace("mine"), "cluster_traces", "traces", &cluster_traces),
        ] {
            let passed = Filter::new(&trace).pass(&text);
            let wanted = named.contains(&trace.to_string());
            prop_assert_eq!(passed.is_some(), wanted);
            let Some(passed) = passed else { continue };
            prop_assert!(!passed.contains('\n'));
            let mut expected = line.clone();
            let own = expected["tcpstates"].as_object_mut().unwrap();
            own.remove(other);
            own.remove("traces_omitted");
            own[list] = json!([trace.to_string()]);
            prop_assert_eq!(serde_json::from_str::<Value>(&passed).unwrap(), expected);
        }
    }
}
