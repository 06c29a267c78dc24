//! Lines that are not as they were written: in the envelope of a container runtime, or in another format.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::line::{Text, document};

/// A line in the file of Docker's driver `json-file`.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    log: Text<'a>,
}

/// What Docker begins each of its lines with, and kube-tcpstates none.
const ENVELOPE: &[u8] = br#"{"log":""#;

/// The line that a container wrote, where Docker has put it into an envelope.
pub(crate) fn unwrap(bytes: &[u8]) -> Option<Cow<'_, str>> {
    let document = document(bytes)?;
    if !document.starts_with(ENVELOPE) {
        return None;
    }
    serde_json::from_slice::<Envelope<'_>>(document).ok().map(|envelope| envelope.log.0)
}

/// A format of kube-tcpstates that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `-o ecs`.
    Ecs,
    /// `-o otlp-json`, or the file exporter of an OpenTelemetry Collector.
    Otlp,
}

/// The marks of either.
#[derive(Deserialize)]
struct Marks<'a> {
    ecs: Option<Version>,
    #[serde(borrow)]
    observer: Option<Observer<'a>>,
    #[serde(rename = "resourceLogs")]
    resource_logs: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Version {
    version: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Observer<'a> {
    #[serde(borrow)]
    product: Option<Text<'a>>,
}

impl Format {
    /// Of a line that could not be read. `None`: of neither.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let marks: Marks<'_> = serde_json::from_slice(document(bytes)?).ok()?;
        let is_ours = || {
            marks
                .observer
                .and_then(|observer| observer.product)
                .is_some_and(|name| &*name == "kube-tcpstates")
        };
        if marks.resource_logs.is_some() {
            Some(Self::Otlp)
        } else {
            (marks.ecs.is_some_and(|ecs| ecs.version.is_some()) || is_ours()).then_some(Self::Ecs)
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Options, Report};

    const LINE: &str = r#"{"time":"2026-11-27T11:56:05Z","tcpstates":{"type":"connection","schema":"tcpstates.dev/events/v1","run":"a","seq":1,"outcome":"refused"},"thread":{"name":"\"x\""}}"#;
    const ECS: &str = r#"{"@timestamp":"2026-11-27T01:23:30Z","ecs":{"version":"9.4.0"},"observer":{"product":"kube-tcpstates"},"tcpstates":{"type":"transition","schema":"tcpstates.dev/events/v1"}}"#;
    /// As the agent's own lines are, which have no version.
    const ECS_LOST: &str = r#"{"@timestamp":"2026-11-27T01:23:30Z","observer":{"product":"kube-tcpstates"},"tcpstates":{"type":"lost","schema":"tcpstates.dev/events/v1"}}"#;
    const OTLP: &str = r#"{"resourceLogs":[{"resource":{}}]}"#;

    fn read(text: &str) -> Report {
        let mut report = Report::new(Options::default());
        report.read(text.as_bytes()).unwrap();
        report
    }

    #[test]
    fn a_line_in_dockers_envelope_is_the_line() {
        let envelope = serde_json::json!({"log": format!("{LINE}\n"), "stream": "stdout", "time": "2026-11-27T11:56:06Z"});
        for text in [envelope.to_string(), format!("[pod/agent] {envelope}")] {
            let report = read(&text);
            assert_eq!((report.input.ours, report.input.foreign), (1, 0), "{text}");
            assert_eq!(report.nothing(), None);
        }
        let other = read("{\"log\":\"not ours\\n\",\"stream\":\"stderr\"}\n");
        assert_eq!((other.input.ours, other.input.foreign), (0, 1));
    }

    #[test]
    fn lines_of_another_format_are_named() {
        let both = read(&[ECS, ECS_LOST, OTLP].join("\n"));
        let said = "no line of kube-tcpstates is among 3 lines that came; 2 lines of -o ecs: report reads -o json; 1 line of -o otlp-json: report reads -o json";
        assert_eq!(both.nothing().as_deref(), Some(said));
        assert!(both.page().contains("2 lines of -o ecs: report reads -o json."));
        assert_eq!(read(&format!("[pod/agent] {ECS}")).input.ecs, 1);
    }

    #[test]
    fn nothing_is_told_from_nothing_of_ours() {
        assert_eq!(read("\n").nothing().as_deref(), Some("there is no line to report of"));
        let other = read("{}\nsomething\n");
        assert_eq!(other.nothing().as_deref(), Some("no line of kube-tcpstates is among 2 lines that came"));
        // Half a line of ours may be one.
        assert!(read(&LINE[..40]).nothing().is_some());
        assert_eq!(read(&format!("{{}}\n{LINE}\n")).nothing(), None);
        // An answer of the lines API that has none is an answer.
        let end = r#"{"time":"2026-11-27T11:56:06Z","tcpstates":{"type":"end","schema":"tcpstates.dev/lines/v1","reason":"complete"}}"#;
        assert_eq!(read(end).nothing(), None);
    }
}
