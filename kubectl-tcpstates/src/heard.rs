//! What of a stream of lines is about one trace, and what is missing from it. Pure.
//!
//! The lines API hands out the lines of one trace and says in lines of its own what is missing. In an agent's log stand the
//! lines of all traces, numbered without a gap, so there it shows.

use std::collections::{HashMap, HashSet};

use kube_tcpstates_events::{Heartbeat, Line, Lost, other_format};
use serde::Deserialize;
use serde_json::Value;

use crate::name::TraceName;

/// More notices than this are not remembered.
const NOTICES_AT_MOST: usize = 16_384;
/// The format of the API's own lines.
const NOTICE: &str = "tcpstates.dev/lines/v1";

/// Who hands out the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The lines API.
    Api,
    /// Each agent's whole log.
    Logs,
}

/// What a line of the stream says to the reader of a trace.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// A line of the trace.
    Event(Box<Line>),
    /// Something is missing, for people.
    Missing(String),
    /// Nothing more comes, and why.
    End(End),
}

/// Why nothing more comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// That is all, or all that was asked for.
    Complete,
    /// The trace is gone.
    Deleted,
    /// Something else, for people.
    Broken(String),
}

/// Listens for one reader.
#[derive(Debug)]
pub(crate) struct Ear {
    trace: TraceName,
    from: From,
    /// By run.
    runs: HashMap<String, Run>,
    /// The latest run of each node.
    nodes: HashMap<String, String>,
    /// Nodes whose agents write another format, of which that was said.
    unreadable: HashSet<String>,
    /// What the API has said already. A stream that is opened again begins with what has come before.
    notices: HashSet<String>,
    lost: u64,
}

#[derive(Debug, Default)]
struct Run {
    seq: u64,
    lost: u64,
    is_over: bool,
    /// That a line may be the trace's and does not say so is told.
    has_unnamed: bool,
}

/// What every line has.
#[derive(Deserialize)]
struct Head {
    tcpstates: Own,
}

#[derive(Deserialize)]
struct Own {
    #[serde(rename = "type")]
    kind: String,
    schema: String,
    #[serde(default)]
    run: String,
    seq: Option<u64>,
    #[serde(default)]
    traces: Vec<String>,
    #[serde(default)]
    cluster_traces: Vec<String>,
    #[serde(default)]
    traces_omitted: u64,
}

impl Ear {
    /// For the lines of a trace.
    pub(crate) fn new(trace: TraceName, from: From) -> Self {
        Self {
            trace,
            from,
            runs: HashMap::new(),
            nodes: HashMap::new(),
            unreadable: HashSet::new(),
            notices: HashSet::new(),
            lost: 0,
        }
    }

    /// Transitions of the trace that are known to be lost.
    pub(crate) const fn lost(&self) -> u64 {
        self.lost
    }

    /// Takes a line; `node` is whose log it is from. What is no line says nothing: container runtimes cut some.
    pub(crate) fn hear(&mut self, node: &str, text: &str) -> Vec<Said> {
        let Ok(value) = serde_json::from_str::<Value>(text) else { return Vec::new() };
        let Ok(Head { tcpstates: own }) = Head::deserialize(&value) else {
            return self.of_other_format(node, text).into_iter().collect();
        };
        if own.schema == NOTICE {
            return self.notice(&own.kind, text, &value).into_iter().collect();
        }
        let mut said = Vec::new();
        if let Some(seq) = own.seq {
            match self.count(node, &own.run, seq) {
                None => return said,
                Some(missing) => said.extend(missing),
            }
        }
        match own.kind.as_str() {
            "lost" => said.extend(self.lost_of(node, &own.run, &value)),
            "heartbeat" => {
                let is_last = Heartbeat::deserialize(&value).is_ok_and(|line| line.tcpstates.last);
                if let (true, Some(run)) = (is_last, self.runs.get_mut(&own.run)) {
                    run.is_over = true;
                }
            }
            _ => {
                let traces = if self.trace.namespace.is_some() { &own.traces } else { &own.cluster_traces };
                if !traces.contains(&self.trace.to_string()) {
                    said.extend(self.unnamed(node, &own, &value));
                } else if let Ok(line) = Line::deserialize(value) {
                    said.push(Said::Event(Box::new(line)));
                }
            }
        }
        said
    }

    /// Says once of a node that nobody can read its agent here.
    fn of_other_format(&mut self, node: &str, text: &str) -> Option<Said> {
        let format = other_format(text)?;
        let is_news = self.unreadable.insert(node.to_owned());
        let said = format!("{node}: its agent writes {format} (--output); only json can be read here");
        is_news.then_some(Said::Missing(said))
    }

