//! Sets that another build, or a process with other options, has left attached; or this one's own, if nobody read it for
//! too long. They end, and what is in their rings is told.

use std::{os::fd::AsRawFd as _, sync::Arc};

use aya::maps::{HashMap, Map, MapData, PerCpuArray, RingBuf};
use kube_tcpstates_common::{
    counter::{COUNTERS, Counter, CounterBlock, CpuBlock},
    pinned::{FORMAT, Word},
    rule::MAX_TRACES,
};

use super::Loaded;
use crate::{
    kernel::{
        call::open_pinned,
        clock::boot_ns,
        control::ControlPage,
        counters::{CounterSnapshot, by_trace, recursion_misses, sum},
        error::BoxError,
        pinned::{Page, Set, Will},
        pod::Plain,
        ring::EventRing,
        rules::wait_for_programs,
    },
    names::TraceBit,
};

/// What an earlier set has left.
pub struct Earlier {
    /// What is in its ring, to the end. `None`: only another build could read it.
    pub events: Option<EventRing>,
    /// What became of the rest.
    pub page: Arc<Page>,
    /// By generation of its rules, which bit means which trace.
    pub rules: Vec<(u32, Vec<TraceBit>)>,
    /// Losses for want of room that nobody has put down to a trace, by the bits of the last rules.
    pub ring_full: [u64; MAX_TRACES],
    /// Its programs had traced nobody for a while: what it has counted is not this run's, which begins anew.
    pub has_run_out: bool,
    /// When its programs were attached, boot time, ns.
    attached_ns: u64,
    /// Transitions that went into its ring, ever.
    pub emitted: u64,
    /// Its counters at the end, with those of sets before it.
    words: CounterBlock,
    /// Hits on which the kernel skipped its programs.
    skipped: u64,
    set: Set,
}

impl Earlier {
    /// Transitions that were taken from its ring, or were in it and nobody can read them.
    pub fn taken(&self) -> u64 {
        self.events.as_ref().map_or(self.emitted, EventRing::taken)
    }

    /// What its programs, and those of sets before it, have counted.
    pub fn counted(&self) -> CounterSnapshot {
        CounterSnapshot::of_ended(self.words, self.skipped)
    }

    /// Leaves of what was counted so many transitions that went into the ring, and so many that had no room in it.
    pub fn count_only(&mut self, emitted: u64, ring_full: u64) {
        self.words = [0; COUNTERS];
        self.words[Counter::Seen as usize] = emitted + ring_full;
        self.words[Counter::Emitted as usize] = emitted;
        self.words[Counter::RingFull as usize] = ring_full;
        self.skipped = 0;
    }
}

impl Loaded {
    /// Ends what others have attached, now that this is. Returns what they left, and from when on (boot time, ns) this
    /// set's records count and no longer theirs. `None` where there is nothing of others.
    pub fn end_earlier(&mut self) -> Option<(u64, Vec<Earlier>)> {
        let sets = self.pins.as_ref()?.earlier();
        if sets.is_empty() {
            return None;
        }
        let cut_ns = boot_ns();
        let mut left = Vec::new();
        for set in sets {
            match end(&set) {
                Ok(earlier) => left.push(earlier),
                Err(error) => {
                    tracing::warn!(
                        "what another build has left in {} cannot be read, and is lost: {error}",
                        set.place("EVENTS").display()
                    );
                    remove(&set);
                }
            }
        }
        Some((cut_ns, those_that_count(left)))
    }

    /// Makes the counters of a set that has ended part of this one's, and removes the set. What else it left is this run's by
    /// now: whoever is killed before has the next one count it again.
    pub fn take_counts(&mut self, earlier: &Earlier) {
        self.counters.add_earlier(&earlier.words, earlier.skipped, &self.page);
        remove(&earlier.set);
    }
}

