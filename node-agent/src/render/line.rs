//! Every line but the transition: rare, so they go through serde, and bounded like all others.
//!
//! A text that would make a line too long is cut with `…`: a diagnostic, the options, what a check says. The counts
//! of a `lost` line are never cut: [`split_lost`] makes several lines of one that names too many traces.

use std::collections::BTreeMap;
use std::io;

use kube_tcpstates_events::{K8s, Line, Loss, Lost};
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use serde_json::{Value, json};

use super::MAX_LINE;
use super::ecs::ECS_VERSION;
use super::escape;
use super::names::name;
use super::open_ecs;
use super::summary;

/// Escaped bytes that texts are cut to, until the line fits.
const CUTS: [usize; 8] = [3_400, 2_600, 1_800, 1_200, 800, 400, 200, 50];
/// Bytes of one `lost` line that names of traces may take, so that it fits in either format.
const BY_TRACE_MAX: usize = 2_000;

/// Appends a line as `-o json` has it, newline included.
pub fn json(out: &mut Vec<u8>, line: &Line) {
    bounded(out, line, to_writer);
}

/// Appends a line as `-o ecs` has it, newline included: `tcpstates` as in JSON, and beside it what ECS has names for.
pub fn ecs(out: &mut Vec<u8>, line: &Line) {
    bounded(out, line, |out, line| to_writer(out, &document(line)));
}

/// Several lines of one that names too many traces. Each has all other counts; the first alone has `since_last`, so
/// that their sum stays right. The caller numbers them (`seq`).
pub fn split_lost(mut lost: Lost) -> Vec<Lost> {
    let mut parts = Vec::new();
    let mut part = BTreeMap::new();
    let mut used = 0;
    for (name, count) in std::mem::take(&mut lost.tcpstates.lost.by_trace) {
        let mut escaped = Vec::new();
        escape::json(&mut escaped, &name);
        // Quotes, colon, comma and a number of up to 20 digits.
        let size = escaped.len() + 24;
        if used + size > BY_TRACE_MAX && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
            used = 0;
        }
        used += size;
        part.insert(name, count);
    }
    parts.push(part);
    let whole = lost.tcpstates.lost.since_last;
    let line = |(index, by_trace)| {
        let mut line = lost.clone();
        let since_last = if index == 0 { whole } else { 0 };
        line.tcpstates.lost = Loss { since_last, by_trace, ..line.tcpstates.lost };
        line
    };
    parts.into_iter().enumerate().map(line).collect()
}

/// Writes strings as the transition's line has them: nothing in them acts on a terminal.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if fragment.is_ascii() && !fragment.contains('\x7f') {
            return CompactFormatter.write_string_fragment(writer, fragment);
        }
        let mut escaped = Vec::with_capacity(fragment.len() + 16);
        escape::json(&mut escaped, fragment);
        writer.write_all(&escaped)
    }
}

pub(super) fn to_writer(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    // A Vec takes every write, and the lines' maps all have strings as keys.
    _ = value.serialize(&mut Serializer::with_formatter(&mut *out, Escaping));
    out.push(b'\n');
}

fn bounded(out: &mut Vec<u8>, line: &Line, write: impl Fn(&mut Vec<u8>, &Line)) {
    let start = out.len();
    write(out, line);
    for max in CUTS {
        if out.len() - start < MAX_LINE {
            return;
        }
        out.truncate(start);
        write(out, &shortened(line, max));
    }
}

/// The line with every text of free length cut to `max` escaped bytes.
fn shortened(line: &Line, max: usize) -> Line {
    let mut line = line.clone();
    let cut = |text: &mut String, max: usize| *text = escape::clip(text, max).into_owned();
    match &mut line {
        Line::Log(log) => cut(&mut log.tcpstates.text, max),
        Line::Start(start) => {
            let own = &mut start.tcpstates;
            for text in [&mut own.options, &mut own.filters].into_iter().flatten() {
                cut(text, max / 3);
            }
            cut(&mut own.kernel.release, max.min(100));
            own.preflight.truncate(max / 25);
            for check in &mut own.preflight {
                cut(&mut check.name, 50);
                check.detail.iter_mut().for_each(|detail| cut(detail, max / 10));
            }
            shorten_k8s(start.k8s.as_deref_mut(), max);
        }
        Line::Lost(lost) => shorten_k8s(lost.k8s.as_deref_mut(), max),
        Line::Heartbeat(heartbeat) => shorten_k8s(heartbeat.k8s.as_deref_mut(), max),
        Line::Snapshot(snapshot) => shorten_k8s(snapshot.k8s.as_deref_mut(), max),
        Line::Summary(line) => summary::shorten(line, max),
        Line::Socket(line) => line.tcpstates.peer = None,
        // Bounded where their parts are rendered.
        Line::Transition(_) | Line::Connection(_) | Line::Listener(_) | Line::TimeWait(_) => {}
    }
    line
}

