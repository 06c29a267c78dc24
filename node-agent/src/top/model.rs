//! What is shown now: the last look's rows, in an order, narrowed by a text, until the next look or key.

use std::cmp::Reverse;

use super::{
    rows::{About, Row, rows},
    sample::Sample,
    text::{address, owner},
};

/// By what rows are sorted, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Open connections.
    Open,
    /// Connections that have ended.
    Connections,
    /// Those of them that failed.
    Failed,
    /// Bytes of those.
    Bytes,
    /// The slowest handshakes.
    Handshake,
}

impl Sort {
    /// All, in the order in which a key goes through them.
    pub const ALL: [Self; 5] = [Self::Open, Self::Connections, Self::Failed, Self::Bytes, Self::Handshake];

    /// Its name on the command line and on the screen.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Connections => "connections",
            Self::Failed => "failed",
            Self::Bytes => "bytes",
            Self::Handshake => "handshake",
        }
    }

    fn next(self) -> Self {
        let place = Self::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Self::ALL[(place + 1) % Self::ALL.len()]
    }

    fn of(self, row: &Row) -> u64 {
        match self {
            Self::Open => row.states.open(),
            Self::Connections => row.sums.connections,
            Self::Failed => row.sums.failed(),
            Self::Bytes => row.sums.sent.saturating_add(row.sums.received),
            Self::Handshake => row.sums.handshake_quantile(99).unwrap_or(0),
        }
    }
}

/// A key, as far as one means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// Ctrl-C.
    Interrupt,
    /// Enter.
    Enter,
    /// Escape.
    Escape,
    /// Backspace.
    Backspace,
    /// One row up.
    Up,
    /// One row down.
    Down,
    /// So many rows up.
    PageUp,
    /// So many rows down.
    PageDown,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// To show what there is now.
    Draw,
    /// To end.
    Quit,
}

/// Rows that a page key goes.
const PAGE: usize = 10;
/// Longest text that narrows.
const FILTER_MAX: usize = 60;

/// What is shown.
#[derive(Clone, Debug)]
pub struct Model {
    rows: Vec<(About, Row)>,
    /// The look that the rows are of.
    span_ns: u64,
    knows_open: bool,
    /// Losses are told even while the rows stand still.
    seen: u64,
    lost: u64,
    sort: Sort,
    filter: String,
    is_typing: bool,
    is_paused: bool,
    /// Rows above the first that is shown.
    above: usize,
    message: Option<String>,
}

impl Model {
    /// Before the first look.
    pub fn new(sort: Sort) -> Self {
        Self {
            rows: Vec::new(),
            span_ns: 0,
            knows_open: false,
            seen: 0,
            lost: 0,
            sort,
            filter: String::new(),
            is_typing: false,
            is_paused: false,
            above: 0,
            message: None,
        }
    }

    /// Another look.
    pub fn look(&mut self, sample: &Sample) {
        (self.seen, self.lost) = (sample.seen, sample.lost);
        if self.is_paused {
            return;
        }
        self.span_ns = sample.span_ns;
        self.knows_open = sample.open.is_some();
        self.rows = rows(sample).into_iter().collect();
        self.order();
    }

    /// Something that whoever looks should know.
    pub fn say(&mut self, message: Option<String>) {
        self.message = message;
    }

    /// A key was pressed.
    pub fn press(&mut self, key: Key) -> Act {
        match key {
            Key::Interrupt => return Act::Quit,
            _ if self.is_typing => self.write(key),
            Key::Char('q') => return Act::Quit,
            Key::Char('s') => {
                self.sort = self.sort.next();
                self.order();
            }
            Key::Char('p' | ' ') => self.is_paused = !self.is_paused,
            Key::Char('/') => self.is_typing = true,
            Key::Escape => self.filter.clear(),
            Key::Up | Key::Char('k') => self.above = self.above.saturating_sub(1),
            Key::Down | Key::Char('j') => self.above += 1,
            Key::PageUp => self.above = self.above.saturating_sub(PAGE),
            Key::PageDown => self.above += PAGE,
            Key::Char(_) | Key::Enter | Key::Backspace => {}
        }
        self.above = self.above.min(self.shown().count().saturating_sub(1));
        Act::Draw
    }

    fn write(&mut self, key: Key) {
        match key {
            Key::Char(character) if self.filter.len() < FILTER_MAX => self.filter.push(character),
            Key::Backspace => drop(self.filter.pop()),
            Key::Enter => self.is_typing = false,
            Key::Escape => {
                self.filter.clear();
                self.is_typing = false;
            }
            _ => {}
        }
    }

    /// Of what weighs the same, the one with more connections comes first, and then the one whose name does.
    fn order(&mut self) {
        let sort = self.sort;
        self.rows.sort_by(|(one, left), (other, right)| {
            let weight = |row: &Row| Reverse((sort.of(row), row.sums.connections, row.states.open()));
            weight(left).cmp(&weight(right)).then_with(|| one.cmp(other))
        });
    }

    /// The rows that the text leaves, all of them.
    pub(super) fn shown(&self) -> impl Iterator<Item = (&About, &Row)> {
        let wanted = self.filter.to_lowercase();
        let fits = move |about: &About| {
            let (_, _, port, side) = about;
            let text = format!("{} {} {port} {}", owner(about), address(about), side.as_str());
            wanted.is_empty() || text.to_lowercase().contains(&wanted)
        };
        self.rows.iter().filter(move |(about, _)| fits(about)).map(|(about, row)| (about, row))
    }

    /// Rows above the first that is shown.
    pub(super) const fn above(&self) -> usize {
        self.above
    }

    pub(super) const fn span_ns(&self) -> u64 {
        self.span_ns
    }

    pub(super) const fn knows_open(&self) -> bool {
        self.knows_open
    }

    pub(super) const fn losses(&self) -> (u64, u64) {
        (self.lost, self.seen)
    }

    pub(super) const fn sort(&self) -> Sort {
        self.sort
    }

    pub(super) fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The text that narrows, and whether it is being written.
    pub(super) fn filter(&self) -> (&str, bool) {
        (&self.filter, self.is_typing)
    }

    pub(super) const fn is_paused(&self) -> bool {
        self.is_paused
    }
}

/// Samples for tests.
#[cfg(test)]
#[path = "support.rs"]
pub(super) mod support;

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
