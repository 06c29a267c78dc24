//! The tracer's output, read the way a consumer would: by the published names, not through the tracer's types,
//! so that a name that changed there by accident is noticed here.

use std::net::IpAddr;
use std::time::SystemTime;

use serde_json::Value;

use crate::tuple::{End, Tuple};

/// One line of stdout and when the test had it.
#[derive(Clone, Debug)]
pub struct Line {
    /// Without the line feed.
    pub text: Vec<u8>,
    /// Wall-clock time of its arrival.
    pub arrived: SystemTime,
}

impl Line {
    /// As text; every output of the tracer is UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        str::from_utf8(&self.text).unwrap_or_else(|error| panic!("{error} in the line {:?}", self.text))
    }

    /// As JSON.
    #[track_caller]
    pub fn json(&self) -> Event {
        let text = self.text();
        Event(serde_json::from_str(text).unwrap_or_else(|error| panic!("not JSON: {error}: {text:?}")))
    }
}

/// A JSON line.
#[derive(Clone, Debug, PartialEq)]
pub struct Event(pub Value);

impl Event {
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

    /// `start`, `transition`, `lost` ...
    #[track_caller]
    pub fn kind(&self) -> &str {
        self.text("tcpstates.type").unwrap_or_else(|| panic!("a line without a type: {}", self.0))
    }

    /// A text that every transition has.
    #[track_caller]
    pub fn must(&self, path: &str) -> &str {
        self.text(path).unwrap_or_else(|| panic!("no {path} in {}", self.0))
    }

    /// Ends and states of a transition.
    #[track_caller]
    pub fn tuple(&self) -> Tuple {
        let (local, peer) = self.ends();
        Tuple {
            local,
            peer,
            old: self.must("tcpstates.old_state").to_owned(),
            new: self.must("tcpstates.new_state").to_owned(),
        }
    }

    /// This socket's end and the other one.
    #[track_caller]
    pub fn ends(&self) -> (End, End) {
        (self.end("network.local"), self.end("network.peer"))
    }

    /// An end that is absent, or a part of it, is "not told".
    fn end(&self, path: &str) -> End {
        let address = self.text(&format!("{path}.address"));
        let address = address.map(|text| text.parse().unwrap_or_else(|_| panic!("not an address: {text}")));
        let any = || match self.text("network.type") {
            Some("ipv6") => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
            _ => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        };
        let port = self.number(&format!("{path}.port")).unwrap_or(0);
        End::new(address.unwrap_or_else(any), u16::try_from(port).expect("a port"))
    }

    /// `container.id` and `k8s.pod.uid`.
    pub fn owner(&self) -> (Option<&str>, Option<&str>) {
        (self.text("container.id"), self.text("k8s.pod.uid"))
    }
}

/// A row of `-s`: the BCC columns, then container and pod where `-w` asks for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// SKADDR: the connection id.
    pub connection: String,
    /// C-PID: the task on the CPU.
    pub on_cpu: u32,
    /// C-COMM.
    pub comm: String,
    /// Ends and states.
    pub tuple: Tuple,
}

impl Row {
    /// Reads a CSV line; nothing for the header.
    #[track_caller]
    pub fn parse(line: &str) -> Option<Self> {
        let cells = cells(line);
        let [connection, on_cpu, comm, _, local, local_port, peer, peer_port, old, new, ..] = &cells[..]
        else {
            panic!("too few columns in {line:?}");
        };
        if connection == "SKADDR" {
            return None;
        }
        let end = |address: &str, port: &str| {
            let address = address.parse().unwrap_or_else(|_| panic!("not an address: {address} in {line:?}"));
            End::new(address, port.parse().unwrap_or_else(|_| panic!("not a port: {port} in {line:?}")))
        };
        Some(Self {
            connection: connection.clone(),
            on_cpu: on_cpu.parse().unwrap_or_else(|_| panic!("not a pid: {on_cpu} in {line:?}")),
            comm: comm.clone(),
            tuple: Tuple {
                local: end(local, local_port),
                peer: end(peer, peer_port),
                old: old.clone(),
                new: new.clone(),
            },
        })
    }
}

/// Splits a CSV record by RFC 4180 (without line feeds inside quotes).
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let cell = cells.last_mut().expect("there is always a cell");
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            other => cell.push(other),
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_comma_does_not_end_a_cell() {
        assert_eq!(cells(r#"a,"b,""c""",,d"#), ["a", r#"b,"c""#, "", "d"]);
    }

    #[test]
    fn a_row_has_the_bcc_columns() {
        let row =
            Row::parse("9f2c,42,\"x,y\",4,10.0.0.1,0,10.0.0.2,80,CLOSE,SYN_SENT,0.000,,").expect("a row");
        assert_eq!((row.on_cpu, row.comm.as_str(), row.tuple.peer.port), (42, "x,y", 80));
        assert_eq!(Row::parse("SKADDR,C-PID,C-COMM,IP,LADDR,LPORT,RADDR,RPORT,OLDSTATE,NEWSTATE,MS"), None);
    }
}