fn shorten_k8s(k8s: Option<&mut K8s>, max: usize) {
    let Some(k8s) = k8s else { return };
    for named in [&mut k8s.cluster, &mut k8s.node].into_iter().flatten() {
        named.name = escape::clip(&named.name, max.min(256)).into_owned();
    }
}

/// The ECS document around a line.
fn document(line: &Line) -> Value {
    let (dataset, k8s) = match line {
        Line::Start(start) => ("start", start.k8s.as_deref()),
        Line::Transition(transition) => ("transition", transition.k8s.as_deref()),
        Line::Connection(connection) => ("connection", connection.k8s.as_deref()),
        Line::Lost(lost) => ("lost", lost.k8s.as_deref()),
        Line::Heartbeat(heartbeat) => ("heartbeat", heartbeat.k8s.as_deref()),
        Line::Log(_) => ("log", None),
        Line::Summary(summary) => ("summary", summary.k8s.as_deref()),
        Line::Socket(_) => ("socket", None),
        Line::Listener(_) => ("listener", None),
        Line::TimeWait(_) => ("time_wait", None),
        Line::Snapshot(snapshot) => ("snapshot", snapshot.k8s.as_deref()),
    };
    let node = k8s.and_then(|k8s| k8s.node.as_ref()).map(|node| node.name.clone());
    let cluster = k8s.and_then(|k8s| k8s.cluster.as_ref()).map(|cluster| cluster.name.clone());
    let json = serde_json::to_value(line).unwrap_or_default();
    let own = &json[name!(own)];
    let kind = match line {
        Line::Heartbeat(_) | Line::Summary(_) => "metric",
        Line::Socket(_) | Line::Listener(_) | Line::TimeWait(_) | Line::Snapshot(_) => "state",
        _ => "event",
    };
    let mut document = json!({
        "@timestamp": json["time"],
        "ecs": {"version": ECS_VERSION},
        "event": {"kind": kind, "module": "tcpstates", "dataset": format!("tcpstates.{dataset}")},
        "observer": {"product": "kube-tcpstates", "type": "tcpstates", "version": crate::VERSION},
        name!(own): own,
    });
    if let Some(seq) = own.get(name!(seq)) {
        document["event"]["sequence"] = seq.clone();
    }
    if let Line::Log(log) = line {
        document["log"]["level"] = json!(log.tcpstates.level);
        document["message"] = log.tcpstates.text.as_str().into();
    }
    if matches!(line, Line::Summary(_) | Line::Socket(_) | Line::Listener(_) | Line::TimeWait(_)) {
        open_ecs::describe(&mut document, &json);
    }
    if let Some(node) = node {
        document["host"]["name"] = node.into();
    }
    if let Some(cluster) = cluster {
        document["orchestrator"]["cluster"]["name"] = cluster.into();
    }
    document
}

#[cfg(test)]
mod tests {
    use kube_tcpstates_events::{
        ByPlace, CgroupMode, CgroupSetup, Check, Heartbeat, HeartbeatAttributes, Hook, K8s, Kernel, Level,
        Line, Log, LogAttributes, Loss, Lost, LostAttributes, Named, Ring, SchemaId, Start, StartAttributes,
        Storage, Totals,
    };
    use serde_json::Value;

    use super::{MAX_LINE, ecs, json, split_lost};
    use crate::render::{fixtures::snapshot, time::rfc3339};

    const NOW: u64 = 1_795_361_101_123_456_789;

    fn render(write: fn(&mut Vec<u8>, &Line), line: &Line) -> String {
        let mut out = Vec::new();
        write(&mut out, line);
        String::from_utf8(out).unwrap()
    }