    /// What the number of a line shows to be missing; `None` for a line that came before.
    fn count(&mut self, node: &str, name: &str, seq: u64) -> Option<Vec<Said>> {
        let mut missing = Vec::new();
        let mut is_whole = false;
        if self.from == From::Logs {
            let before = self.nodes.insert(node.to_owned(), name.to_owned());
            let before = before.filter(|before| before != name).and_then(|before| self.runs.remove(&before));
            // The lines of a run that follows another are all of interest.
            is_whole = before.is_some();
            if before.is_some_and(|before| !before.is_over) {
                missing.push(Said::Missing(format!(
                    "{node}: its agent ended without a last word and was started anew; what it had not written is unknown"
                )));
            }
        }
        let is_new = !self.runs.contains_key(name);
        let run = self.runs.entry(name.to_owned()).or_default();
        if !is_new && seq <= run.seq {
            return None;
        }
        // Lines are numbered from 1; what is numbered 0 is no reason to end.
        let skipped = (seq - run.seq).saturating_sub(1);
        if self.from == From::Logs && (!is_new || is_whole) && skipped > 0 {
            missing.push(Said::Missing(format!(
                "{node}: {skipped} lines of its agent did not come; they may have been other traces'"
            )));
        }
        run.seq = seq;
        Some(missing)
    }

    /// Says once a run that lines of the trace may not name it, for want of room.
    fn unnamed(&mut self, node: &str, own: &Own, value: &Value) -> Option<Said> {
        let namespace = value.pointer("/k8s/namespace/name").and_then(Value::as_str);
        let wanted = self.trace.namespace.as_deref();
        if own.traces_omitted == 0 || wanted.is_some() && wanted != namespace {
            return None;
        }
        let run = self.runs.get_mut(&own.run)?;
        let is_news = !std::mem::replace(&mut run.has_unnamed, true);
        is_news.then(|| Said::Missing(unnamed(node)))
    }

    fn lost_of(&mut self, node: &str, run: &str, value: &Value) -> Option<Said> {
        let line = Lost::deserialize(value).ok()?;
        let total = *line.tcpstates.lost.by_trace.get(&self.trace.to_string())?;
        self.lose(node, run, total)
    }

    /// The run has lost so many so far.
    fn lose(&mut self, node: &str, run: &str, total: u64) -> Option<Said> {
        let run = self.runs.entry(run.to_owned()).or_default();
        let more = total.saturating_sub(run.lost);
        run.lost = run.lost.max(total);
        self.lost = self.lost.saturating_add(more);
        (more > 0).then(|| Said::Missing(format!("{node}: {more} transitions of this trace were lost")))
    }

    /// A line of the API's own.
    fn notice(&mut self, kind: &str, line: &str, value: &Value) -> Option<Said> {
        let text = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or("?");
        let number = |path: &str| value.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        let (reason, node) = (text("/tcpstates/reason"), text("/k8s/node/name"));
        if kind == "end" {
            return Some(Said::End(match reason {
                "complete" | "limit" => End::Complete,
                "deleted" => End::Deleted,
                "forbidden" => End::Broken("you may not read the trace's lines any more".to_owned()),
                "slow" => End::Broken("the lines were not taken for a minute: ask again".to_owned()),
                other => End::Broken(format!("the lines end: {other}")),
            }));
        }
        let missing = match reason {
            "lost" => return self.lose(node, text("/tcpstates/run"), number("/tcpstates/total")),
            "gap" => format!(
                "{node}: {} lines of its agent did not come; they may have been other traces'",
                number("/tcpstates/lines")
            ),
            "rotated" => {
                format!("{node}: its log begins at {}; what came before is gone", text("/tcpstates/from"))
            }
            "unfinished" => {
                format!("{node}: its agent ended without a last word; what it had not written is unknown")
            }
            "unnamed" => unnamed(node),
            "unreadable" => format!("{node}: its log cannot be read: {}", text("/tcpstates/text")),
            other => format!("{node}: something is missing: {other}"),
        };
        // These are said with the time of asking.
        let known = if matches!(reason, "unreadable" | "rotated") { &missing } else { line };
        let is_news = self.notices.len() >= NOTICES_AT_MOST || self.notices.insert(known.to_owned());
        (kind == "missing" && is_news).then_some(Said::Missing(missing))
    }
}

