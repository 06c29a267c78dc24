//! What of an agent's line a reader of one trace gets. Pure.
//!
//! Nothing on a line can be trusted but its structure: names of processes, labels and units are chosen by anybody. So a
//! line is passed on only after it was parsed, and what is passed on is the agent's text, byte for byte, but for the
//! lists of traces.

use std::borrow::Cow;
use std::fmt;

use memchr::memmem::Finder;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::query::Trace;

/// Where a line stands in its agent's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// As it stands on the line.
    pub time: Cow<'a, str>,
    /// `tcpstates.type`.
    pub kind: Cow<'a, str>,
    /// Of one process of the agent.
    pub run: Cow<'a, str>,
    /// A diagnostic has none.
    pub seq: Option<u64>,
}

impl<'a> Head<'a> {
    /// Of a line; None if it is not one.
    pub fn of(line: &'a str) -> Option<Self> {
        Self::of_beginning(line).or_else(|| Self::of_document(line))
    }

    /// Agents write these first, in this order, and none of them holds what others chose. Most lines are not for this
    /// reader, and of those nothing else is looked at.
    fn of_beginning(line: &'a str) -> Option<Self> {
        let rest = line.strip_prefix(r#"{"time":""#)?;
        let (time, rest) = plain(rest)?;
        let (kind, rest) = plain(rest.strip_prefix(r#","tcpstates":{"type":""#)?)?;
        let (_, rest) = plain(rest.strip_prefix(r#","schema":""#)?)?;
        let (run, rest) = plain(rest.strip_prefix(r#","run":""#)?)?;
        let digits = rest.strip_prefix(r#","seq":"#)?;
        let (seq, _) = digits.split_at(digits.find(|character: char| !character.is_ascii_digit())?);
        let seq = Some(seq.parse().ok()?);
        Some(Self { time: time.into(), kind: kind.into(), run: run.into(), seq })
    }

    fn of_document(line: &'a str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Line<'a> {
            #[serde(borrow)]
            time: Cow<'a, str>,
            #[serde(borrow)]
            tcpstates: Own<'a>,
        }
        #[derive(Deserialize)]
        struct Own<'a> {
            #[serde(borrow, rename = "type")]
            kind: Cow<'a, str>,
            #[serde(borrow)]
            run: Cow<'a, str>,
            seq: Option<u64>,
        }
        let Line { time, tcpstates: Own { kind, run, seq } } = serde_json::from_str(line).ok()?;
        Some(Self { time, kind, run, seq })
    }
}

/// What stands before the next quote, if there is no escape in it; and what is behind the quote.
fn plain(text: &str) -> Option<(&str, &str)> {
    let (inside, rest) = text.split_once('"')?;
    (!inside.contains('\\')).then_some((inside, rest))
}

/// How many further traces asked for a line, which it does not name.
const OMITTED: &str = r#""traces_omitted":"#;

/// Takes out of a stream what is about one trace.
#[derive(Clone, Debug)]
pub struct Filter {
    trace: String,
    /// That of the pods whose lines it can be about; None: of all.
    namespace: Option<String>,
    /// The trace's name in quotes.
    quoted: Finder<'static>,
    /// The member that counts traces that are not named.
    omitted: Finder<'static>,
}

impl Filter {
    /// For the readers of this trace.
    pub fn new(trace: &Trace) -> Self {
        let name = trace.to_string();
        let quoted = Finder::new(&format!("\"{name}\"")).into_owned();
        let omitted = Finder::new(OMITTED);
        Self { trace: name, namespace: trace.namespace.clone(), quoted, omitted }
    }

    /// Whether a line can be about the trace: most are dropped by this alone.
    pub fn may_be_about(&self, line: &str) -> bool {
        self.quoted.find(line.as_bytes()).is_some()
    }

    /// The line as the trace's readers get it, if the trace asked for it: of the traces it names this one alone, all else
    /// as it was.
    pub fn pass(&self, line: &str) -> Option<String> {
        if !self.may_be_about(line) {
            return None;
        }
        let document: Members<'_> = serde_json::from_str(line).ok()?;
        let own: Members<'_> = serde_json::from_str(document.get("tcpstates")?.get()).ok()?;
        // The agent's own affairs are not told; what they hold of the trace is, in lines of this program.
        let kind: Cow<'_, str> = serde_json::from_str(own.get("type")?.get()).ok()?;
        if matches!(&*kind, "start" | "lost" | "heartbeat" | "log") {
            return None;
        }
        let list = self.list();
        let traces: Vec<Cow<'_, str>> = serde_json::from_str(own.get(list)?.get()).ok()?;
        if !traces.iter().any(|trace| *trace == self.trace) {
            return None;
        }
        let mut passed = String::with_capacity(line.len() + 1);
        document.write(&mut passed, |name, value, passed| {
            if name != "tcpstates" {
                passed.push_str(value);
                return true;
            }
            own.write(passed, |name, value, passed| match name {
                _ if name == list => {
                    // A name of an object needs no escape.
                    passed.extend(["[\"", &self.trace, "\"]"]);
                    true
                }
                "traces" | "cluster_traces" | "traces_omitted" => false,
                _ => {
                    passed.push_str(value);
                    true
                }
            });
            true
        });
        Some(passed)
    }

    /// Whether a line that does not name the trace may be about it all the same: it had no room for the names of all
    /// traces that asked for it.
    pub fn may_leave_it_out(&self, line: &str) -> bool {
        self.omitted.find(line.as_bytes()).is_some() && self.leaves_some_out(line).unwrap_or(false)
    }

    fn leaves_some_out(&self, line: &str) -> Option<bool> {
        let document: Members<'_> = serde_json::from_str(line).ok()?;
        let own: Members<'_> = serde_json::from_str(document.get("tcpstates")?.get()).ok()?;
        let omitted: u64 = serde_json::from_str(own.get("traces_omitted")?.get()).ok()?;
        let named: Vec<Cow<'_, str>> =
            own.get(self.list()).map_or(Some(Vec::new()), |list| serde_json::from_str(list.get()).ok())?;
        let is_theirs = match &self.namespace {
            None => true,
            Some(wanted) => document
                .get("k8s")
                .and_then(|k8s| serde_json::from_str::<K8s<'_>>(k8s.get()).ok())
                .is_some_and(|k8s| k8s.namespace.name == *wanted),
        };
        Some(omitted > 0 && is_theirs && !named.iter().any(|trace| *trace == self.trace))
    }

    const fn list(&self) -> &'static str {
        if self.namespace.is_none() { "cluster_traces" } else { "traces" }
    }

    /// How many transitions that the trace wanted are lost in the run so far, if a `lost` line says so.
    pub fn lost(&self, line: &str) -> Option<u64> {
        if !self.may_be_about(line) {
            return None;
        }
        let lost: kube_tcpstates_events::Lost = serde_json::from_str(line).ok()?;
        lost.tcpstates.lost.by_trace.get(&self.trace).copied()
    }
}

#[derive(Deserialize)]
struct K8s<'a> {
    #[serde(borrow)]
    namespace: Namespace<'a>,
}

#[derive(Deserialize)]
struct Namespace<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// The members of an object in their order, unread. One of two with the same name is an error: which of them another
/// reader would take, nobody knows.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// Writes an object of these; `value` writes what belongs to a name, or nothing to leave both out.
    fn write(&self, text: &mut String, mut value: impl FnMut(&str, &str, &mut String) -> bool) {
        text.push('{');
        let begin = text.len();
        for (name, raw) in &self.0 {
            let before = text.len();
            if before > begin {
                text.push(',');
            }
            text.push_str(&serde_json::Value::from(name.as_str()).to_string());
            text.push(':');
            if !value(name, raw.get(), text) {
                text.truncate(before);
            }
        }
        text.push('}');
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(String, &RawValue)> = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if members.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom("a name twice"));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// Whether a heartbeat is the run's last line.
pub fn is_final(line: &str) -> bool {
    #[derive(Deserialize)]
    struct Line {
        tcpstates: Own,
    }
    #[derive(Deserialize)]
    struct Own {
        #[serde(rename = "final", default)]
        last: bool,
        #[serde(rename = "type")]
        _kind: IgnoredAny,
    }
    serde_json::from_str::<Line>(line).is_ok_and(|line| line.tcpstates.last)
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
