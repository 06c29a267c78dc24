//! The agent's lines, read by their published names and not through the agent's types, as a consumer would.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// One line of an agent's log.
#[derive(Clone, Debug, PartialEq)]
pub struct Line(pub Value);

impl Line {
    /// Reads a whole log. Every line of it must be JSON.
    pub fn parse_all(log: &str) -> Result<Vec<Self>> {
        let parse = |line: &str| serde_json::from_str(line).with_context(|| format!("not JSON: {line:?}"));
        log.lines().map(|line| parse(line).map(Self)).collect()
    }

    /// The value at a dotted path.
    pub fn get(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(&self.0, |value, key| value.get(key))
    }

    /// The text at a dotted path.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.get(path)?.as_str()
    }

    /// The number at a dotted path.
    pub fn number(&self, path: &str) -> Option<u64> {
        self.get(path)?.as_u64()
    }

    /// Whether it is one of `start`, `transition`, `lost`, `heartbeat`, `log`.
    pub fn is(&self, kind: &str) -> bool {
        self.text("tcpstates.type") == Some(kind)
    }

    /// Whether a trace asked for it; `namespace/name`.
    pub fn is_of(&self, trace: &str) -> bool {
        let traces = self.get("tcpstates.traces").and_then(Value::as_array);
        traces.into_iter().flatten().any(|named| named == trace)
    }

    /// What is one connection's only: the run and the id in it.
    pub fn connection(&self) -> Option<(&str, &str)> {
        Some((self.text("tcpstates.run")?, self.text("tcpstates.connection.id")?))
    }

    /// Both addresses, the socket's own first, where both are known.
    pub fn place(&self) -> Option<(SocketAddr, SocketAddr)> {
        Some((self.end("network.local")?, self.end("network.peer")?))
    }

    /// From which state to which.
    pub fn step(&self) -> Option<(&str, &str)> {
        Some((self.text("tcpstates.old_state")?, self.text("tcpstates.new_state")?))
    }

    /// When it happened: microseconds since 1970.
    pub fn time_us(&self) -> Option<u64> {
        let time: jiff::Timestamp = self.text("time")?.parse().ok()?;
        u64::try_from(time.as_microsecond()).ok()
    }

    fn end(&self, path: &str) -> Option<SocketAddr> {
        let address: IpAddr = self.text(&format!("{path}.address"))?.parse().ok()?;
        let port = self.number(&format!("{path}.port"))?;
        Some(SocketAddr::new(address, u16::try_from(port).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_by_its_published_names() {
        let text = r#"{"time":"1970-01-01T00:00:01.000002999Z","tcpstates":{"type":"transition","run":"ab","connection":{"id":"cd"},"traces":["a/b"]},"network":{"local":{"address":"10.0.0.1","port":1},"peer":{"address":"10.0.0.2"}}}"#;
        let lines = Line::parse_all(text).unwrap();
        assert_eq!(lines[0].time_us(), Some(1_000_002));
        assert_eq!(lines[0].connection(), Some(("ab", "cd")));
        assert!(lines[0].is("transition") && lines[0].is_of("a/b") && !lines[0].is_of("a"));
        assert_eq!(lines[0].place(), None, "the peer's port is not known");
    }

    #[test]
    fn a_log_with_anything_else_in_it_is_an_error() {
        assert!(Line::parse_all("{}\nthread 'main' panicked").is_err());
    }
}
