//! Lines against what the workloads logged: nothing missing, nothing wrong, nothing of others. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kube_tcpstates_e2e_workload::expect::{Place, transitions};
use kube_tcpstates_e2e_workload::log::Entry;

use crate::line::Line;

/// What the lines about one pod must say, by dotted path.
pub type Names = BTreeMap<String, String>;

/// What one pod logged, and the names its lines must carry.
#[derive(Clone, Debug)]
pub struct Source {
    /// For instance `k8s.pod.name`.
    pub names: Names,
    /// The workload's log.
    pub log: Vec<Entry>,
}

/// What is wrong with the lines, in words; each list is empty when all is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Transitions that the logs call for.
    pub expected: usize,
    /// Those that no line shows, and lines too many, by connection.
    pub unequal: Vec<String>,
    /// Lines of an expected connection with another name than its pod's.
    pub misnamed: Vec<String>,
    /// Lines of a connection that no log mentions.
    pub foreign: Vec<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.unequal.is_empty() && self.misnamed.is_empty() && self.foreign.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{} transitions expected", self.expected)?;
        let lists = [("unequal", &self.unequal), ("misnamed", &self.misnamed), ("foreign", &self.foreign)];
        for (name, list) in lists {
            writeln!(formatter, "{}: {}", name, list.len())?;
            for example in list.iter().take(5) {
                writeln!(formatter, "    {example}")?;
            }
        }
        Ok(())
    }
}

/// Judges transition lines by what `sources` logged. A line without its port belongs where the other lines of its
/// connection are.
pub fn judge(lines: &[&Line], sources: &[Source]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut expected = BTreeMap::new();
    for source in sources {
        for (place, steps) in transitions(&source.log) {
            verdict.expected += steps.len();
            expected.insert(place, (steps, &source.names));
        }
    }
    let mut seen: BTreeSet<Place> = BTreeSet::new();
    for (place, lines) in by_place(lines, &mut verdict.foreign) {
        let Some((steps, names)) = expected.get(&place) else {
            verdict.foreign.extend(lines.iter().map(|line| line.0.to_string()));
            continue;
        };
        seen.insert(place);
        let shown: Vec<_> = lines.iter().filter_map(|line| line.step()).collect();
        if shown != *steps {
            verdict.unequal.push(format!("{} -> {}: {shown:?} instead of {steps:?}", place.0, place.1));
        }
        for line in lines {
            let wrong = names.iter().find(|(path, name)| line.text(path) != Some(name.as_str()));
            verdict.misnamed.extend(wrong.map(|(path, name)| format!("{path} should be {name}: {}", line.0)));
        }
    }
    let unseen = expected.iter().filter(|(place, _)| !seen.contains(*place));
    verdict.unequal.extend(unseen.map(|((local, peer), _)| format!("{local} -> {peer}: no line at all")));
    verdict
}

/// The lines of each place, in order of their connections' lines; those that no place can be told for are foreign.
pub fn by_place<'a>(lines: &[&'a Line], foreign: &mut Vec<String>) -> BTreeMap<Place, Vec<&'a Line>> {
    let mut connections: BTreeMap<_, Vec<&Line>> = BTreeMap::new();
    // In order of their birth: a port that is used again comes after its first use.
    let mut births = Vec::new();
    for line in lines {
        let connection = connections.entry(line.connection()).or_default();
        if connection.is_empty() {
            births.push(line.connection());
        }
        connection.push(line);
    }
    let mut places: BTreeMap<Place, Vec<&Line>> = BTreeMap::new();
    for birth in births {
        let mut of_one = connections.remove(&birth).unwrap_or_default();
        of_one.sort_by_key(|line| line.number("tcpstates.seq"));
        match of_one.iter().find_map(|line| line.place()) {
            Some(place) => places.entry(place).or_default().extend(of_one),
            None => foreign.extend(of_one.iter().map(|line| line.0.to_string())),
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use kube_tcpstates_e2e_workload::log::{Connection, End, Ending};
    use serde_json::json;

    use super::*;

    fn source() -> Source {
        let (local, peer) = ("10.0.0.1:4000".parse().unwrap(), "10.0.0.2:9".parse().unwrap());
        let connection =
            Connection { end: End::Client, local, peer, ending: Ending::Refused, opened_us: 0, closed_us: 0 };
        let names = BTreeMap::from([("k8s.pod.name".to_owned(), "checkout".to_owned())]);
        Source { names, log: vec![Entry::Connection(connection)] }
    }

    fn line(seq: u64, states: [&str; 2], port: Option<u16>, pod: &str) -> Line {
        let mut local = json!({"address": "10.0.0.1"});
        if let Some(port) = port {
            local["port"] = json!(port);
        }
        Line(json!({
            "tcpstates": {
                "type": "transition", "run": "1", "seq": seq, "old_state": states[0], "new_state": states[1],
                "connection": {"id": "a"},
            },
            "network": {"local": local, "peer": {"address": "10.0.0.2", "port": 9}},
            "k8s": {"pod": {"name": pod}},
        }))
    }

    fn verdict(lines: &[Line]) -> Verdict {
        judge(&lines.iter().collect::<Vec<_>>(), &[source()])
    }

    #[test]
    fn the_lines_of_a_connection_in_any_order_of_agents_are_clean() {
        let lines = [
            line(2, ["SYN_SENT", "CLOSE"], Some(4000), "checkout"),
            line(1, ["CLOSE", "SYN_SENT"], None, "checkout"),
        ];
        let verdict = verdict(&lines);
        assert!(verdict.is_clean(), "{verdict}");
        assert_eq!(verdict.expected, 2);
    }

    #[test]
    fn a_transition_that_is_missing_or_told_twice_is_noticed() {
        let first = line(1, ["CLOSE", "SYN_SENT"], None, "checkout");
        let second = line(2, ["SYN_SENT", "CLOSE"], Some(4000), "checkout");
        assert_eq!(verdict(&[]).unequal.len(), 1);
        assert_eq!(verdict(std::slice::from_ref(&second)).unequal.len(), 1);
        assert_eq!(verdict(&[first, second.clone(), second]).unequal.len(), 1);
    }

    #[test]
    fn a_wrong_name_is_noticed_on_each_line() {
        let lines = [
            line(1, ["CLOSE", "SYN_SENT"], None, "payment"),
            line(2, ["SYN_SENT", "CLOSE"], Some(4000), "checkout"),
        ];
        assert_eq!(verdict(&lines).misnamed.len(), 1);
    }

    #[test]
    fn a_connection_that_nobody_logged_is_foreign() {
        let lines = [
            line(1, ["CLOSE", "SYN_SENT"], None, "checkout"),
            line(2, ["SYN_SENT", "CLOSE"], Some(4001), "checkout"),
        ];
        let verdict = verdict(&lines);
        assert_eq!((verdict.foreign.len(), verdict.unequal.len()), (2, 1));
    }
}
