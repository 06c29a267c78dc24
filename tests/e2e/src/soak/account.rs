//! What the agents told, line by line, beside what the pods did. It holds for all runs of a chain together.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash as _, Hasher as _};

use super::line::{Continues, Line};

/// So many examples of each fault are kept.
const EXAMPLES: usize = 5;

/// Something that must not be, how often it was, and some of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) count: u64,
    pub(super) examples: Vec<String>,
}

impl Fault {
    fn note(&mut self, example: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(example());
        }
    }
}

/// Transitions of one pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pod {
    /// As its workloads report; known when they are done.
    pub(super) happened: u64,
    /// Lines that name it.
    pub(super) told: u64,
}

/// What one process wrote.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    pub(super) name: Option<String>,
    /// Numbered lines that were read.
    pub(super) numbered: u64,
    pub(super) has_started: bool,
    pub(super) continues: Option<Continues>,
    pub(super) is_final: bool,
    /// The last line of counts.
    pub(super) counts: Option<String>,
    /// The last `lost` line: transitions by place, of the chain.
    pub(super) lost: BTreeMap<String, u64>,
}

/// The account.
#[derive(Debug)]
pub(super) struct Account {
    trace: String,
    pods: BTreeMap<String, Pod>,
    /// Who made a cgroup.
    cgroups: HashMap<u64, String>,
    /// Hashes of the transitions that were told: of ten million, two are taken for one in a run of 400,000.
    seen: HashSet<u64>,
    runs: Vec<Run>,
    pub(super) lines: u64,
    pub(super) inferred: u64,
    pub(super) gaps: u64,
    pub(super) twice: Fault,
    /// Another pod than the one in whose cgroup the socket was made.
    pub(super) misnamed: Fault,
    /// Not JSON: a line that was torn.
    pub(super) torn: Fault,
    /// A number of a run that did not come.
    pub(super) skipped: Fault,
}

/// What came that whoever follows the run wants to see.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A first plan is in force; the run that this one continues.
    Started(Option<String>),
    /// The agent says something that is no everyday matter.
    Said(String),
}

impl Account {
    /// Of one trace, `namespace/name`.
    pub(super) fn new(trace: &str) -> Self {
        Self {
            trace: trace.to_owned(),
            pods: BTreeMap::new(),
            cgroups: HashMap::new(),
            seen: HashSet::new(),
            runs: Vec::new(),
            lines: 0,
            inferred: 0,
            gaps: 0,
            twice: Fault::default(),
            misnamed: Fault::default(),
            torn: Fault::default(),
            skipped: Fault::default(),
        }
    }

    /// A pod is about to make connections in a cgroup.
    pub(super) fn expect(&mut self, pod: &str, cgroup: u64) {
        self.pods.entry(pod.to_owned()).or_default();
        self.cgroups.insert(cgroup, pod.to_owned());
    }

    /// A pod has made so many transitions.
    pub(super) fn happened(&mut self, pod: &str, transitions: u64) {
        self.pods.entry(pod.to_owned()).or_default().happened += transitions;
    }

    /// A process begins; returns its number.
    pub(super) fn begin(&mut self) -> usize {
        self.runs.push(Run::default());
        self.runs.len() - 1
    }

    /// Those that a process has said are not those that it is asked for now.
    pub(super) fn forget_counts(&mut self, process: usize) {
        if let Some(run) = self.runs.get_mut(process) {
            run.counts = None;
        }
    }

    /// Takes a line of a process.
    pub(super) fn take(&mut self, process: usize, text: &[u8]) -> Option<News> {
        let line: Line = match serde_json::from_slice(text) {
            Ok(line) => line,
            Err(error) => {
                self.torn.note(|| format!("{error}: {:?}", String::from_utf8_lossy(text)));
                return None;
            }
        };
        self.lines += 1;
        self.number(process, &line);
        match line.tcpstates.kind.as_str() {
            "transition" => {
                self.transition(&line, text);
                None
            }
            "start" => {
                let run = self.runs.get_mut(process)?;
                run.has_started = true;
                run.continues.clone_from(&line.tcpstates.continues);
                Some(News::Started(line.tcpstates.continues.map(|continues| continues.run)))
            }
            "lost" => {
                self.runs.get_mut(process)?.lost = line.tcpstates.lost.unwrap_or_default().by_place;
                None
            }
            "heartbeat" => {
                self.runs.get_mut(process)?.is_final |= line.tcpstates.is_final;
                None
            }
            "log" => self.log(process, line),
            _ => None,
        }
    }

    fn number(&mut self, process: usize, line: &Line) {
        let (Some(run), Some(seq)) = (self.runs.get_mut(process), line.tcpstates.seq) else { return };
        run.numbered += 1;
        let name = run.name.get_or_insert_with(|| line.tcpstates.run.clone());
        if seq != run.numbered {
            self.skipped.note(|| format!("run {name}: line {seq} comes after line {}", run.numbered - 1));
            run.numbered = seq;
        }
    }

