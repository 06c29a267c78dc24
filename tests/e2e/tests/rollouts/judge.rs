//! All runs of one node against what its client logged. Logs are read one after the other, and of a line only what is
//! judged is kept: at some thousand transitions a second the lines themselves would fill the machine's memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates_e2e_tests::line::Line;
use kube_tcpstates_e2e_workload::expect::{Place, transitions};
use kube_tcpstates_e2e_workload::log::Entry;

use super::{Run, TRACE};

type Step = (&'static str, &'static str);

const STATES: [&str; 12] = [
    "CLOSE",
    "LISTEN",
    "SYN_SENT",
    "NEW_SYN_RECV",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "CLOSE_WAIT",
    "CLOSING",
    "LAST_ACK",
    "TIME_WAIT",
];

/// Fails where the runs do not follow each other, or where what they show and count is not what happened.
pub(super) fn judge(client: &str, runs: Vec<Run>, log: &[Entry]) -> Result<()> {
    let how_many = runs.len();
    let mut shown = Shown::default();
    let mut before: Option<Ends> = None;
    for run in runs {
        let lines = run.log.lines()?;
        let ends = Ends::of(&lines)?;
        if let Some(before) = &before {
            check_chain(before, run.how, &ends)?;
        }
        before = Some(ends);
        shown.take(run.how, &lines);
    }

    let expected = transitions(log);
    let happened: usize = expected.values().map(Vec::len).sum();
    let (missing, wrong) = shown.compare(expected);
    let Shown { lines, without_duration, lost, places, .. } = shown;
    eprintln!(
        "{client}: {how_many} runs, {happened} transitions, {lines} lines, {missing} missing, \
         {lost} counted as lost {places}"
    );
    ensure!(wrong.is_empty(), "{} places are wrong: {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    ensure!(missing as u64 <= lost, "{missing} are missing, {lost} counted as lost");
    ensure!(without_duration == 0, "{without_duration} lines have no duration");
    Ok(())
}

/// What of a run's log its neighbours are held against.
struct Ends {
    start: Line,
    /// The last line that has a number.
    last: Line,
    last_time_us: u64,
}

impl Ends {
    fn of(lines: &[Line]) -> Result<Self> {
        let start = lines.iter().find(|line| line.is("start")).context("no start line")?;
        let last = lines.iter().rfind(|line| line.get("tcpstates.seq").is_some()).context("no line")?;
        let last_time_us = lines.iter().filter_map(Line::time_us).max().unwrap_or_default();
        Ok(Self { start: start.clone(), last: last.clone(), last_time_us })
    }
}

/// A run names the one before it, and where that one's lines end.
fn check_chain(before: &Ends, how: &str, after: &Ends) -> Result<()> {
    let continues = after.start.text("tcpstates.continues.run");
    ensure!(
        continues == before.last.text("tcpstates.run"),
        "{how}: it continues {continues:?}, not {}",
        before.last.0
    );
    let named = after.start.number("tcpstates.continues.seq");
    let seq = before.last.number("tcpstates.seq");
    // Of the write in which it was killed nobody knows.
    ensure!(named == seq || how == "killed" && named < seq, "{how}: it continues at {named:?}, not {seq:?}");
    let gap_us = after.start.time_us().unwrap_or_default().saturating_sub(before.last_time_us);
    eprintln!("{how}: {} ms from the last line to the start line", gap_us / 1000);
    Ok(())
}

/// The lines of one connection.
#[derive(Debug, Default)]
struct Connection {
    place: Option<Place>,
    steps: Vec<Step>,
}

/// What the lines of all runs so far tell.
#[derive(Default)]
struct Shown {
    /// By the connection's id, which stands for one connection through all runs.
    connections: HashMap<Box<str>, Connection>,
    /// The ids, in the order of their first lines.
    births: Vec<Box<str>>,
    lines: usize,
    without_duration: usize,
    /// The total of the last `lost` line, which is that of all runs before, too.
    lost: u64,
    /// Where they were lost, as that line has it.
    places: String,
    wrong: Vec<String>,
}

impl Shown {
    /// The lines of the next run.
    fn take(&mut self, how: &str, lines: &[Line]) {
        for line in lines {
            if line.is("lost") {
                self.lost = line.number("tcpstates.lost.total").unwrap_or_default();
                self.places =
                    line.get("tcpstates.lost.by_place").map(ToString::to_string).unwrap_or_default();
            }
            if line.is("transition") && line.is_of(TRACE) {
                self.take_transition(how, line);
            }
        }
    }

    fn take_transition(&mut self, how: &str, line: &Line) {
        self.lines += 1;
        self.without_duration += usize::from(how != "upgraded" && lacks_duration(line));
        let (Some(id), Some(step)) = (line.text("tcpstates.connection.id"), step(line)) else {
            self.wrong.push(format!("no id, or no states that are known: {}", line.0));
            return;
        };
        if !self.connections.contains_key(id) {
            self.births.push(id.into());
            self.connections.insert(id.into(), Connection::default());
        }
        if let Some(connection) = self.connections.get_mut(id) {
            connection.place = connection.place.or_else(|| line.place());
            connection.steps.push(step);
        }
    }

    /// How many transitions no line shows, and what is not so that only that is wrong.
    fn compare(&mut self, expected: BTreeMap<Place, Vec<Step>>) -> (usize, Vec<String>) {
        let mut wrong = std::mem::take(&mut self.wrong);
        let mut shown: BTreeMap<Place, Vec<Step>> = BTreeMap::new();
        let mut placeless = 0;
        for id in std::mem::take(&mut self.births) {
            let Some(connection) = self.connections.remove(&id) else { continue };
            match connection.place {
                Some(place) => shown.entry(place).or_default().extend(connection.steps),
                // The others were lost, and this one counts for one of those that seem to be missing.
                None if connection.steps.len() == 1 => placeless += 1,
                None => wrong.push(format!("{id}: {:?}: no line has its ports", connection.steps)),
            }
        }
        let mut missing = 0;
        let mut known = BTreeSet::new();
        for (place, steps) in expected {
            let shown = shown.get(&place).map(Vec::as_slice).unwrap_or_default();
            known.insert(place);
            missing += steps.len().saturating_sub(shown.len());
            if !is_part_of(shown, &steps) {
                wrong.push(format!("{place:?}: {shown:?} instead of {steps:?}"));
            }
        }
        let foreign = shown.iter().filter(|(place, _)| !known.contains(*place));
        wrong.extend(foreign.map(|(place, steps)| format!("{place:?}: nobody logged it: {steps:?}")));
        (missing.saturating_sub(placeless), wrong)
    }
}

fn step(line: &Line) -> Option<Step> {
    let (old, new) = line.step()?;
    let name = |state: &str| STATES.into_iter().find(|known| *known == state);
    Some((name(old)?, name(new)?))
}

/// Of a transition that is not the first of its connection.
fn lacks_duration(line: &Line) -> bool {
    let is_first = matches!(line.step(), Some(("CLOSE" | "LISTEN", _)));
    !is_first && line.number("tcpstates.state_duration_us").is_none()
}

/// Whether all of these are among those, in the same order.
fn is_part_of(part: &[Step], whole: &[Step]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|step| whole.any(|other| other == step))
}