    fn start() -> Start {
        let tcpstates = StartAttributes {
            run: "5f0c2a91".to_owned(),
            version: "0.1.0".to_owned(),
            kernel: Kernel { release: "6.18.5".to_owned() },
            hook: Hook::TpBtf,
            cgroup: CgroupSetup { mode: CgroupMode::V2 },
            ring: Ring { bytes: 8_388_608 },
            storage: Storage::SocketStorage,
            options: Some("trace -L 8080 -o json".to_owned()),
            filters: Some("local port 8080".to_owned()),
            preflight: vec![Check { name: "CAP_BPF".to_owned(), ok: true, detail: None }],
            ..StartAttributes::default()
        };
        Start { time: rfc3339(NOW), tcpstates, k8s: None }
    }

    fn lost() -> Lost {
        let tcpstates = LostAttributes {
            run: "5f0c2a91".to_owned(),
            seq: 4711,
            lost: Loss {
                since_last: 20,
                total: 120,
                by_place: ByPlace { ring: 100, queue: 20, ..ByPlace::default() },
                by_trace: [("shop/checkout-egress".to_owned(), 97)].into(),
                ..Loss::default()
            },
            exact: true,
            ..LostAttributes::default()
        };
        Lost { time: rfc3339(NOW), tcpstates, k8s: None }
    }

    fn heartbeat() -> Heartbeat {
        let tcpstates = HeartbeatAttributes {
            run: "5f0c2a91".to_owned(),
            seq: 4712,
            uptime_s: 60,
            totals: Totals {
                seen: 10_000,
                other_protocol: 3,
                filtered: 5_000,
                ring_full: 100,
                emitted: 4_897,
                written: 4_877,
                lost: 120,
                ..Totals::default()
            },
            clock_step_ns: Some(-2_000_000),
            last: true,
            ..HeartbeatAttributes::default()
        };
        Heartbeat { time: rfc3339(NOW), tcpstates, k8s: None }
    }

    fn log(text: &str) -> Log {
        let tcpstates = LogAttributes {
            schema: SchemaId::V1,
            run: "5f0c2a91".to_owned(),
            level: Level::Warn,
            text: text.to_owned(),
        };
        Log { time: rfc3339(NOW), tcpstates }
    }

    #[test]
    fn each_kind_of_line_in_json() {
        let lines = [
            Line::Start(Box::new(start())),
            Line::Lost(Box::new(lost())),
            Line::Heartbeat(Box::new(heartbeat())),
            Line::Log(log("cannot read \"/proc/1\u{1b}\u{9b}\u{202e}\"")),
        ];
        let expected = [
            r#"{"time":"2026-11-22T15:25:01.123456789Z","tcpstates":{"type":"start","schema":"tcpstates.dev/events/v1","run":"5f0c2a91","seq":0,"version":"0.1.0","kernel":{"release":"6.18.5"},"hook":"tp_btf","cgroup":{"mode":"v2"},"ring":{"bytes":8388608},"storage":"socket_storage","options":"trace -L 8080 -o json","filters":"local port 8080","preflight":[{"name":"CAP_BPF","ok":true}]}}"#,
            r#"{"time":"2026-11-22T15:25:01.123456789Z","tcpstates":{"type":"lost","schema":"tcpstates.dev/events/v1","run":"5f0c2a91","seq":4711,"lost":{"since_last":20,"total":120,"by_place":{"ring":100,"recursion":0,"queue":20,"rate":0,"write":0,"identity":0,"restart":0},"by_trace":{"shop/checkout-egress":97}},"exact":true}}"#,
            r#"{"time":"2026-11-22T15:25:01.123456789Z","tcpstates":{"type":"heartbeat","schema":"tcpstates.dev/events/v1","run":"5f0c2a91","seq":4712,"uptime_s":60,"totals":{"seen":10000,"other_protocol":3,"filtered":5000,"pending":0,"ring_full":100,"emitted":4897,"written":4877,"filtered_user":0,"told_twice":0,"summarised":0,"held":0,"lost":120},"clock_step_ns":-2000000,"final":true}}"#,
            r#"{"time":"2026-11-22T15:25:01.123456789Z","tcpstates":{"type":"log","schema":"tcpstates.dev/events/v1","run":"5f0c2a91","level":"warn","text":"cannot read \"/proc/1\u001b\u009b\u202e\""}}"#,
        ];
        for (line, expected) in lines.iter().zip(expected) {
            let text = render(json, line);
            assert_eq!(text.strip_suffix('\n'), Some(expected));
            assert_eq!(&serde_json::from_str::<Line>(&text).unwrap(), line);
        }
    }

