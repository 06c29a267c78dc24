//! OpenTelemetry log records, made of the lines that `-o json` has: the members of a line are already named as attributes
//! are, so a record has each of them under its path, and a line's new member is a record's new attribute.
//!
//! One `ResourceLogs` for each owner: `k8s.*`, `container.id`, `service.*` describe it, the rest is of the record
//! (<https://opentelemetry.io/docs/specs/otel/logs/data-model/>).

pub(super) mod file;
mod flat;
mod sentence;

use std::collections::HashMap;

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value as Kind},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    resource::v1::Resource,
};
use serde_json::Value;

use self::flat::Flat;

/// What tells of the owner and not of the event.
const OF_RESOURCE: [&str; 2] = ["k8s.", "container."];
/// A label that names the service, as it stands on lines.
const SERVICE_LABEL: &str = "k8s.pod.label.app_kubernetes_io/name";
/// Workloads that name it, where the label is not asked for.
const WORKLOADS: [&str; 6] = [
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
    "k8s.replicaset.name",
];

/// Records that go out together.
#[derive(Debug, Default)]
pub struct Batch {
    request: ExportLogsServiceRequest,
    /// Where in the request the records of an owner are, by its attributes.
    places: HashMap<String, usize>,
    records: u64,
}

impl Batch {
    /// Adds the record of a JSON line. False: it is none.
    pub fn add(&mut self, line: &[u8], observed_ns: u64) -> bool {
        serde_json::from_slice(line).is_ok_and(|line| self.add_line(line, |_| observed_ns))
    }

    /// `observed_ns` is told when the line happened, where it says so.
    fn add_line(&mut self, mut line: Flat, observed_ns: impl FnOnce(Option<u64>) -> u64) -> bool {
        let Some(kind) = line.text("tcpstates.type") else { return false };
        let (number, text) = severity(kind, &line);
        let happened_ns = line.text("time").and_then(unix_ns);
        let observed_ns = observed_ns(happened_ns);
        let mut record = LogRecord {
            time_unix_nano: happened_ns.unwrap_or(observed_ns),
            observed_time_unix_nano: observed_ns,
            severity_number: number.into(),
            severity_text: text.to_owned(),
            body: Some(string(sentence::of(kind, &line))),
            event_name: format!("tcpstates.{kind}"),
            ..LogRecord::default()
        };
        let service = service(kind, &line);
        line.0.retain(|(name, _)| name != "time");
        let (of_resource, of_record): (Vec<_>, Vec<_>) =
            line.0.into_iter().partition(|(name, _)| OF_RESOURCE.iter().any(|of| name.starts_with(of)));
        record.attributes = of_record.into_iter().map(attribute).collect();
        self.put(resource(of_resource, service), record);
        true
    }

    fn put(&mut self, resource: Vec<(String, Value)>, record: LogRecord) {
        let key = serde_json::to_string(&resource).unwrap_or_default();
        let place = *self.places.entry(key).or_insert_with(|| {
            self.request.resource_logs.push(of_owner(resource));
            self.request.resource_logs.len() - 1
        });
        if let Some(logs) = self.request.resource_logs[place].scope_logs.first_mut() {
            logs.log_records.push(record);
            self.records += 1;
        }
    }

    /// Records in it.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// What an endpoint is sent.
    pub fn request(&self) -> &ExportLogsServiceRequest {
        &self.request
    }
}

/// Time as a line has it, ns since the Unix epoch.
fn unix_ns(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok()
}

fn severity(kind: &str, line: &Flat) -> (SeverityNumber, &'static str) {
    match (kind, line.text("tcpstates.outcome"), line.text("tcpstates.level")) {
        ("connection", Some(outcome), _) if outcome != "closed" => (SeverityNumber::Warn, "WARN"),
        ("lost", ..) | ("log", _, Some("warn")) => (SeverityNumber::Warn, "WARN"),
        ("log", _, Some("error")) => (SeverityNumber::Error, "ERROR"),
        ("log", _, Some("debug" | "trace")) => (SeverityNumber::Debug, "DEBUG"),
        _ => (SeverityNumber::Info, "INFO"),
    }
}