/// Those of which something was read, and the first of all. Whoever attached another beside that was killed before it read any
/// of its own, and nothing in it is not in the first.
fn those_that_count(mut all: Vec<Earlier>) -> Vec<Earlier> {
    all.sort_unstable_by_key(|earlier| earlier.attached_ns);
    let mut is_first = true;
    all.retain(|earlier| {
        let counts = std::mem::take(&mut is_first) || earlier.taken() > 0;
        if !counts {
            remove(&earlier.set);
        }
        counts
    });
    all
}

fn remove(set: &Set) {
    if let Err(error) = set.remove() {
        tracing::warn!("{}: {error}", set.program().display());
    }
}

fn end(set: &Set) -> Result<Earlier, BoxError> {
    let has_run_out = set.has_run_out();
    if has_run_out {
        tracing::warn!(
            "nobody was traced for a while: {} was without a reader for longer than --pin-for",
            set.program().display()
        );
    }
    // A link that is removed may keep its program running for a while. What is told must be all there is.
    let control = ControlPage::map(MapData::from_pin(set.place("CONTROL"))?)?;
    control.end_lease();
    wait_for_programs();
    let page = Arc::new(Page::map(&MapData::from_pin(set.place("PINNED"))?)?);
    let format = page.format().ok_or("its format is another")?;
    let blocks: PerCpuArray<MapData, Plain<CpuBlock>> =
        PerCpuArray::try_from(Map::PerCpuArray(MapData::from_pin(set.place("CPU"))?))?;
    let mut words = at_the_end(sum(&blocks));
    let emitted = words[Counter::Emitted as usize];
    let by_traces = HashMap::try_from(Map::HashMap(MapData::from_pin(set.place("RING_FULL_BY_TRACES"))?))?;
    let mut ring_full = by_trace(&by_traces, words[Counter::RingFullUntold as usize]);
    for (lost, known) in ring_full.iter_mut().zip(page.ring_full()) {
        *lost = lost.saturating_sub(known);
    }
    for (word, before) in words.iter_mut().zip(page.earlier()) {
        *word = word.wrapping_add(before);
    }
    let events = if format == FORMAT {
        let ring = RingBuf::try_from(Map::RingBuf(MapData::from_pin(set.place("EVENTS"))?))?;
        Some(EventRing::open(ring, Arc::clone(&page))?)
    } else {
        tracing::warn!(
            "records in {} are those of another build: what was not read counts as lost",
            set.place("EVENTS").display()
        );
        None
    };
    let program = open_pinned(&set.program())?;
    let skipped = page.get(Word::Skipped) + recursion_misses(program.as_raw_fd()).unwrap_or(0);
    let rules = page.will().unwrap_or_default().rules;
    let rules = rules.into_iter().map(|rules| (rules.generation, rules.traces)).collect();
    let attached_ns = control.attached_ns();
    let set = set.clone();
    Ok(Earlier { events, page, rules, ring_full, has_run_out, attached_ns, emitted, words, skipped, set })
}

/// What a set that is not this process's own says of the run that read it.
pub(super) fn last_words(set: &Set) -> Option<(Will, u64)> {
    let page = Page::map(&MapData::from_pin(set.place("PINNED")).ok()?).ok()?;
    Some((page.will()?, page.get(Word::Lines)))
}

/// Nobody decides any more what waits in records of sockets.
fn at_the_end(mut words: CounterBlock) -> CounterBlock {
    let pending = std::mem::take(&mut words[Counter::Pending as usize]);
    words[Counter::Filtered as usize] = words[Counter::Filtered as usize].wrapping_add(pending);
    words
}

/// Whether the programs of a set have stopped to trace, for want of a reader.
pub(super) fn has_lapsed(set: &Set) -> bool {
    control(set).is_some_and(|page| page.has_lapsed())
}

/// Whether they have by themselves.
pub(super) fn ran_out(set: &Set) -> bool {
    control(set).is_some_and(|page| page.has_run_out())
}

fn control(set: &Set) -> Option<ControlPage> {
    MapData::from_pin(set.place("CONTROL")).ok().and_then(|map| ControlPage::map(map).ok())
}
