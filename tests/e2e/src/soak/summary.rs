//! What came of it, as a table for people and as JSON.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::verdict::{Accounts, Entries, Growth};

/// All of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    pub(super) minutes: u64,
    pub(super) seed: u64,
    pub(super) kernel: String,
    pub(super) did: Did,
    pub(super) accounts: Accounts,
    pub(super) lines: Lines,
    pub(super) cpu: Cpu,
    pub(super) growth: Vec<(String, Growth)>,
    pub(super) entries_before: Entries,
    pub(super) entries_most: Entries,
    pub(super) entries_after: Entries,
    pub(super) counts_before: String,
    pub(super) counts_after: String,
    pub(super) programs: usize,
    pub(super) left: Vec<String>,
    pub(super) faults: Vec<String>,
}

/// What was done to the agent.
#[derive(Debug, Default, Serialize)]
pub(super) struct Did {
    pub(super) pods: u64,
    pub(super) connections: u64,
    pub(super) killed: usize,
    pub(super) ended: usize,
    pub(super) stalls: usize,
    pub(super) outages: usize,
    pub(super) changes: usize,
}

/// Lines of all runs.
#[derive(Debug, Default, Serialize)]
pub(super) struct Lines {
    pub(super) all: u64,
    pub(super) of_the_trace: u64,
    pub(super) inferred: u64,
    pub(super) gaps: u64,
}

/// CPU of all processes.
#[derive(Debug, Default, Serialize)]
pub(super) struct Cpu {
    pub(super) seconds: f64,
    pub(super) per_1000_lines_ms: f64,
    /// Of the process that lived longest, which is started but once: of one processor.
    pub(super) share_of_longest: f64,
}

impl Summary {
    /// Prints it, and leaves `summary.md` and `summary.json` there.
    pub(super) fn tell(&self, directory: &Path) -> Result<()> {
        let table = self.table()?;
        println!("{table}");
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        let write = |name: &str, text: &str| {
            let file = directory.join(name);
            fs::write(&file, text).with_context(|| format!("write {}", file.display()))
        };
        write("summary.md", &table)?;
        write("summary.json", &serde_json::to_string_pretty(self).context("the summary as JSON")?)
    }

    fn table(&self) -> Result<String> {
        let Self { did, accounts, lines, cpu, .. } = self;
        let mut rows = vec![
            (
                "run".to_owned(),
                format!("{} minutes, seed {}, Linux {}", self.minutes, self.seed, self.kernel),
            ),
            ("load".to_owned(), format!("{} pods came and went, {} connections", did.pods, did.connections)),
            (
                "troubles".to_owned(),
                format!(
                    "{} SIGKILL, {} SIGTERM, {} stalls of stdout, {} outages of the API server, {} changes of traces",
                    did.killed, did.ended, did.stalls, did.outages, did.changes
                ),
            ),
            (
                "transitions".to_owned(),
                format!(
                    "{} happened = {} lines + {} missing; {} counted as lost",
                    accounts.happened, accounts.told, accounts.missing, accounts.counted
                ),
            ),
            ("losses by place".to_owned(), places(accounts)),
            (
                "counted beyond what is missing".to_owned(),
                format!(
                    "{}, of them {} lines that a killed run had written and not yet counted",
                    accounts.counted.saturating_sub(accounts.missing),
                    accounts.read_not_counted
                ),
            ),
            (
                "lines".to_owned(),
                format!(
                    "{} of all kinds, {} of the trace, {} of these inferred, {} behind a gap",
                    lines.all, lines.of_the_trace, lines.inferred, lines.gaps
                ),
            ),
            (
                "CPU".to_owned(),
                format!(
                    "{:.1} s in all, {:.1} ms for 1,000 lines; the last process {:.1} % of a processor",
                    cpu.seconds,
                    cpu.per_1000_lines_ms,
                    cpu.share_of_longest * 100.0
                ),
            ),
        ];
        rows.extend(self.growth.iter().map(|(what, growth)| (what.clone(), describe(growth))));
        rows.push(("entries of maps, before".to_owned(), entries(&self.entries_before)));
        rows.push(("entries of maps, the most".to_owned(), entries(&self.entries_most)));
        rows.push(("entries of maps, after".to_owned(), entries(&self.entries_after)));
        rows.push((
            "left at the end".to_owned(),
            if self.left.is_empty() {
                format!("nothing of {} programs, nothing pinned", self.programs)
            } else {
                self.left.join(", ")
            },
        ));
        let mut text = "| what | figure |\n|---|---|\n".to_owned();
        for (what, figure) in rows {
            writeln!(text, "| {what} | {figure} |")?;
        }
        if self.faults.is_empty() {
            writeln!(text, "\nNothing is wrong.")?;
        } else {
            writeln!(text, "\n{} faults:\n", self.faults.len())?;
            for fault in &self.faults {
                writeln!(text, "- {fault}")?;
            }
        }
        Ok(text)
    }
}

fn places(accounts: &Accounts) -> String {
    let some = accounts.by_place.iter().filter(|(_, count)| **count > 0);
    let some: Vec<_> = some.map(|(place, count)| format!("{place} {count}")).collect();
    if some.is_empty() { "none".to_owned() } else { some.join(", ") }
}

fn entries(entries: &Entries) -> String {
    let some = entries.iter().filter(|(_, count)| **count > 0);
    let some: Vec<_> = some.map(|(name, count)| format!("{name} {count}")).collect();
    if some.is_empty() { "none".to_owned() } else { some.join(", ") }
}

fn describe(growth: &Growth) -> String {
    let Growth { first, last, per_hour, minutes, is_judged, .. } = growth;
    let judged = if *is_judged { "" } else { ", too short to be judged" };
    format!("{first:.1} to {last:.1} in {minutes} minutes, {per_hour:+.2} an hour{judged}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_is_wrong() {
        let clean = Summary::default().table().unwrap();
        assert!(clean.contains("Nothing is wrong"), "{clean}");
        let faulty = Summary { faults: vec!["a line is torn".to_owned()], ..Summary::default() };
        let text = faulty.table().unwrap();
        assert!(text.contains("1 faults") && text.contains("- a line is torn"), "{text}");
    }
}
