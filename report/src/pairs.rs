//! Who talks to whom: connections added up by both ends and the server's port.

use std::collections::HashMap;

use crate::accounts::{Key, Sets, Source};
use crate::figures::Figures;
use crate::who::Addresses;

/// Pairs that are kept apart. When there are more, the lighter half becomes one row of others.
const PAIRS_AT_MOST: usize = 8192;
/// The same when these are told of by more than this many, all together: figures of one take a kilobyte.
const FIGURES_AT_MOST: usize = 4 * PAIRS_AT_MOST;

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

/// What is told of a pair, by who tells it: mostly one.
#[derive(Clone, Debug, Default)]
struct ByTeller(Vec<(Key, Box<Figures>)>);

impl ByTeller {
    fn knows(&self, key: Key) -> bool {
        self.0.iter().any(|(known, _)| *known == key)
    }

    fn of(&mut self, key: Key) -> &mut Figures {
        let known = self.0.iter().position(|(known, _)| *known == key);
        let place = known.unwrap_or_else(|| {
            self.0.push((key, Box::default()));
            self.0.len() - 1
        });
        &mut self.0[place].1
    }

    /// The account that tells of the most connections.
    fn best(&self, sets: &Sets) -> Option<(Figures, Source)> {
        let account = sets.best(self.0.iter().map(|(key, figures)| (*key, figures.connections())))?;
        let mut best = Figures::default();
        let parts = self.0.iter().filter(|(key, _)| sets.are_of(*key, account));
        parts.for_each(|(_, figures)| best.merge(figures));
        Some((best, account.source))
    }

    fn merge(&mut self, other: &Self) {
        for (key, figures) in &other.0 {
            self.of(*key).merge(figures);
        }
    }

    fn weight(&self, sets: &Sets) -> u64 {
        self.best(sets)
            .map_or(0, |(figures, _)| figures.connections().saturating_add(figures.handshakes.count()))
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
    kept: HashMap<Ends, ByTeller>,
    /// Figures of those, all together.
    figures: usize,
    others: ByTeller,
    /// Pairs that became others. One that was put there and came again counts twice.
    pub merged: u64,
}

impl Pairs {
    /// What lines of this kind tell of the connections between these ends.
    pub(crate) fn of(&mut self, ends: &Ends, key: Key, sets: &Sets) -> &mut Figures {
        let known = self.kept.get(ends);
        if !known.is_some_and(|told| told.knows(key)) {
            let is_full = known.is_none() && self.kept.len() >= PAIRS_AT_MOST;
            if is_full || self.figures >= FIGURES_AT_MOST {
                self.keep_the_heavier_half(sets);
            }
            self.figures += 1;
        }
        if !self.kept.contains_key(ends) {
            self.kept.insert(ends.clone(), ByTeller::default());
        }
        let told = match self.kept.get_mut(ends) {
            Some(told) => told,
            None => &mut self.others,
        };
        told.of(key)
    }

    fn keep_the_heavier_half(&mut self, sets: &Sets) {
        let mut all: Vec<_> = std::mem::take(&mut self.kept).into_iter().collect();
        all.sort_by_cached_key(|(_, told)| std::cmp::Reverse(told.weight(sets)));
        for (_, told) in all.drain(all.len() / 2..) {
            self.others.merge(&told);
            self.merged += 1;
        }
        self.figures = all.iter().map(|(_, told)| told.0.len()).sum();
        self.kept = all.into_iter().collect();
    }

    /// All, with addresses named where their owner is known, the heaviest first, and what became of the others.
    pub(crate) fn finish(self, addresses: &Addresses, sets: &Sets) -> (Vec<Pair>, Option<Figures>) {
        let mut named: HashMap<Ends, ByTeller> = HashMap::new();
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
                let (figures, source) = told.best(sets)?;
                Some(Pair { ends, figures, source })
            })
            .collect();
        pairs.sort_by(|a, b| (b.figures.connections(), &a.ends).cmp(&(a.figures.connections(), &b.ends)));
        (pairs, self.others.best(sets).map(|(figures, _)| figures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::Set;
    use crate::who::Side;

    fn ends(client: &str, server: &str) -> Ends {
        Ends { client: client.to_owned(), server: server.to_owned(), port: 80 }
    }

    fn key(source: Source, side: Side) -> Key {
        Key { source, side, set: Set::default() }
    }

    #[test]
    fn connections_that_both_sides_tell_of_count_once() {
        let (mut pairs, sets) = (Pairs::default(), Sets::default());
        for side in [Side::Client, Side::Server] {
            pairs.of(&ends("a", "b"), key(Source::Connections, side), &sets).by_outcome[0] += 5;
        }
        pairs.of(&ends("a", "b"), key(Source::Transitions, Side::Client), &sets).by_outcome[0] += 5;
        let (all, others) = pairs.finish(&Addresses::default(), &sets);
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].figures.connections(), all[0].source), (5, Source::Connections));
        assert!(others.is_none());
    }

    #[test]
    fn a_scan_of_many_addresses_leaves_the_pairs_that_talk() {
        let (mut pairs, sets) = (Pairs::default(), Sets::default());
        let told = key(Source::Connections, Side::Client);
        pairs.of(&ends("shop", "db"), told, &sets).by_outcome[0] += 100;
        for address in 0..3 * PAIRS_AT_MOST {
            let to = ends("scanner", &address.to_string());
            pairs.of(&to, told, &sets).by_outcome[1] += 1;
        }
        let merged = pairs.merged;
        let (all, others) = pairs.finish(&Addresses::default(), &sets);
        assert_eq!(all[0].ends, ends("shop", "db"));
        assert!(all.len() <= PAIRS_AT_MOST);
        assert_eq!(others.unwrap().failed(), merged);
        let told: u64 = all.iter().map(|pair| pair.figures.connections()).sum();
        assert_eq!(told + merged, 100 + 3 * PAIRS_AT_MOST as u64);
    }

    #[test]
    fn pairs_that_many_tell_of_take_no_more_memory() {
        let (mut pairs, sets) = (Pairs::default(), Sets::default());
        for address in 0..PAIRS_AT_MOST {
            let to = ends("shop", &address.to_string());
            for source in [Source::Connections, Source::Summaries, Source::Transitions] {
                for side in [Side::Client, Side::Server] {
                    pairs.of(&to, key(source, side), &sets).by_outcome[0] += 1;
                    assert!(pairs.figures <= FIGURES_AT_MOST);
                }
            }
        }
        assert!(pairs.merged > 0);
        assert_eq!(pairs.figures, pairs.kept.values().map(|told| told.0.len()).sum::<usize>());
        let (all, others) = pairs.finish(&Addresses::default(), &sets);
        assert!(all.len() as u64 + others.unwrap().connections() >= PAIRS_AT_MOST as u64);
    }
}
