//! `-o otlp-json`: the lines of OpenTelemetry's file exporter, for collectors that read logs. One request a line, of one
//! record (<https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/>).
//!
//! Fields that are empty are left out, as the JSON of protobuf lets them; 64-bit numbers are strings there.

use kube_tcpstates_events::Line;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value as Kind},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
};
use serde::Serialize;
use serde_json::Value;

use super::{Batch, flat::Flat};
use crate::render::format::{Format, FormatEntry, FormatOptions};
use crate::render::{Event, Json, ended::Ended, line};

/// A line's names stand on each record whole, and the owner in front of each: up to four times what they take as JSON.
/// It is the piece in which containerd and Docker write lines, so that these stay whole too.
const LONGEST: usize = 16 << 10;

/// `-o otlp-json`
pub(in crate::render) const FORMAT: FormatEntry = FormatEntry {
    name: "otlp-json",
    about: "OpenTelemetry log records, one request a line",
    columns: false,
    longest: LONGEST,
    make: |options: &FormatOptions| Box::new(OtlpJson { json: Json::new(options.run), line: Vec::new() }),
};

/// Makes requests of JSON lines.
struct OtlpJson {
    json: Json,
    line: Vec<u8>,
}

impl Format for OtlpJson {
    fn transition(&mut self, out: &mut Vec<u8>, seq: u64, event: &Event<'_>) {
        self.line.clear();
        self.json.transition(&mut self.line, seq, event);
        write(out, &self.line);
    }

    fn connection(&mut self, out: &mut Vec<u8>, seq: u64, event: &Event<'_>, ended: &Ended<'_>) {
        self.line.clear();
        self.json.connection(&mut self.line, seq, event, ended);
        write(out, &self.line);
    }

    fn line(&self, out: &mut Vec<u8>, line: &Line) {
        let mut json = Vec::new();
        self.json.line(&mut json, line);
        write(out, &json);
    }
}

fn write(out: &mut Vec<u8>, line: &[u8]) {
    let start = out.len();
    write_whole(out, line);
    if out.len() - start >= LONGEST {
        out.truncate(start);
        write_whole(out, &without_labels(line));
    }
}

fn write_whole(out: &mut Vec<u8>, line: &[u8]) {
    let Ok(line) = serde_json::from_slice::<Flat>(line) else { return };
    let mut batch = Batch::default();
    // The tracer observes an event when it happens.
    if batch.add_line(line, Option::unwrap_or_default) {
        let resource_logs = batch.request().resource_logs.iter().map(Resource::of).collect();
        line::to_writer(out, &Request { resource_logs });
    }
}

/// Hundreds of short labels are what grows most: without them everything has room. They are counted.
fn without_labels(line: &[u8]) -> Vec<u8> {
    let mut line: Value = serde_json::from_slice(line).unwrap_or_default();
    let labels =
        line.pointer_mut("/k8s/pod").and_then(Value::as_object_mut).and_then(|pod| pod.remove("label"));
    let count = labels.as_ref().and_then(Value::as_object).map_or(0, serde_json::Map::len) as u64;
    let omitted = line.pointer("/tcpstates/labels_omitted").and_then(Value::as_u64).unwrap_or(0);
    if let Some(own) = line["tcpstates"].as_object_mut() {
        own.insert("labels_omitted".to_owned(), (omitted + count).into());
    }
    line.to_string().into_bytes()
}

/// `ExportLogsServiceRequest` as the JSON of protobuf has it, written without a tree in between.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_logs: Vec<Resource<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resource<'a> {
    resource: Option<Attributes<'a>>,
    scope_logs: Vec<Scope<'a>>,
}

impl<'a> Resource<'a> {
    fn of(logs: &'a ResourceLogs) -> Self {
        let resource = logs.resource.as_ref();
        Self {
            resource: resource.map(|resource| Attributes { attributes: attributes(&resource.attributes) }),
            scope_logs: logs.scope_logs.iter().map(Scope::of).collect(),
        }
    }
}

#[derive(Serialize)]
struct Attributes<'a> {
    attributes: Vec<Attribute<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Scope<'a> {
    scope: Option<Name<'a>>,
    log_records: Vec<Record<'a>>,
}

impl<'a> Scope<'a> {
    fn of(logs: &'a ScopeLogs) -> Self {
        let scope = logs.scope.as_ref();
        Self {
            scope: scope.map(|scope| Name { name: &scope.name, version: &scope.version }),
            log_records: logs.log_records.iter().map(Record::of).collect(),
        }
    }
}