    #[test]
    fn a_line_in_ecs_has_the_same_under_tcpstates_as_in_json() {
        let name = |name: &str| Some(Named { name: name.to_owned() });
        let k8s = K8s { cluster: name("prod"), node: name("n1"), ..K8s::default() };
        let lost = Lost { k8s: Some(Box::new(k8s)), ..lost() };
        assert_eq!(
            snapshot(&render(ecs, &Line::Lost(Box::new(lost)))),
            concat!(
                r#"{"@timestamp":"2026-11-22T15:25:01.123456789Z","ecs":{"version":"9.4.0"},"event":{"dataset":"tcpstates.lost","kind":"event","module":"tcpstates","sequence":4711},"host":{"name":"n1"},"observer":{"product":"kube-tcpstates","type":"tcpstates","version":"0.1.0"},"orchestrator":{"cluster":{"name":"prod"}},"tcpstates":{"exact":true,"lost":{"by_place":{"identity":0,"queue":20,"rate":0,"recursion":0,"restart":0,"ring":100,"write":0},"by_trace":{"shop/checkout-egress":97},"since_last":20,"total":120},"run":"5f0c2a91","schema":"tcpstates.dev/events/v1","seq":4711,"type":"lost"}}"#,
                "\n"
            )
        );
        for line in [
            Line::Start(Box::new(start())),
            Line::Heartbeat(Box::new(heartbeat())),
            Line::Log(log("the watch is broken")),
        ] {
            let [json, ecs]: [Value; 2] =
                [json, ecs].map(|write| serde_json::from_str(&render(write, &line)).unwrap());
            assert_eq!(json["tcpstates"], ecs["tcpstates"]);
        }
    }

    #[test]
    fn a_diagnostic_in_ecs_is_a_log_message_too() {
        let ecs: Value = serde_json::from_str(&render(ecs, &Line::Log(log("the watch is broken")))).unwrap();
        assert_eq!((&ecs["log"]["level"], &ecs["message"]), (&"warn".into(), &"the watch is broken".into()));
    }

    #[test]
    fn texts_without_end_are_cut_and_the_line_stays_under_its_bound() {
        let endless = "\u{1b}\"é".repeat(10_000);
        let check = Check { name: endless.clone(), ok: false, detail: Some(endless.clone()) };
        let mut start = start();
        let own = &mut start.tcpstates;
        (own.options, own.filters) = (Some(endless.clone()), Some(endless.clone()));
        own.kernel.release.clone_from(&endless);
        own.preflight = vec![check; 200];
        let log = log(&endless);
        let named = Some(Named { name: endless });
        start.k8s = Some(Box::new(K8s { cluster: named.clone(), node: named, ..K8s::default() }));
        let heartbeat = Heartbeat { k8s: start.k8s.clone(), ..heartbeat() };
        for line in [Line::Log(log), Line::Start(Box::new(start)), Line::Heartbeat(Box::new(heartbeat))] {
            for write in [json, ecs] {
                let text = render(write, &line);
                assert!(text.len() < MAX_LINE, "{} bytes", text.len());
                assert!(text.contains('…'));
                assert!(serde_json::from_str::<Value>(&text).is_ok());
            }
        }
    }

    #[test]
    fn a_lost_line_of_many_traces_becomes_several_that_add_up() {
        let by_trace = (0..64).map(|n| (format!("{}/{n:0>250}", "n".repeat(63)), u64::MAX - n)).collect();
        let mut whole = lost();
        whole.tcpstates.lost.by_trace = by_trace;
        let parts = split_lost(whole.clone());
        assert!(parts.len() > 1);
        let losses = || parts.iter().map(|part| &part.tcpstates.lost);
        assert_eq!(losses().map(|lost| lost.since_last).sum::<u64>(), 20);
        let together: std::collections::BTreeMap<_, _> =
            losses().flat_map(|lost| lost.by_trace.clone()).collect();
        assert_eq!(together, whole.tcpstates.lost.by_trace);
        for part in parts {
            assert_eq!(part.tcpstates.lost.total, 120);
            let line = Line::Lost(Box::new(part));
            assert!(render(json, &line).len() < MAX_LINE);
            assert!(render(ecs, &line).len() < MAX_LINE);
        }
        assert_eq!(split_lost(lost()), [lost()]);
    }
}
