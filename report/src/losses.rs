//! What each run has lost by itself. With `--pin` a run goes on with the counts of the run before, so what its lines name is
//! the loss of the whole chain of runs up to there.

use std::collections::{BTreeMap, HashMap};
use std::iter::successors;

use crate::figures::sum;
use crate::line::{Line, Lost};
use crate::runs::Run;

/// Places that are kept apart; there are seven.
const PLACES_AT_MOST: usize = 16;

/// Transitions by the place where they went.
pub(crate) type ByPlace = BTreeMap<String, u64>;

/// What the lines of a run say of losses: of those of all its chain up to there.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Its first line came.
    has_begun: bool,
    /// The run that it goes on from, as its first line says.
    continues: Option<String>,
    /// The largest total.
    total: Option<u64>,
    by_place: ByPlace,
    /// What had been told before the first `lost` line that came.
    before_the_first: Option<u64>,
    /// The total of the first `lost` line that came, and the same by place.
    first: Option<(u64, ByPlace)>,
    /// The least that a heartbeat names.
    least: Option<u64>,
}

/// What a run has lost by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loss {
    pub total: u64,
    /// Of it what is known to have gone there.
    pub by_place: ByPlace,
}

impl Said {
    /// Takes in what a line says.
    pub(crate) fn hear(&mut self, line: &Line<'_>) {
        let told = &line.tcpstates;
        self.has_begun |= &*told.kind == "start";
        if let Some(before) = &told.continues {
            self.continues.get_or_insert_with(|| (*before.run).to_owned());
        }
        if let Some(lost) = &told.lost {
            self.total = self.total.max(Some(lost.total));
            let before = lost.total.saturating_sub(lost.since_last.unwrap_or(lost.total));
            self.before_the_first = Some(self.before_the_first.map_or(before, |least| least.min(before)));
            self.hear_places(lost);
        }
        if let Some(totals) = told.totals {
            self.total = self.total.max(Some(totals.lost));
            self.least = Some(self.least.map_or(totals.lost, |least| least.min(totals.lost)));
        }
    }

    fn hear_places(&mut self, lost: &Lost<'_>) {
        let places = || lost.by_place.iter().filter(|(_, count)| **count > 0).take(PLACES_AT_MOST);
        for (place, count) in places() {
            if let Some(most) = self.by_place.get_mut(&**place) {
                *most = (*most).max(*count);
            } else if self.by_place.len() < PLACES_AT_MOST {
                self.by_place.insert((**place).to_owned(), *count);
            }
        }
        if self.first.as_ref().is_none_or(|(total, _)| lost.total < *total) {
            let by_place = places().map(|(place, count)| ((**place).to_owned(), *count)).collect();
            self.first = Some((lost.total, by_place));
        }
    }

    /// What the runs before have lost, by this run's own lines. A heartbeat may be younger than a loss of this run: it is
    /// asked only where it is certain that there is a run before.
    fn before(&self) -> u64 {
        let heartbeat = self.least.filter(|_| self.continues.is_some());
        [self.before_the_first, heartbeat].into_iter().flatten().min().unwrap_or(0)
    }
}

/// What this run has lost by itself: its total less that of the runs before it.
pub(crate) fn of(run: &Run, all: &HashMap<String, Run>) -> Loss {
    let said = &run.said;
    let (before, placed) = earlier(said, all).unwrap_or_else(|| (said.before(), None));
    // It may have gone at any place.
    let unplaced = before.saturating_sub(placed.map_or(0, |placed| sum(placed.values().copied())));
    let before_at = |place: &String| {
        let known = placed.and_then(|placed| placed.get(place)).copied().unwrap_or(0);
        let at_first = said.first.as_ref().map_or(0, |(_, first)| first.get(place).copied().unwrap_or(0));
        at_first.min(known.saturating_add(unplaced))
    };
    let by_place = said
        .by_place
        .iter()
        .map(|(place, count)| (place.clone(), count.saturating_sub(before_at(place))))
        .filter(|(_, count)| *count > 0)
        .collect();
    Loss { total: said.total.unwrap_or(0).saturating_sub(before), by_place }
}

/// What the runs before have lost by the lines of these, and by place. `None`: none of them that came says so.
fn earlier<'a>(said: &Said, all: &'a HashMap<String, Run>) -> Option<(u64, Option<&'a ByPlace>)> {
    if said.continues.is_none() {
        return said.has_begun.then_some((0, None));
    }
    let before = |said: &Said| said.continues.as_deref().and_then(|run| all.get(run)).map(|run| &run.said);
    let mut total = None;
    // As many as there are: lines that lie may name a chain without an end.
    for earlier in successors(before(said), |earlier| before(earlier)).take(all.len()) {
        let is_first = earlier.has_begun && earlier.continues.is_none();
        total = total.or(earlier.total).or(is_first.then_some(0));
        match total {
            Some(0) => return Some((0, None)),
            Some(total) if !earlier.by_place.is_empty() => return Some((total, Some(&earlier.by_place))),
            _ => {}
        }
    }
    total.map(|total| (total, None))
}

#[cfg(test)]
#[path = "losses_tests.rs"]
mod tests;