fn unnamed(node: &str) -> String {
    format!(
        "{node}: some lines had no room for the names of all their traces; they may have been this trace's"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ear(from: From) -> Ear {
        Ear::new("checkout".parse::<TraceName>().unwrap().within("shop"), from)
    }

    fn snapshot(run: &str, seq: u64, trace: &str) -> String {
        format!(
            r#"{{"time":"2026-11-27T12:00:00Z","tcpstates":{{"type":"snapshot","schema":"tcpstates.dev/events/v1","run":"{run}","seq":{seq},"sockets":{{"open":0,"shown":0,"left_out":0}},"listeners":{{"open":0,"shown":0,"left_out":0}},"time_wait":0,"traces":["{trace}"]}}}}"#
        )
    }

    fn notice(reason: &str, run: &str, total: u64) -> String {
        format!(
            r#"{{"time":"2026-11-27T12:00:00Z","tcpstates":{{"type":"missing","schema":"{NOTICE}","reason":"{reason}","run":"{run}","transitions":{total},"total":{total},"text":"gone"}},"k8s":{{"node":{{"name":"node-a"}}}}}}"#
        )
    }

    fn lost(seq: u64, total: u64) -> String {
        format!(
            r#"{{"time":"2026-11-27T12:00:00Z","tcpstates":{{"type":"lost","schema":"tcpstates.dev/events/v1","run":"a","seq":{seq},"lost":{{"since_last":1,"total":9,"by_place":{{"ring":9,"recursion":0,"queue":0,"rate":0,"write":0,"identity":0}},"by_trace":{{"shop/checkout":{total},"shop/other":5}}}},"exact":true}}}}"#
        )
    }

    #[test]
    fn losses_too_large_to_add_up_are_the_largest_there_is() {
        let mut ear = ear(From::Api);
        let most = |run: &str| notice("lost", run, u64::MAX);
        assert_eq!([ear.hear("n", &most("a")).len(), ear.hear("n", &most("b")).len()], [1, 1]);
        assert_eq!(ear.lost(), u64::MAX);
    }

    #[test]
    fn what_an_answer_that_is_asked_for_again_says_once_more_is_told_once() {
        let mut ear = ear(From::Api);
        let kinds = ["unfinished", "unreadable", "rotated"];
        let all = |lost, run| {
            [vec![notice("lost", "a", lost)], kinds.map(|kind| notice(kind, run, 0)).into()].concat()
        };
        assert_eq!(told(&mut ear, "", &all(100, "a")).1.len(), 4);
        let again = all(120, "a").into_iter().chain(kinds[1..].iter().map(|kind| notice(kind, "b", 0)));
        let again: Vec<_> = again.collect();
        assert_eq!(told(&mut ear, "", &again).1, ["node-a: 20 transitions of this trace were lost"]);
        assert_eq!(ear.lost(), 120);
    }

    #[test]
    fn a_line_without_room_for_all_names_is_told_once_a_run() {
        let line = |run: &str, seq: u64, namespace: &str, omitted: u64| {
            snapshot(run, seq, "shop/other")
                .replace(r#""time_wait":0"#, &format!(r#""time_wait":0,"traces_omitted":{omitted}"#))
                .replace("}}", &format!(r#"}},"k8s":{{"namespace":{{"name":"{namespace}"}}}}}}"#))
        };
        let whole = line("a", 1, "shop", 0);
        assert!(serde_json::from_str::<Value>(&whole).is_ok(), "{whole}");
        let lines = [whole, line("a", 2, "till", 3), line("a", 3, "shop", 3), line("a", 4, "shop", 1)];
        let (_, missing) = told(&mut ear(From::Logs), "node-a", &lines);
        assert_eq!(missing, [unnamed("node-a")]);
    }

    #[test]
    fn a_line_that_no_agent_numbers_so_is_taken() {
        let mut ear = ear(From::Logs);
        assert_eq!(told(&mut ear, "a", &[snapshot("a", 0, "shop/checkout")]), (1, vec![]));
    }

    #[test]
    fn an_agent_that_writes_another_format_is_named_once() {
        let mut ear = ear(From::Logs);
        let ecs =
            r#"{"@timestamp":"2026-11-27T12:00:00Z","event":{},"tcpstates":{"type":"start"}}"#.to_owned();
        let (events, missing) = told(&mut ear, "node-a", &[ecs.clone(), ecs.clone()]);
        assert_eq!(events, 0);
        assert_eq!(missing, ["node-a: its agent writes ecs (--output); only json can be read here"]);
        assert_eq!(told(&mut ear, "node-b", &[ecs]).1.len(), 1);
        assert_eq!(told(&mut ear, "node-a", &[r#"{"another":"program"}"#.to_owned()]), (0, vec![]));
    }

    /// Counts of events, and what is said to be missing.
    fn told(ear: &mut Ear, node: &str, lines: &[String]) -> (usize, Vec<String>) {
        let (mut events, mut missing) = (0, Vec::new());
        for said in lines.iter().flat_map(|line| ear.hear(node, line)) {
            match said {
                Said::Event(_) => events += 1,
                Said::Missing(text) => missing.push(text),
                Said::End(end) => missing.push(format!("{end:?}")),
            }
        }
        (events, missing)
    }

    #[test]
    fn only_lines_of_the_trace_are_events_and_each_once() {
        let mut ear = ear(From::Logs);
        let lines = [
            snapshot("a", 7, "shop/checkout"),
            snapshot("a", 8, "till/checkout"),
            "half of a li".to_owned(),
            r#"{"level":"info"}"#.to_owned(),
            snapshot("a", 8, "shop/checkout"),
            snapshot("a", 9, "shop/checkout"),
        ];
        assert_eq!(told(&mut ear, "node-a", &lines), (2, Vec::new()));
        assert_eq!(told(&mut ear, "node-a", &lines), (0, Vec::new()), "heard before");
    }

    #[test]
    fn a_gap_in_an_agents_numbers_is_told_once() {
        let lines = [snapshot("a", 7, "x/y"), snapshot("a", 10, "x/y"), snapshot("a", 11, "x/y")];
        let gap = "node-a: 2 lines of its agent did not come; they may have been other traces'";
        assert_eq!(told(&mut ear(From::Logs), "node-a", &lines), (0, vec![gap.to_owned()]));
        // The API leaves out those of other traces.
        assert_eq!(told(&mut ear(From::Api), "", &lines), (0, Vec::new()));
    }

    #[test]
    fn an_agent_that_was_killed_is_told_and_one_that_ended_is_not() {
        let last = r#"{"time":"2026-11-27T12:00:00Z","tcpstates":{"type":"heartbeat","schema":"tcpstates.dev/events/v1","run":"b","seq":2,"uptime_s":1,"totals":{"seen":0,"other_protocol":0,"filtered":0,"pending":0,"ring_full":0,"emitted":0,"written":0,"filtered_user":0,"told_twice":0,"held":0,"lost":0},"final":true}}"#;
        let mut ear = ear(From::Logs);
        let lines =
            [snapshot("a", 1, "x/y"), snapshot("b", 1, "x/y"), last.to_owned(), snapshot("c", 1, "x/y")];
        let (_, missing) = told(&mut ear, "node-a", &lines);
        assert_eq!(missing.len(), 1, "{missing:?}");
        assert!(missing[0].starts_with("node-a: its agent ended without a last word"), "{missing:?}");
        // A run that began meanwhile is whole from its first line.
        let (_, missing) = told(&mut ear, "node-a", &[snapshot("d", 3, "x/y")]);
        assert_eq!(missing.len(), 2, "{missing:?}");
        assert!(missing[1].starts_with("node-a: 2 lines of its agent did not come"), "{missing:?}");
    }

    #[test]
    fn losses_of_the_trace_are_told_as_they_grow() {
        let mut ear = ear(From::Logs);
        let (_, missing) = told(&mut ear, "node-a", &[lost(1, 2), lost(2, 2), lost(3, 7)]);
        assert_eq!(
            missing,
            [
                "node-a: 2 transitions of this trace were lost",
                "node-a: 5 transitions of this trace were lost"
            ]
        );
        assert_eq!(ear.lost(), 7);
    }

    #[test]
    fn what_the_api_says_is_missing_is_told_in_words() {
        let mut ear = ear(From::Api);
        let mut say = |kind: &str, own: &str| {
            let text = format!(
                r#"{{"time":"t","tcpstates":{{"type":"{kind}","schema":"tcpstates.dev/lines/v1",{own}}},"k8s":{{"node":{{"name":"node-b"}}}}}}"#
            );
            told(&mut ear, "", &[text]).1.concat()
        };
        for (kind, own, expected) in [
            (
                "missing",
                r#""reason":"lost","run":"a","transitions":3,"total":3"#,
                "node-b: 3 transitions of this trace",
            ),
            ("missing", r#""reason":"gap","run":"a","lines":4"#, "node-b: 4 lines of its agent"),
            ("missing", r#""reason":"rotated","from":"12:00""#, "node-b: its log begins at 12:00"),
            ("missing", r#""reason":"unfinished","run":"a""#, "node-b: its agent ended"),
            ("missing", r#""reason":"unnamed","run":"a""#, "node-b: some lines had no room"),
            ("missing", r#""reason":"unreadable","text":"gone""#, "node-b: its log cannot be read: gone"),
            ("end", r#""reason":"complete""#, "Complete"),
            ("end", r#""reason":"deleted""#, "Deleted"),
            ("end", r#""reason":"forbidden""#, "you may not read"),
            ("later", r#""reason":"later""#, ""),
        ] {
            let said = say(kind, own);
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{own}: {said}");
        }
        assert_eq!(ear.lost(), 3);
    }
}
