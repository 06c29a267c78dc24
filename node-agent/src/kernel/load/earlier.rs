//! Sets that another build, or a process with other options, has left attached; or this one's own, if nobody read it for
//! too long. They end, and what is in their rings is told.

use std::{path::Path, sync::Arc};

use aya::maps::{Map, MapData, PerCpuArray, RingBuf};
use kube_tcpstates_common::{
    counter::{Counter, CounterBlock, CpuBlock},
    pinned::Word,
};

use super::Loaded;
use crate::{
    kernel::{
        clock::boot_ns,
        control::ControlPage,
        counters::sum,
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
    /// What is in its ring, to the end.
    pub events: EventRing,
    /// What became of the rest.
    pub page: Arc<Page>,
    /// By generation of its rules, which bit means which trace.
    pub rules: Vec<(u32, Vec<TraceBit>)>,
    /// Its counters, at the end.
    pub(in crate::kernel) words: CounterBlock,
}

impl Loaded {
    /// Ends what others have attached, now that this is. Returns what they left, and from when on (boot time, ns) this
    /// set's records count and no longer theirs.
    pub fn end_earlier(&mut self) -> (u64, Vec<Earlier>) {
        let Some(pins) = &self.pins else { return (0, Vec::new()) };
        let sets = pins.earlier();
        if sets.is_empty() {
            return (0, Vec::new());
        }
        let cut_ns = boot_ns();
        let mut left = Vec::new();
        for set in sets {
            match end(&set) {
                Ok(earlier) => left.push(earlier),
                Err(error) => tracing::warn!(
                    "what another build has left in {} cannot be read, and is lost: {error}",
                    set.place("EVENTS").display()
                ),
            }
            if let Err(error) = set.remove() {
                tracing::warn!("{}: {error}", set.program().display());
            }
        }
        for earlier in &left {
            self.counters.add_earlier(&earlier.words, &self.page);
        }
        (cut_ns, left)
    }
}

fn end(set: &Set) -> Result<Earlier, BoxError> {
    // A link that is removed may keep its program running for a while. What is told must be all there is.
    ControlPage::map(MapData::from_pin(set.place("CONTROL"))?)?.end_lease();
    wait_for_programs();
    let page = Page::map(&MapData::from_pin(set.place("PINNED"))?)?;
    let will =
        page.is_written().then(|| Will::read(&page.text())).flatten().ok_or("its format is another")?;
    let ring = RingBuf::try_from(Map::RingBuf(MapData::from_pin(set.place("EVENTS"))?))?;
    let blocks: PerCpuArray<MapData, Plain<CpuBlock>> =
        PerCpuArray::try_from(Map::PerCpuArray(MapData::from_pin(set.place("CPU"))?))?;
    let mut words = at_the_end(sum(&blocks));
    for (word, before) in words.iter_mut().zip(page.earlier()) {
        *word = word.wrapping_add(before);
    }
    let page = Arc::new(page);
    let rules = will.rules.into_iter().map(|rules| (rules.generation, rules.traces)).collect();
    Ok(Earlier { events: EventRing::open(ring, Arc::clone(&page))?, page, rules, words })
}

/// What a set that is not this process's own says of the run that read it.
pub(super) fn last_words(set: &Set) -> Option<(Will, u64)> {
    let page = Page::map(&MapData::from_pin(set.place("PINNED")).ok()?).ok()?;
    let will = page.is_written().then(|| Will::read(&page.text()))??;
    Some((will, page.get(Word::Lines)))
}

/// Nobody decides any more what waits in records of sockets.
fn at_the_end(mut words: CounterBlock) -> CounterBlock {
    let pending = std::mem::take(&mut words[Counter::Pending as usize]);
    words[Counter::Filtered as usize] = words[Counter::Filtered as usize].wrapping_add(pending);
    words
}

/// Whether the programs of a set have stopped to trace, for want of a reader.
pub(super) fn has_lapsed(control: &Path) -> bool {
    let page = MapData::from_pin(control).ok().and_then(|map| ControlPage::map(map).ok());
    page.is_some_and(|page| page.has_lapsed())
}
