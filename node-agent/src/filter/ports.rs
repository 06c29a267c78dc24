//! Port ranges, and the classes they cut the ports into.
//!
//! A class is a group of ports that every trace treats alike, so the kernel needs one small table from port to
//! class and one from class to set, whatever the rules.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use kube_tcpstates_common::rule::{MAX_TRACES, PORT_CLASSES, PORTS, PortClasses, TraceSet};

use super::error::{FilterError, Reason, list};

/// Ports from `first` to `last`, both included; never port 0, which means "none yet".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The lowest and the highest of some; all ports, where there are none.
    pub(super) fn hull<'a>(ranges: impl Iterator<Item = &'a Self> + Clone) -> [u32; 2] {
        let lowest = ranges.clone().map(|range| range.first).min();
        let highest = ranges.map(|range| range.last).max();
        [lowest.unwrap_or(0).into(), highest.unwrap_or(u16::MAX).into()]
    }

    /// A range, or why it is none.
    pub const fn new(first: u16, last: u16) -> Result<Self, Reason> {
        if first == 0 {
            return Err(Reason::Port);
        }
        if last < first {
            return Err(Reason::PortOrder);
        }
        Ok(Self { first, last })
    }

    /// First port.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// Last port.
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Whether the port lies in it.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl FromStr for PortRange {
    type Err = Reason;

    fn from_str(text: &str) -> Result<Self, Reason> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Self::new(port(first)?, port(last)?)
    }
}

/// Digits only: `u16::from_str` would also take a sign.
fn port(text: &str) -> Result<u16, Reason> {
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_err(|_| Reason::Port)
    } else {
        Err(Reason::Port)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Reads BCC's comma-separated list of ports, with ranges: `80,443,8000-8100`.
pub fn parse_ports(field: &str, text: &str) -> Result<Vec<PortRange>, FilterError> {
    list(field, text, str::parse)
}

/// More distinct pieces than [`PORT_CLASSES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyClasses;

/// The class of every port into `classes`, and the set of every class into `sets`. Class 0 is the empty set, and
/// port 0 is in it.
pub(super) fn classify_ports(
    ranges: &[(usize, PortRange)],
    classes: &mut PortClasses,
    sets: &mut [TraceSet; PORT_CLASSES],
) -> Result<(), TooManyClasses> {
    let mut edges = Vec::with_capacity(ranges.len() * 2);
    for &(bit, range) in ranges {
        edges.push((usize::from(range.first), bit, true));
        edges.push((usize::from(range.last) + 1, bit, false));
    }
    edges.sort_unstable();

    // How many ranges of each trace cover the port: one trace's ranges may overlap.
    let mut depth = [0_usize; MAX_TRACES];
    let mut set: TraceSet = 0;
    let mut known = HashMap::from([(0, 0_u16)]);
    classes.fill(0);
    sets.fill(0);
    for (index, &(start, bit, opens)) in edges.iter().enumerate() {
        if opens {
            depth[bit] += 1;
        } else {
            depth[bit] -= 1;
        }
        set = if depth[bit] == 0 { set & !(1 << bit) } else { set | 1 << bit };
        let end = edges.get(index + 1).map_or(PORTS, |next| next.0);
        if start == end {
            continue;
        }
        let class = if let Some(&class) = known.get(&set) {
            class
        } else {
            let class = known.len();
            *sets.get_mut(class).ok_or(TooManyClasses)? = set;
            let class = u16::try_from(class).map_err(|_| TooManyClasses)?;
            known.insert(set, class);
            class
        };
        classes[start..end].fill(class);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{PortRange, Reason, parse_ports};

    #[test]
    fn lists_of_ports_and_ranges_are_read() {
        let range = |first, last| PortRange::new(first, last).unwrap();
        assert_eq!(parse_ports("-L", "80").unwrap(), [range(80, 80)]);
        assert_eq!(
            parse_ports("-L", "80, 443,8000-8100,65535").unwrap(),
            [range(80, 80), range(443, 443), range(8000, 8100), range(65535, 65535)]
        );
    }

    #[test]
    fn a_bad_port_is_refused_with_its_field_and_value() {
        for (text, value, reason) in [
            ("", "", Reason::Empty),
            ("80,,443", "80,,443", Reason::Empty),
            ("80,", "80,", Reason::Empty),
            ("0", "0", Reason::Port),
            ("80,0-10", "0-10", Reason::Port),
            ("65536", "65536", Reason::Port),
            ("+80", "+80", Reason::Port),
            ("-80", "-80", Reason::Port),
            ("80-", "80-", Reason::Port),
            ("1-2-3", "1-2-3", Reason::Port),
            ("http", "http", Reason::Port),
            ("90-80", "90-80", Reason::PortOrder),
        ] {
            assert_eq!(parse_ports("-D", text), Err(reason.of("-D", value)), "{text:?}");
        }
        let error = parse_ports("--local-port", "80,x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "--local-port: \"x\": is not a port (1 to 65535) or a range such as 8000-8100"
        );
    }
}
