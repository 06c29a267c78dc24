//! Who talks to whom: connections added up by both ends and the server's port.

use std::collections::HashMap;

use crate::figures::Figures;
use crate::who::{Addresses, Side};

/// Pairs that are kept apart. When there are more, the lighter half becomes one row of others.
const PAIRS_AT_MOST: usize = 8192;

/// What lines tell of connections, from the best down. Where several tell of the same pair, the best counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Connections,
    Summaries,
    Transitions,
}

/// The two ends of connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ends {
    /// Who connected: a name, or an address.
    pub client: String,
    /// Who accepted: a name, or an address.
    pub server: String,
    /// The server's port; 0 where it is not known.
    pub port: u16,
}

/// What is told of a pair, by who tells it and how.
#[derive(Clone, Debug, Default)]
struct Told {
    figures: [[Option<Box<Figures>>; 3]; 3],
}

impl Told {
    fn of(&mut self, side: Side, source: Source) -> &mut Figures {
        self.figures[side as usize][source as usize].get_or_insert_default()
    }

    /// The best account of it: both sides tell of the same connections, so one of them counts, the client's first.
    fn best(&self) -> Option<(&Figures, Side, Source)> {
        let sides = [Side::Client, Side::Server, Side::Unknown];
        let sources = [Source::Connections, Source::Summaries, Source::Transitions];
        sources.into_iter().find_map(|source| {
            sides.into_iter().find_map(|side| {
                let figures = self.figures[side as usize][source as usize].as_deref()?;
                Some((figures, side, source))
            })
        })
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.figures.iter_mut().flatten().zip(other.figures.iter().flatten()) {
            if let Some(theirs) = theirs {
                mine.get_or_insert_default().merge(theirs);
            }
        }
    }

    fn weight(&self) -> u64 {
        self.best()
            .map_or(0, |(figures, ..)| figures.connections().saturating_add(figures.handshakes.count()))
    }
}

/// A pair and what it adds up to.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub ends: Ends,
    pub figures: Figures,
    pub source: Source,
}

/// All pairs.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    kept: HashMap<Ends, Told>,
    others: Told,
    /// Pairs that became others. One that was put there and came again counts twice.
    pub merged: u64,
}

impl Pairs {
    /// What this side tells of the connections between these ends.
    pub(crate) fn of(&mut self, ends: &Ends, side: Side, source: Source) -> &mut Figures {
        if !self.kept.contains_key(ends) {
            if self.kept.len() >= PAIRS_AT_MOST {
                self.keep_the_heavier_half();
            }
            self.kept.insert(ends.clone(), Told::default());
        }
        let told = match self.kept.get_mut(ends) {
            Some(told) => told,
            None => &mut self.others,
        };
        told.of(side, source)
    }

    fn keep_the_heavier_half(&mut self) {
        let mut all: Vec<_> = std::mem::take(&mut self.kept).into_iter().collect();
        all.sort_by_cached_key(|(_, told)| std::cmp::Reverse(told.weight()));
        for (_, told) in all.drain(PAIRS_AT_MOST / 2..) {
            self.others.merge(&told);
            self.merged += 1;
        }
        self.kept = all.into_iter().collect();
    }

    /// All, with addresses named where their owner is known, the heaviest first, and what became of the others.
    pub(crate) fn finish(self, addresses: &Addresses) -> (Vec<Pair>, Option<Figures>) {
        let mut named: HashMap<Ends, Told> = HashMap::new();
        for (mut ends, told) in self.kept {
            for end in [&mut ends.client, &mut ends.server] {
                if let Some(owner) = addresses.owner(end) {
                    owner.clone_into(end);
                }
            }
            named.entry(ends).or_default().merge(&told);
        }
        let mut pairs: Vec<Pair> = named
            .into_iter()
            .filter_map(|(ends, told)| {
                let (figures, _, source) = told.best()?;
                Some(Pair { ends, figures: figures.clone(), source })
            })
            .collect();
        pairs.sort_by(|a, b| (b.figures.connections(), &a.ends).cmp(&(a.figures.connections(), &b.ends)));
        (pairs, self.others.best().map(|(figures, ..)| figures.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(client: &str, server: &str) -> Ends {
        Ends { client: client.to_owned(), server: server.to_owned(), port: 80 }
    }

    #[test]
    fn connections_that_both_sides_tell_of_count_once() {
        let mut pairs = Pairs::default();
        for side in [Side::Client, Side::Server] {
            pairs.of(&ends("a", "b"), side, Source::Connections).by_outcome[0] += 5;
        }
        pairs.of(&ends("a", "b"), Side::Client, Source::Transitions).by_outcome[0] += 7;
        let (all, others) = pairs.finish(&Addresses::default());
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].figures.connections(), all[0].source), (5, Source::Connections));
        assert!(others.is_none());
    }

    #[test]
    fn a_scan_of_many_addresses_leaves_the_pairs_that_talk() {
        let mut pairs = Pairs::default();
        pairs.of(&ends("shop", "db"), Side::Client, Source::Connections).by_outcome[0] += 100;
        for address in 0..3 * PAIRS_AT_MOST {
            let to = ends("scanner", &address.to_string());
            pairs.of(&to, Side::Client, Source::Connections).by_outcome[1] += 1;
        }
        let merged = pairs.merged;
        let (all, others) = pairs.finish(&Addresses::default());
        assert_eq!(all[0].ends, ends("shop", "db"));
        assert!(all.len() <= PAIRS_AT_MOST);
        assert_eq!(others.unwrap().failed(), merged);
        let told: u64 = all.iter().map(|pair| pair.figures.connections()).sum();
        assert_eq!(told + merged, 100 + 3 * PAIRS_AT_MOST as u64);
    }
}
