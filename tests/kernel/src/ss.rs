//! What iproute2's `ss` says of the TCP sockets of a network namespace.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use crate::netns::Netns;
use crate::tuple::End;

/// One socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// By `ss`'s name, such as `ESTAB`.
    pub state: String,
    /// Bytes that have come and were not read, FIN included; of a listener, connections to be accepted.
    pub unread: u64,
    /// Bytes written and not acknowledged, FIN included.
    pub unacknowledged: u64,
    /// Retransmissions by timeout that nothing has answered yet.
    pub retransmits_pending: u64,
    /// Processes that hold it.
    pub pids: Vec<u32>,
    /// What else it says, by name: `bytes_acked`, `rtt` ...
    more: BTreeMap<String, String>,
}

impl Said {
    /// A number by its name; what is 0 is not said.
    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        self.more.get(name).map_or(0, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")))
    }

    /// A time in microseconds, said in milliseconds; of `rtt` the mean.
    #[track_caller]
    pub fn micros(&self, name: &str) -> f64 {
        let text = self.more.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}"));
        let mean = text.split('/').next().and_then(|text| text.parse::<f64>().ok());
        mean.unwrap_or_else(|| panic!("{name}: {text}")) * 1e3
    }

    /// Segments sent again, SYNs included.
    pub fn retransmits(&self) -> u64 {
        let all = self.more.get("retrans").and_then(|text| text.split_once('/'));
        all.map_or(0, |(_, total)| total.parse().expect("a number"))
    }
}

/// The sockets of a namespace by their ends, with what the kernel tells of each (`--info`).
#[track_caller]
pub fn sockets(namespace: &Netns) -> HashMap<(End, End), Said> {
    ask(namespace, "--info")
}

/// The same, with the processes that hold them in place of that.
#[track_caller]
pub fn holders(namespace: &Netns) -> HashMap<(End, End), Said> {
    ask(namespace, "--processes")
}

#[track_caller]
fn ask(namespace: &Netns, what: &str) -> HashMap<(End, End), Said> {
    let mut ss = Command::new("ip");
    ss.args(["netns", "exec", namespace.name(), "ss", "--tcp", "--all", "--numeric", "--options"]);
    let output = ss.args(["--no-header", "--oneline", what]).output().expect("run ss");
    assert!(output.status.success(), "ss: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("ss writes text");
    text.lines().map(|line| parse(line).unwrap_or_else(|| panic!("ss said {line:?}"))).collect()
}

fn parse(line: &str) -> Option<((End, End), Said)> {
    // A process' name may be anything.
    let (line, users) = line.split_once(" users:").unwrap_or((line, ""));
    let mut words = line.split_whitespace();
    let state = words.next()?.to_owned();
    let (unread, unacknowledged) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let ends = (end(words.next()?)?, end(words.next()?)?);
    let pids = users.split("pid=").skip(1).filter_map(leading_number).collect();
    let mut said = Said { state, unread, unacknowledged, pids, ..Said::default() };
    for word in words {
        let Some((name, text)) = word.split_once(':') else { continue };
        match name {
            // (on,1.2sec,3): of this kind alone the number is of retransmissions.
            "timer" => {
                let number = text.strip_prefix("(on,").and_then(|text| text.rsplit_once(','));
                said.retransmits_pending =
                    number.map_or(Some(0), |(_, number)| number.trim_end_matches(')').parse().ok())?;
            }
            _ => drop(said.more.insert(name.to_owned(), text.to_owned())),
        }
    }
    Some((ends, said))
}

fn leading_number(text: &str) -> Option<u32> {
    text.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

/// `10.0.0.1:80`, `[::1]:80`, `*:80`, `0.0.0.0:*`.
fn end(text: &str) -> Option<End> {
    let (address, port) = text.rsplit_once(':')?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let address: IpAddr = if address == "*" { Ipv4Addr::UNSPECIFIED.into() } else { address.parse().ok()? };
    Some(End::new(address, if port == "*" { 0 } else { port.parse().ok()? }))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_line_is_ends_queues_timer_and_what_has_a_name() {
        let line = "ESTAB 0 1448 10.77.1.1:40000 [::ffff:10.77.1.2]:80 timer:(on,1.2sec,3) cubic wscale:7,7 rto:400 \
                    rtt:0.25/0.125 bytes_acked:12 segs_out:4 lastsnd:8 retrans:1/3 minrtt:0.05";
        let ((local, peer), said) = parse(line).expect("a socket");
        assert_eq!((local.port, peer.address), (40_000, "10.77.1.2".parse().expect("an address")));
        assert_eq!((said.state.as_str(), said.unread, said.unacknowledged), ("ESTAB", 0, 1_448));
        assert_eq!((said.retransmits_pending, said.retransmits(), said.number("bytes_acked")), (3, 3, 12));
        assert_eq!(
            (said.micros("rtt"), said.micros("minrtt"), said.number("out_of_order")),
            (250.0, 50.0, 0)
        );
    }

    #[test]
    fn a_keepalive_timer_counts_no_retransmissions_and_holders_are_all_named() {
        let line = r#"LISTEN 0 128 0.0.0.0:80 0.0.0.0:* timer:(keepalive,1min,2) users:(("a b",pid=7,fd=3),("c",pid=12,fd=9))"#;
        let ((local, peer), said) = parse(line).expect("a socket");
        assert_eq!((local.port, peer.port, said.retransmits_pending), (80, 0, 0));
        assert_eq!(said.pids, [7, 12]);
    }
}
