//! Lines of this program's own among those of the agents: what a reader did not get, and how the stream ended. Pure.
//!
//! docs/tenancy.md lists them.

use serde::Serialize;

/// The format of these lines.
const SCHEMA: &str = "tcpstates.dev/lines/v1";

/// One such line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Notice {
    /// Where it belongs among the others, RFC 3339.
    time: String,
    tcpstates: Own,
    #[serde(skip_serializing_if = "Option::is_none")]
    k8s: Option<K8s>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Own {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: &'static str,
    #[serde(flatten)]
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct K8s {
    node: Node,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Node {
    name: String,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum What {
    /// Something is missing.
    Missing(Missing),
    /// Nothing comes any more.
    End(End),
}

/// What is missing, of one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub(crate) enum Missing {
    /// The agent lost transitions that the trace wanted.
    Lost {
        /// Of which run.
        run: String,
        /// More than the line before of this kind and run told; of the first one, `total`.
        transitions: u64,
        /// In the run so far.
        total: u64,
    },
    /// Lines of the agent did not come, of whichever trace.
    Gap {
        /// Of which run.
        run: String,
        /// How many.
        lines: u64,
    },
    /// What the agent wrote before is in a file that cannot be read any more.
    Rotated {
        /// The oldest line there is.
        from: String,
    },
    /// A run ended without its last line: what the agent had not written then, nobody knows.
    Unfinished {
        /// Which.
        run: String,
    },
    /// Lines of pods of the trace's namespace had no room for the names of all traces that asked for them: they may be
    /// this trace's. Told once a run.
    Unnamed {
        /// Which.
        run: String,
    },
    /// The agent's log cannot be read.
    Unreadable {
        /// Why.
        text: String,
    },
}

/// Why nothing comes any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub(crate) enum End {
    /// That was all there is.
    Complete,
    /// There were as many as asked for.
    Limit,
    /// The API server would have cut it off now: `log` instead of `lines` goes on.
    Time,
    /// The trace was deleted.
    Deleted,
    /// The reader may not read it any more.
    Forbidden,
    /// The reader took nothing for a minute.
    Slow,
}

impl Notice {
    /// That something is missing of a node's lines.
    pub(crate) fn missing(time: &str, node: &str, missing: Missing) -> Self {
        let node = Node { name: node.to_owned() };
        Self::new(time, "missing", What::Missing(missing), Some(K8s { node }))
    }

    /// That the stream ends.
    pub(crate) fn end(time: &str, end: End) -> Self {
        Self::new(time, "end", What::End(end), None)
    }

    fn new(time: &str, kind: &'static str, what: What, k8s: Option<K8s>) -> Self {
        Self { time: time.to_owned(), tcpstates: Own { kind, schema: SCHEMA, what }, k8s }
    }

    /// As it is written.
    pub(crate) fn line(&self) -> String {
        // Text and numbers: this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_our_own_has_its_kind_where_the_agents_lines_have_it() {
        let lost = Missing::Lost { run: "1035e3e9".to_owned(), transitions: 2, total: 9 };
        assert_eq!(
            Notice::missing("2026-11-27T07:08:11.713357122Z", "node-a", lost).line(),
            r#"{"time":"2026-11-27T07:08:11.713357122Z","tcpstates":{"type":"missing","schema":"tcpstates.dev/lines/v1","reason":"lost","run":"1035e3e9","transitions":2,"total":9},"k8s":{"node":{"name":"node-a"}}}"#
        );
        assert_eq!(
            Notice::end("2026-11-27T07:08:11Z", End::Complete).line(),
            r#"{"time":"2026-11-27T07:08:11Z","tcpstates":{"type":"end","schema":"tcpstates.dev/lines/v1","reason":"complete"}}"#
        );
    }
}