/// The service that the owner is to OpenTelemetry, and its namespace. The tracer's own lines are of the tracer.
fn service(kind: &str, line: &Flat) -> (String, Option<String>) {
    if matches!(kind, "start" | "heartbeat" | "lost" | "log" | "snapshot") {
        return ("kube-tcpstates".to_owned(), None);
    }
    let names = [SERVICE_LABEL].into_iter().chain(WORKLOADS).chain(["k8s.pod.name", "tcpstates.host.unit"]);
    // The last is the name that the resource conventions have for a service that is not known.
    let name = names.into_iter().find_map(|name| line.text(name)).unwrap_or("unknown_service");
    (name.to_owned(), line.text("k8s.namespace.name").map(str::to_owned))
}

/// Attributes of an owner, in one order whatever kind of line they come from.
fn resource(
    mut attributes: Vec<(String, Value)>,
    (service, namespace): (String, Option<String>),
) -> Vec<(String, Value)> {
    attributes.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    attributes.push(("service.name".to_owned(), service.into()));
    attributes.extend(namespace.map(|namespace| ("service.namespace".to_owned(), namespace.into())));
    attributes
}

fn of_owner(attributes: Vec<(String, Value)>) -> ResourceLogs {
    let resource =
        Resource { attributes: attributes.into_iter().map(attribute).collect(), ..Resource::default() };
    let scope = InstrumentationScope {
        name: "kube-tcpstates".to_owned(),
        version: crate::VERSION.to_owned(),
        ..InstrumentationScope::default()
    };
    let logs = ScopeLogs { scope: Some(scope), ..ScopeLogs::default() };
    ResourceLogs { resource: Some(resource), scope_logs: vec![logs], ..ResourceLogs::default() }
}

fn attribute((key, value): (String, Value)) -> KeyValue {
    KeyValue { key, value: Some(any(value)), ..KeyValue::default() }
}

fn string(text: String) -> AnyValue {
    AnyValue { value: Some(Kind::StringValue(text)) }
}

