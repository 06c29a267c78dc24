//! Who tells of connections: lines of one trace, of one kind, of one side. Several may tell of the same connections, so what
//! they tell is kept apart, and of each pair the account that tells of the most counts.

use std::collections::BTreeMap;

use crate::line::Line;
use crate::who::Side;

/// Sets of traces that are kept apart. Lines of further ones are as of one more trace.
const SETS_AT_MOST: usize = 32;

/// What lines tell of connections, from the best down. Of two that tell of as many, the better counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Connections,
    Summaries,
    Transitions,
}

/// The traces of a line, all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Set(u8);

/// Lines whose figures are added up as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub source: Source,
    pub side: Side,
    pub set: Set,
}

/// One that tells: a line of several traces is in the account of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Account {
    pub source: Source,
    pub side: Side,
    trace: usize,
}

/// Every set of traces that lines were of.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    /// Lines without a trace are of the trace without a name.
    names: Vec<String>,
    /// By the numbers of their traces.
    known: Vec<Vec<usize>>,
    /// There were more sets than are kept apart.
    pub are_more: bool,
}

impl Sets {
    /// The set of a line.
    pub(crate) fn of(&mut self, line: &Line<'_>) -> Set {
        let told = &line.tcpstates;
        let all = || told.traces.iter().chain(&told.cluster_traces).map(|trace| &**trace);
        let traces = || all().filter(|name| !name.is_empty());
        let is_it = |set: &Vec<usize>| {
            let names = set.iter().map(|trace| &*self.names[*trace]);
            names.filter(|name| !name.is_empty()).eq(traces())
        };
        let place = self.known.iter().position(is_it).unwrap_or_else(|| {
            self.are_more |= self.known.len() == SETS_AT_MOST;
            if self.are_more { SETS_AT_MOST } else { self.add(traces()) }
        });
        Set(u8::try_from(place).unwrap_or(u8::MAX))
    }

    fn add<'a>(&mut self, traces: impl Iterator<Item = &'a str>) -> usize {
        let mut set: Vec<usize> = traces.map(|trace| self.number(trace)).collect();
        if set.is_empty() {
            set.push(self.number(""));
        }
        self.known.push(set);
        self.known.len() - 1
    }

    fn number(&mut self, trace: &str) -> usize {
        let known = self.names.iter().position(|name| name == trace);
        known.unwrap_or_else(|| {
            self.names.push(trace.to_owned());
            self.names.len() - 1
        })
    }

    fn traces(&self, set: Set) -> &[usize] {
        self.known.get(usize::from(set.0)).map_or(&[usize::MAX], |set| set)
    }

    /// Whether what lines of this kind add up to is part of an account.
    pub(crate) fn are_of(&self, key: Key, account: Account) -> bool {
        (key.source, key.side) == (account.source, account.side)
            && self.traces(key.set).contains(&account.trace)
    }

    /// The account that tells of the most connections.
    pub(crate) fn best(&self, told: impl IntoIterator<Item = (Key, u64)>) -> Option<Account> {
        let mut accounts = BTreeMap::<Account, u64>::new();
        for (Key { source, side, set }, connections) in told {
            for trace in self.traces(set) {
                let sum = accounts.entry(Account { source, side, trace: *trace }).or_default();
                *sum = sum.saturating_add(connections);
            }
        }
        // Of several the first: better sources and the client's side come first.
        accounts.into_iter().rev().max_by_key(|(_, connections)| *connections).map(|(account, _)| account)
    }

    /// The name of an account's trace, where lines of several were told apart.
    pub(crate) fn name(&self, account: Account) -> Option<&str> {
        let several = self.names.len() > 1 || self.are_more;
        self.names.get(account.trace).map(String::as_str).filter(|name| several && !name.is_empty())
    }
}

#[cfg(test)]
#[path = "accounts_tests.rs"]
mod tests;
