//! `tcpstates.type` `log`: a diagnostic of the tracer itself, so that the whole log of a container parses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::SchemaId;
use crate::schema::Kind;

/// A diagnostic. It is not an event: it has no `seq`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Log {
    /// Wall-clock time the line was made, RFC 3339 in UTC with nanoseconds.
    pub time: String,
    /// What has a name of our own.
    pub tcpstates: LogAttributes,
}

/// The attributes of a diagnostic, all our own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "log")]
#[schemars(rename = "LogAttributes", transform = Kind("log"))]
pub struct LogAttributes {
    /// Name and version of the format.
    pub schema: SchemaId,
    /// 8 hex digits, new for each process.
    pub run: String,
    /// How much it matters.
    pub level: Level,
    /// What is to be said, for a reader. Cut with `…` where it is too long for a line.
    pub text: String,
}

/// How much a diagnostic matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Something does not work.
    Error,
    /// Something works less well than asked.
    Warn,
    /// Good to know.
    #[default]
    Info,
    /// For whoever looks into the tracer.
    Debug,
    /// In great detail.
    Trace,
}