#[derive(Serialize)]
struct Name<'a> {
    name: &'a str,
    version: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    time_unix_nano: String,
    observed_time_unix_nano: String,
    severity_number: i32,
    severity_text: &'a str,
    event_name: &'a str,
    body: Option<Any<'a>>,
    attributes: Vec<Attribute<'a>>,
}

impl<'a> Record<'a> {
    fn of(record: &'a LogRecord) -> Self {
        Self {
            time_unix_nano: record.time_unix_nano.to_string(),
            observed_time_unix_nano: record.observed_time_unix_nano.to_string(),
            severity_number: record.severity_number,
            severity_text: &record.severity_text,
            event_name: &record.event_name,
            body: record.body.as_ref().map(Any::of),
            attributes: attributes(&record.attributes),
        }
    }
}

#[derive(Serialize)]
struct Attribute<'a> {
    key: &'a str,
    value: Option<Any<'a>>,
}

fn attributes(attributes: &[KeyValue]) -> Vec<Attribute<'_>> {
    attributes.iter().map(Attribute::of).collect()
}

impl<'a> Attribute<'a> {
    fn of(attribute: &'a KeyValue) -> Self {
        Self { key: &attribute.key, value: attribute.value.as_ref().map(Any::of) }
    }
}

#[derive(Serialize)]
enum Any<'a> {
    #[serde(rename = "stringValue")]
    String(&'a str),
    #[serde(rename = "boolValue")]
    Bool(bool),
    #[serde(rename = "intValue")]
    Int(String),
    #[serde(rename = "doubleValue")]
    Double(f64),
    #[serde(rename = "arrayValue")]
    Array { values: Vec<Self> },
}

impl<'a> Any<'a> {
    fn of(value: &'a AnyValue) -> Self {
        match &value.value {
            Some(Kind::StringValue(text)) => Self::String(text),
            Some(Kind::BoolValue(truth)) => Self::Bool(*truth),
            Some(Kind::IntValue(number)) => Self::Int(number.to_string()),
            Some(Kind::DoubleValue(number)) => Self::Double(*number),
            Some(Kind::ArrayValue(list)) => {
                Self::Array { values: list.values.iter().map(Self::of).collect() }
            }
            // `super::any` makes no others.
            _ => Self::String(""),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::render::fixtures::Fixture;

    #[test]
    fn a_line_is_a_request_of_one_record_with_its_owner_as_the_resource() {
        let mut out = Vec::new();
        let mut format = (FORMAT.make)(&FormatOptions { run: 7, ..FormatOptions::default() });
        format.transition(&mut out, 9, &Fixture::client().event());
        assert_eq!(out.pop(), Some(b'\n'));
        let line: Value = serde_json::from_slice(&out).unwrap();
        let logs = &line["resourceLogs"][0];
        let named = |attributes: &Value, name: &str| {
            let attributes = attributes.as_array().unwrap();
            attributes.iter().find(|one| one["key"] == name).map(|one| one["value"].clone())
        };
        let service = named(&logs["resource"]["attributes"], "service.name");
        assert_eq!(service, Some(json!({"stringValue": "checkout"})));
        let record = &logs["scopeLogs"][0]["logRecords"][0];
        assert_eq!(record["eventName"], "tcpstates.transition");
        assert_eq!(record["timeUnixNano"], record["observedTimeUnixNano"]);
        assert_eq!(named(&record["attributes"], "tcpstates.seq"), Some(json!({"intValue": "9"})));
        assert_eq!(named(&record["attributes"], "tcpstates.run"), Some(json!({"stringValue": "00000007"})));
    }

    #[test]
    fn labels_that_would_make_a_line_too_long_are_left_out_and_counted() {
        let labels: serde_json::Map<_, _> =
            (0..350).map(|number| (format!("{number:x}"), json!("b"))).collect();
        let line = json!({"time": "2026-11-27T11:56:05.000000001Z", "k8s": {"pod": {"label": labels}},
            "tcpstates": {"type": "transition", "labels_omitted": 2}});
        let line = line.to_string();
        assert!(line.len() < crate::render::MAX_LINE, "{} bytes", line.len());
        let mut out = Vec::new();
        write(&mut out, line.as_bytes());
        assert!(out.len() < LONGEST, "{} bytes", out.len());
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(r#"{"key":"tcpstates.labels_omitted","value":{"intValue":"352"}}"#), "{text}");
    }
}