    fn log(&mut self, process: usize, line: Line) -> Option<News> {
        let text = line.tcpstates.text?;
        if text.starts_with("counts: ") {
            self.runs.get_mut(process)?.counts = Some(text);
            return None;
        }
        let is_trouble = matches!(line.tcpstates.level.as_deref(), Some("warn" | "error"));
        is_trouble.then_some(News::Said(text))
    }

    fn transition(&mut self, line: &Line, text: &[u8]) {
        if !line.is_of(&self.trace) {
            return;
        }
        let Some(transition) = line.transition() else {
            self.torn.note(|| format!("not a transition: {:?}", String::from_utf8_lossy(text)));
            return;
        };
        self.inferred += u64::from(line.tcpstates.inferred);
        self.gaps += u64::from(line.tcpstates.gap);
        let mut hasher = DefaultHasher::new();
        transition.hash(&mut hasher);
        if !self.seen.insert(hasher.finish()) {
            self.twice.note(|| String::from_utf8_lossy(text).into_owned());
            return;
        }
        let maker = line.cgroup().and_then(|cgroup| self.cgroups.get(&cgroup));
        let named = line.pod();
        if maker.is_none() || maker.map(String::as_str) != named {
            self.misnamed.note(|| format!("made by {maker:?}: {}", String::from_utf8_lossy(text)));
        }
        // It is one of the pod that made it, whatever it says.
        if let Some(pod) = maker.and_then(|maker| self.pods.get_mut(maker)) {
            pod.told += 1;
        }
    }

    /// All pods.
    pub(super) fn pods(&self) -> impl Iterator<Item = (&str, Pod)> {
        self.pods.iter().map(|(name, pod)| (name.as_str(), *pod))
    }

    /// What each process wrote, in the order of their starts.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Lines of the trace, each once.
    pub(super) fn told(&self) -> u64 {
        self.seen.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn account() -> Account {
        let mut account = Account::new("soak/all");
        account.expect("client-1", 77);
        account.begin();
        account
    }

    fn transition(seq: u64, id: &str, pod: &str, trace: &str) -> Value {
        json!({
            "tcpstates": {
                "type": "transition", "run": "a", "seq": seq, "old_state": "CLOSE", "new_state": "SYN_SENT",
                "connection": {"id": id}, "cgroup": {"id": "77"}, "traces": [trace],
            },
            "k8s": {"pod": {"name": pod}},
        })
    }

    fn take(account: &mut Account, line: &Value) -> Option<News> {
        account.take(0, line.to_string().as_bytes())
    }

    #[test]
    fn a_line_is_told_of_the_pod_whose_cgroup_made_the_socket() {
        let mut account = account();
        take(&mut account, &transition(1, "01", "client-1", "soak/all"));
        take(&mut account, &transition(2, "02", "server-1", "soak/all"));
        take(&mut account, &transition(3, "03", "client-1", "soak/other"));
        account.happened("client-1", 3);
        assert_eq!(account.pods().next(), Some(("client-1", Pod { happened: 3, told: 2 })));
        assert_eq!((account.told(), account.misnamed.count, account.twice.count), (2, 1, 0));
    }

    #[test]
    fn a_transition_that_two_runs_tell_is_told_twice() {
        let mut account = account();
        let second = account.begin();
        take(&mut account, &transition(1, "01", "client-1", "soak/all"));
        let again = transition(1, "01", "client-1", "soak/all").to_string();
        account.take(second, again.as_bytes());
        assert_eq!((account.twice.count, account.told()), (1, 1));
    }

    #[test]
    fn lines_that_are_torn_or_do_not_come_are_noticed() {
        let mut account = account();
        account.take(0, b"{\"tcpstates\":{\"type\":\"trans");
        take(&mut account, &transition(1, "01", "client-1", "soak/all"));
        take(&mut account, &transition(4, "02", "client-1", "soak/all"));
        take(&mut account, &transition(5, "03", "client-1", "soak/all"));
        assert_eq!((account.torn.count, account.skipped.count), (1, 1));
    }

    #[test]
    fn what_a_run_says_of_itself_is_kept() {
        let mut account = account();
        let start = json!({"tcpstates": {
            "type": "start", "run": "b", "seq": 1, "continues": {"run": "a", "seq": 9},
        }});
        assert_eq!(take(&mut account, &start), Some(News::Started(Some("a".to_owned()))));
        let lost = json!({"tcpstates": {
            "type": "lost", "run": "b", "seq": 2, "lost": {"total": 3, "by_place": {"ring": 3}},
        }});
        take(&mut account, &lost);
        let log = |level: &str, text: &str| json!({"tcpstates": {"type": "log", "run": "b", "level": level, "text": text}});
        assert_eq!(take(&mut account, &log("info", "counts: hit=1")), None);
        assert_eq!(take(&mut account, &log("warn", "x")), Some(News::Said("x".to_owned())));
        let run = &account.runs()[0];
        assert_eq!((run.has_started, run.lost["ring"], run.numbered), (true, 3, 2));
        assert_eq!(run.counts.as_deref(), Some("counts: hit=1"));
    }
}
