//! Which kind a line is. The kind stands inside a line (`tcpstates.type`), where serde's enums cannot look for it, so
//! this reads it by hand; each kind writes it itself.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::{
    ConnectionLine, Heartbeat, Listener, Log, Lost, Snapshot, Socket, Start, SummaryLine, TimeWait,
    Transition,
};

/// One line of the stream. `tcpstates.type` says which kind.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Line {
    /// The first line of a run: what traces, and how.
    Start(Box<Start>),
    /// One TCP state transition of one socket.
    Transition(Box<Transition>),
    /// One connection that has ended.
    Connection(Box<ConnectionLine>),
    /// Connections that have ended in an interval, added up.
    Summary(Box<SummaryLine>),
    /// A connection that was open when a snapshot was taken.
    Socket(Box<Socket>),
    /// A listener that was open when a snapshot was taken.
    Listener(Box<Listener>),
    /// How many connections of a network namespace were in `TIME_WAIT` when a snapshot was taken.
    TimeWait(Box<TimeWait>),
    /// The end of a snapshot: how much there was.
    Snapshot(Box<Snapshot>),
    /// Events were lost since the last such line.
    Lost(Box<Lost>),
    /// The tracer is alive; totals of the run so far.
    Heartbeat(Box<Heartbeat>),
    /// A diagnostic of the tracer itself. Has no `seq`.
    Log(Log),
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let line = Value::deserialize(deserializer)?;
        let kind = line.pointer("/tcpstates/type").and_then(Value::as_str);
        match kind.ok_or_else(|| D::Error::custom("a line without `tcpstates.type`"))? {
            "start" => serde_json::from_value(line).map(Self::Start),
            "transition" => serde_json::from_value(line).map(Self::Transition),
            "connection" => serde_json::from_value(line).map(Self::Connection),
            "summary" => serde_json::from_value(line).map(Self::Summary),
            "socket" => serde_json::from_value(line).map(Self::Socket),
            "listener" => serde_json::from_value(line).map(Self::Listener),
            "time_wait" => serde_json::from_value(line).map(Self::TimeWait),
            "snapshot" => serde_json::from_value(line).map(Self::Snapshot),
            "lost" => serde_json::from_value(line).map(Self::Lost),
            "heartbeat" => serde_json::from_value(line).map(Self::Heartbeat),
            "log" => serde_json::from_value(line).map(Self::Log),
            other => return Err(D::Error::custom(format_args!("no kind of line: {other:?}"))),
        }
        .map_err(D::Error::custom)
    }
}

impl Line {
    /// Numbers the line within its run. A line of type `log` has no number.
    pub fn set_seq(&mut self, seq: u64) {
        match self {
            Self::Start(line) => line.tcpstates.seq = seq,
            Self::Transition(line) => line.tcpstates.seq = seq,
            Self::Connection(line) => line.tcpstates.seq = seq,
            Self::Summary(line) => line.tcpstates.seq = seq,
            Self::Socket(line) => line.tcpstates.seq = seq,
            Self::Listener(line) => line.tcpstates.seq = seq,
            Self::TimeWait(line) => line.tcpstates.seq = seq,
            Self::Snapshot(line) => line.tcpstates.seq = seq,
            Self::Lost(line) => line.tcpstates.seq = seq,
            Self::Heartbeat(line) => line.tcpstates.seq = seq,
            Self::Log(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Line;
    use crate::{Heartbeat, Log, Lost, Snapshot, Start};

    #[test]
    fn a_line_says_its_kind_under_tcpstates_and_is_read_by_it() {
        let lines = [
            ("start", Line::Start(Box::<Start>::default())),
            ("snapshot", Line::Snapshot(Box::<Snapshot>::default())),
            ("lost", Line::Lost(Box::<Lost>::default())),
            ("heartbeat", Line::Heartbeat(Box::<Heartbeat>::default())),
            ("log", Line::Log(Log::default())),
        ];
        for (kind, line) in lines {
            let value = serde_json::to_value(&line).unwrap();
            assert_eq!(value["tcpstates"]["type"], kind);
            assert_eq!(serde_json::from_value::<Line>(value).unwrap(), line);
        }
    }

    #[test]
    fn what_is_no_line_is_told_why() {
        for (text, reason) in [
            ("{}", "a line without `tcpstates.type`"),
            (r#"{"type":"log"}"#, "a line without `tcpstates.type`"),
            (r#"{"tcpstates":{"type":"later"}}"#, "no kind of line: \"later\""),
            (r#"{"tcpstates":{"type":"log"}}"#, "missing field `schema`"),
        ] {
            assert_eq!(serde_json::from_str::<Line>(text).unwrap_err().to_string(), reason);
        }
    }
}