fn any(value: Value) -> AnyValue {
    let kind = match value {
        Value::Null => return AnyValue::default(),
        Value::Bool(value) => Kind::BoolValue(value),
        // What an i64 cannot hold stays exact as text.
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Kind::IntValue(number),
            (None, _) if number.is_u64() => Kind::StringValue(number.to_string()),
            (None, number) => Kind::DoubleValue(number.unwrap_or_default()),
        },
        Value::String(text) => Kind::StringValue(text),
        Value::Array(values) => {
            Kind::ArrayValue(ArrayValue { values: values.into_iter().map(any).collect() })
        }
        // `Flat` leaves objects in arrays alone: the checks of the preflight.
        object @ Value::Object(_) => Kind::StringValue(object.to_string()),
    };
    AnyValue { value: Some(kind) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn batch(lines: &[Value]) -> Batch {
        let mut batch = Batch::default();
        for line in lines {
            assert!(batch.add(line.to_string().as_bytes(), 7));
        }
        batch
    }

    fn connection(pod: &str, outcome: &str) -> Value {
        json!({
            "time": "2026-11-27T11:56:05.000000001Z",
            "tcpstates": {"type": "connection", "schema": "tcpstates.dev/events/v1", "seq": 3, "outcome": outcome,
                "role": "client", "connection": {"id": "00ff"}, "traces": ["shop/a"]},
            "network": {"transport": "tcp", "peer": {"address": "10.1.2.7", "port": 81}},
            "k8s": {"namespace": {"name": "shop"}, "pod": {"name": pod, "uid": "u"}, "deployment": {"name": "checkout"}},
            "container": {"id": "c0"},
        })
    }

    fn names(attributes: &[KeyValue]) -> Vec<&str> {
        attributes.iter().map(|attribute| attribute.key.as_str()).collect()
    }

    fn value<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a Kind> {
        attributes.iter().find(|attribute| attribute.key == name)?.value.as_ref()?.value.as_ref()
    }

    #[test]
    fn a_record_has_every_member_of_its_line_under_its_path_and_the_owners_are_the_resources() {
        let batch = batch(&[connection("a", "refused")]);
        let [logs] = &batch.request().resource_logs[..] else { panic!("{batch:?}") };
        let resource = &logs.resource.as_ref().unwrap().attributes;
        assert_eq!(
            names(resource),
            [
                "container.id",
                "k8s.deployment.name",
                "k8s.namespace.name",
                "k8s.pod.name",
                "k8s.pod.uid",
                "service.name",
                "service.namespace"
            ]
        );
        assert_eq!(value(resource, "service.name"), Some(&Kind::StringValue("checkout".to_owned())));
        let record = &logs.scope_logs[0].log_records[0];
        assert_eq!(
            names(&record.attributes),
            [
                "network.peer.address",
                "network.peer.port",
                "network.transport",
                "tcpstates.connection.id",
                "tcpstates.outcome",
                "tcpstates.role",
                "tcpstates.schema",
                "tcpstates.seq",
                "tcpstates.traces",
                "tcpstates.type"
            ]
        );
        assert_eq!(value(&record.attributes, "network.peer.port"), Some(&Kind::IntValue(81)));
        assert_eq!((record.time_unix_nano, record.observed_time_unix_nano), (1_795_780_565_000_000_001, 7));
        assert_eq!((&*record.event_name, &*record.severity_text), ("tcpstates.connection", "WARN"));
        let body = record.body.as_ref().and_then(|body| body.value.as_ref());
        assert_eq!(body, Some(&Kind::StringValue("checkout refused by 10.1.2.7:81".to_owned())));
    }

    #[test]
    fn records_of_one_owner_stand_together() {
        let batch =
            batch(&[connection("a", "closed"), connection("b", "closed"), connection("a", "timed_out")]);
        let counts: Vec<_> =
            batch.request().resource_logs.iter().map(|logs| logs.scope_logs[0].log_records.len()).collect();
        assert_eq!((counts, batch.records()), (vec![2, 1], 3));
    }

    #[test]
    fn the_label_for_the_name_of_a_service_comes_before_its_workload() {
        let mut line = connection("a", "closed");
        line["k8s"]["pod"]["label"] = json!({"app_kubernetes_io/name": "shop-checkout"});
        let batch = batch(&[line]);
        let resource = &batch.request().resource_logs[0].resource.as_ref().unwrap().attributes;
        assert_eq!(value(resource, "service.name"), Some(&Kind::StringValue("shop-checkout".to_owned())));
    }

    #[test]
    fn a_number_that_has_no_place_in_an_integer_stays_exact() {
        assert_eq!(any(json!(u64::MAX)).value, Some(Kind::StringValue("18446744073709551615".to_owned())));
        assert_eq!(any(json!(-3)).value, Some(Kind::IntValue(-3)));
    }

    #[test]
    fn the_tracers_own_lines_are_of_the_tracer() {
        let lost = json!({"time": "2026-11-27T11:56:05Z", "tcpstates": {"type": "lost", "lost": {"since_last": 3, "total": 4}},
            "k8s": {"node": {"name": "node-a"}}});
        let batch = batch(&[lost]);
        let logs = &batch.request().resource_logs[0];
        let resource = &logs.resource.as_ref().unwrap().attributes;
        assert_eq!(names(resource), ["k8s.node.name", "service.name"]);
        assert_eq!(logs.scope_logs[0].log_records[0].severity_text, "WARN");
    }

    #[test]
    fn what_is_no_line_is_no_record() {
        let mut batch = Batch::default();
        for text in ["", "{", "[]", "{}", r#"{"tcpstates":{}}"#] {
            assert!(!batch.add(text.as_bytes(), 0), "{text}");
        }
        assert_eq!(batch.records(), 0);
    }
}
