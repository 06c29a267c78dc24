//! What the lines API says of its own answer: it hands out the lines of one trace, so the numbers of lines tell nothing there.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::line::Notice;
use crate::runs::{End, Run, Runs};

/// More than this many are not remembered, nor more nodes kept apart.
const NOTICES_AT_MOST: usize = 16_384;
const NODES_AT_MOST: usize = 4096;
/// Of a reason why a log cannot be read.
const TEXT_AT_MOST: usize = 500;

/// All that it said.
#[derive(Debug, Default)]
pub(crate) struct FromApi {
    /// Lines came from it.
    pub is_heard: bool,
    /// An answer of it came to its end.
    pub has_ended: bool,
    /// By node: from when on there are lines. What came before is gone.
    pub begins: BTreeMap<String, String>,
    /// By node: why its log cannot be read.
    pub unreadable: BTreeMap<String, String>,
    /// By node: lines without the names of all their traces. They may have been this trace's.
    pub unnamed: BTreeMap<String, String>,
    /// By node: what else is missing, by a word that is not known here.
    pub unknown: BTreeMap<String, String>,
    seen: HashSet<u64>,
}

impl FromApi {
    /// Takes one in. False when the same has come before.
    pub(crate) fn take(&mut self, bytes: &[u8], notice: &Notice<'_>, runs: &mut Runs) -> bool {
        if !self.is_new(bytes) {
            return false;
        }
        self.is_heard = true;
        let told = &notice.tcpstates;
        self.has_ended |= &*told.kind == "end";
        if &*told.kind != "missing" {
            return true;
        }
        let node = notice.k8s.as_ref().and_then(|k8s| k8s.node.as_ref()).map_or("a node", |node| &node.name);
        match &*told.reason {
            "rotated" => keep(&mut self.begins, node, told.from.as_deref().unwrap_or("a later time")),
            "unreadable" => {
                keep(&mut self.unreadable, node, told.text.as_deref().unwrap_or("no reason given"));
            }
            "unnamed" => keep(&mut self.unnamed, node, ""),
            "gap" | "lost" | "unfinished" => {
                if let Some(run) = told.run.as_deref().and_then(|run| runs.of(run)) {
                    run.node.get_or_insert_with(|| node.to_owned());
                    run.be_told(notice);
                }
            }
            other => keep(&mut self.unknown, node, other),
        }
        true
    }

    fn is_new(&mut self, bytes: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        self.seen.len() >= NOTICES_AT_MOST || self.seen.insert(hasher.finish())
    }

    /// Lines of this run that did not come: by its numbers where its whole log was read, else as the API says.
    pub(crate) fn missing(&self, run: &Run) -> u64 {
        if self.is_of_one_trace(run) { run.gaps } else { run.missing() }
    }

    /// Whether the lines of a run are those that the API hands out.
    pub(crate) fn is_of_one_trace(&self, run: &Run) -> bool {
        self.is_heard && !run.is_own_log
    }
}

impl Run {
    fn be_told(&mut self, notice: &Notice<'_>) {
        let told = &notice.tcpstates;
        match &*told.reason {
            "gap" => self.gaps = self.gaps.saturating_add(told.lines.unwrap_or(0)),
            "lost" => self.lost = self.lost.max(told.total.unwrap_or(0)),
            "unfinished" => self.end = End::Unfinished,
            _ => {}
        }
    }
}

/// Of several for one node the latest.
fn keep(by_node: &mut BTreeMap<String, String>, node: &str, text: &str) {
    if by_node.len() < NODES_AT_MOST || by_node.contains_key(node) {
        by_node.insert(node.to_owned(), text.chars().take(TEXT_AT_MOST).collect());
    }
}

#[cfg(test)]
mod tests {
    use crate::{Options, Report};

    const API: &str = "tcpstates.dev/lines/v1";

    fn line(seq: u64) -> String {
        format!(
            r#"{{"time":"2026-11-27T11:56:05Z","tcpstates":{{"type":"connection","schema":"tcpstates.dev/events/v1","run":"a","seq":{seq},"outcome":"closed","role":"client"}},"k8s":{{"node":{{"name":"node-a"}}}}}}"#
        )
    }

    fn notice(own: &str) -> String {
        format!(
            r#"{{"time":"2026-11-27T11:56:06Z","tcpstates":{{"schema":"{API}",{own}}},"k8s":{{"node":{{"name":"node-a"}}}}}}"#
        )
    }

    fn read(lines: &[String]) -> Report {
        let mut report = Report::new(Options::default());
        report.read(lines.join("\n").as_bytes()).unwrap();
        report
    }

    const END: &str = r#""type":"end","reason":"complete""#;

    #[test]
    fn numbers_that_other_traces_lines_have_are_not_missing_from_the_lines_of_one() {
        let report = read(&[line(7), line(19), notice(END)]);
        assert_eq!((report.input.ours, report.input.foreign), (2, 0));
        assert_eq!(report.told.missing(report.runs.sorted()[0].1), 0);
        let page = report.page();
        assert!(
            page.contains("The lines API says that nothing is missing.") && page.contains("not told"),
            "{page}"
        );
        // In an agent's own log they are.
        let heartbeat = r#"{"time":"2026-11-27T11:56:07Z","tcpstates":{"type":"heartbeat","schema":"tcpstates.dev/events/v1","run":"a","seq":20}}"#;
        let page = read(&[line(7), line(19), heartbeat.to_owned(), notice(END)]).page();
        assert!(
            page.contains("17 lines of these runs did not come, 6 of them from before the first that did"),
            "{page}"
        );
    }

    #[test]
    fn what_the_lines_api_says_to_be_missing_is_on_the_page() {
        for (own, said) in [
            (
                r#""type":"missing","reason":"gap","run":"a","lines":4"#,
                "4 lines did not come to the lines API",
            ),
            (r#""type":"missing","reason":"lost","run":"a","transitions":2,"total":9"#, "9 events lost"),
            (r#""type":"missing","reason":"rotated","from":"11:50""#, "node-a: its log begins at 11:50"),
            (
                r#""type":"missing","reason":"unreadable","text":"gone""#,
                "node-a: its log cannot be read: gone",
            ),
            (r#""type":"missing","reason":"unfinished","run":"a""#, "1 run ended without a last line"),
            (
                r#""type":"missing","reason":"unnamed","run":"a""#,
                "node-a: some lines had no room for the names",
            ),
            (r#""type":"missing","reason":"eaten","run":"a""#, "node-a: something is missing: eaten"),
        ] {
            let page = read(&[line(7), notice(own), notice(END)]).page();
            assert!(page.contains(said) && !page.contains("nothing is missing"), "{own}: {page}");
        }
    }

    #[test]
    fn what_came_twice_is_told_once() {
        let gap = notice(r#""type":"missing","reason":"gap","run":"a","lines":4"#);
        let report = read(&[line(7), gap.clone(), gap]);
        assert_eq!((report.input.twice, report.runs.sorted()[0].1.gaps), (1, 4));
    }

    #[test]
    fn an_answer_without_its_end_was_cut_off() {
        let gap = notice(r#""type":"missing","reason":"gap","run":"a","lines":4"#);
        let said = "has no end";
        assert!(read(&[line(7), gap.clone()]).page().contains(said));
        assert!(!read(&[line(7), gap, notice(END)]).page().contains(said));
        assert!(!read(&[line(7)]).page().contains(said), "an agent's log has none");
    }
}
