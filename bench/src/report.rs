//! What a run found: as JSON with every raw number, and as Markdown for people.

use std::fmt::Write as _;

use serde::Serialize;

use crate::machine::Machine;
use crate::statistics::Summary;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// Which of the measurements it belongs to.
    pub group: &'static str,
    /// Of what.
    pub name: String,
    /// `ns`, `ratio`, `bytes` and so on.
    pub unit: &'static str,
    /// The figure.
    #[serde(flatten)]
    pub summary: Summary,
}

/// Which way a figure should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// No more than the bound.
    AtMost,
    /// No less.
    AtLeast,
}

/// What was promised, and what was found.
#[derive(Clone, Debug, Serialize)]
pub struct Promise {
    /// In words.
    pub what: &'static str,
    /// What was found.
    pub found: f64,
    /// Whether more or less is better.
    pub direction: Direction,
    /// The bound.
    pub reach: f64,
    /// A better one.
    pub stretch: Option<f64>,
}

impl Promise {
    /// Found to be at most so much.
    pub const fn at_most(what: &'static str, found: f64, reach: f64, stretch: Option<f64>) -> Self {
        Self { what, found, direction: Direction::AtMost, reach, stretch }
    }

    /// Found to be at least so much.
    pub const fn at_least(what: &'static str, found: f64, reach: f64, stretch: Option<f64>) -> Self {
        Self { what, found, direction: Direction::AtLeast, reach, stretch }
    }

    fn verdict(&self) -> &'static str {
        let keeps = |bound: f64| match self.direction {
            Direction::AtMost => self.found <= bound,
            Direction::AtLeast => self.found >= bound,
        };
        match self.stretch {
            Some(stretch) if keeps(stretch) => "stretch",
            _ if keeps(self.reach) => "reached",
            _ => "**missed**",
        }
    }
}

/// Everything a run found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// The command line.
    pub command: String,
    /// All figures, in the order in which they were taken.
    pub figures: Vec<Figure>,
    /// The promises among them.
    pub promises: Vec<Promise>,
}

impl Report {
    /// Nothing yet.
    pub fn new(machine: Machine, command: String) -> Self {
        Self { machine, command, figures: Vec::new(), promises: Vec::new() }
    }

    /// Takes in a figure, and says it on stderr: a run is long.
    pub fn add(&mut self, group: &'static str, name: impl Into<String>, unit: &'static str, runs: Vec<f64>) {
        let Some(summary) = Summary::of(runs) else { return };
        let figure = Figure { group, name: name.into(), unit, summary };
        eprintln!("bench: {group}: {}: {} {unit}", figure.name, number(figure.summary.median));
        self.figures.push(figure);
    }

    /// The median of a figure that was taken.
    pub fn median(&self, group: &str, name: &str) -> Option<f64> {
        let figure = self.figures.iter().find(|figure| figure.group == group && figure.name == name)?;
        Some(figure.summary.median)
    }

    /// For docs/performance.md.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let machine = &self.machine;
        let gibibytes = machine.memory_bytes >> 30;
        line(
            &mut text,
            format_args!(
                "Made by `{}` on: {}, {} CPUs, {gibibytes} GiB; kernel {}, {}.",
                self.command, machine.cpu, machine.cpus, machine.kernel, machine.congestion_control
            ),
        );
        let versions: Vec<String> =
            machine.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        line(&mut text, format_args!("Versions: {}.\n", versions.join(", ")));
        if !self.promises.is_empty() {
            line(&mut text, format_args!("| what | found | reach | stretch | |\n|---|---|---|---|---|"));
        }
        for promise in &self.promises {
            let sign = if promise.direction == Direction::AtMost { "<=" } else { ">=" };
            let stretch =
                promise.stretch.map(|bound| format!("{sign} {}", number(bound))).unwrap_or_default();
            line(
                &mut text,
                format_args!(
                    "| {} | {} | {sign} {} | {stretch} | {} |",
                    promise.what,
                    number(promise.found),
                    number(promise.reach),
                    promise.verdict()
                ),
            );
        }
        let mut groups: Vec<&str> = Vec::new();
        for figure in &self.figures {
            if !groups.contains(&figure.group) {
                groups.push(figure.group);
            }
        }
        for group in groups {
            self.table(&mut text, group);
        }
        text
    }

    /// The figures of one group.
    fn table(&self, text: &mut String, group: &str) {
        line(text, format_args!("\n### {group}\n\n| | median | middle half | runs |\n|---|---|---|---|"));
        for figure in self.figures.iter().filter(|figure| figure.group == group) {
            let Summary { median, lower_quartile, upper_quartile, runs } = &figure.summary;
            let [median, lower, upper] = [median, lower_quartile, upper_quartile].map(|value| number(*value));
            let (name, unit, runs) = (&figure.name, figure.unit, runs.len());
            line(text, format_args!("| {name} | {median} {unit} | {lower} – {upper} | {runs} |"));
        }
    }
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{what}");
}

/// Three digits that mean something, and no more behind the point than that takes.
fn number(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size >= 100.0 || value == 0.0 => format!("{value:.0}"),
        _ if size >= 10.0 => format!("{value:.1}"),
        _ if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_kept_on_the_right_side_of_its_bound() {
        let verdict = |found| Promise::at_most("x", found, 10.0, Some(5.0)).verdict();
        assert_eq!([4.0, 7.0, 11.0].map(verdict), ["stretch", "reached", "**missed**"]);
        let verdict = |found| Promise::at_least("x", found, 0.8, Some(0.9)).verdict();
        assert_eq!([0.95, 0.85, 0.7].map(verdict), ["stretch", "reached", "**missed**"]);
    }

    #[test]
    fn a_number_has_three_digits_that_mean_something() {
        assert_eq!(
            [0.0, 0.8215, 1.25, 47.04, 123_456.0].map(number),
            ["0", "0.822", "1.25", "47.0", "123456"]
        );
    }
}
