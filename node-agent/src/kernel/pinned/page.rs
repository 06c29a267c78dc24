//! The map in which user space keeps what the next run must know, mapped into this process.

use std::{
    io,
    mem::offset_of,
    os::fd::AsFd as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use aya::maps::MapData;
use kube_tcpstates_common::{
    counter::{COUNTERS, CounterBlock},
    pinned::{FIRST_FORMAT, FORMAT, Pinned, TEXT_LEN, Word},
    rule::MAX_TRACES,
};

use super::Will;
use crate::kernel::mapped::Mapped;

/// The mapping. Words are read and written atomically; one process has it at a time, but it may be killed at any moment.
pub struct Page {
    memory: Mapped<Pinned>,
    /// Held by whoever reads or writes a text.
    texts: Mutex<()>,
}

/// No position: the ring's are multiples of eight.
const NOWHERE: u64 = u64::MAX;

impl Page {
    /// Maps the map.
    pub(in crate::kernel) fn map(map: &MapData) -> io::Result<Self> {
        Ok(Self { memory: Mapped::map(map.fd().as_fd())?, texts: Mutex::new(()) })
    }

    /// An element of an array of words.
    fn element(&self, array: usize, number: usize) -> &AtomicU64 {
        self.memory.word64(array + number * size_of::<u64>())
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        self.element(offset_of!(Pinned, words), word as usize)
    }

    /// A word.
    pub fn get(&self, word: Word) -> u64 {
        self.word(word).load(Ordering::Acquire)
    }

    /// Writes a word. Each has one writing thread.
    pub fn set(&self, word: Word, value: u64) {
        self.word(word).store(value, Ordering::Release);
    }

    /// Adds to a word.
    pub fn add(&self, word: Word, more: u64) {
        self.word(word).fetch_add(more, Ordering::AcqRel);
    }

    /// The format of the records in the ring that belongs to this. `None` where no run has left anything, or one that had
    /// another kind of page.
    pub(in crate::kernel) fn format(&self) -> Option<u64> {
        Some(self.get(Word::Format)).filter(|format| *format >= FIRST_FORMAT)
    }

    /// What the last run has left in words.
    pub(in crate::kernel) fn will(&self) -> Option<Will> {
        self.format().and_then(|_| Will::read(&self.text()))
    }

    fn taken(&self, side: usize) -> [&AtomicU64; 2] {
        [0, 1].map(|word| self.element(offset_of!(Pinned, taken), (side & 1) * 2 + word))
    }

    /// Says that `taken` transitions will have been taken when the kernel's mark of what was read is at `position`. To be
    /// called before the mark is moved there.
    pub(in crate::kernel) fn about_to_take(&self, position: u64, taken: u64) {
        let [before, behind] = [self.taken(0), self.taken(1)];
        // Whoever is killed anywhere here leaves one pair whole, and the mark where that one says.
        for (before, behind) in before.iter().zip(behind) {
            before.store(behind.load(Ordering::Relaxed), Ordering::Release);
        }
        behind[0].store(NOWHERE, Ordering::Release);
        behind[1].store(taken, Ordering::Release);
        behind[0].store(position, Ordering::Release);
    }

    /// How many transitions had been taken when the mark was moved to `position`.
    pub fn taken_at(&self, position: u64) -> u64 {
        let pair = |side| self.taken(side).map(|word| word.load(Ordering::Acquire));
        let [before, behind] = [pair(0), pair(1)];
        if behind[0] == position { behind[1] } else { before[1] }
    }

    fn trace(&self, bit: usize) -> &AtomicU64 {
        self.element(offset_of!(Pinned, ring_full), bit % MAX_TRACES)
    }

    /// Losses for want of room in the ring that were put down to traces, by bit.
    pub fn ring_full(&self) -> [u64; MAX_TRACES] {
        std::array::from_fn(|bit| self.trace(bit).load(Ordering::Acquire))
    }

    /// Says which were.
    pub fn set_ring_full(&self, counts: &[u64; MAX_TRACES]) {
        for (bit, count) in counts.iter().enumerate() {
            self.trace(bit).store(*count, Ordering::Release);
        }
    }

    fn counter(&self, number: usize) -> &AtomicU64 {
        self.element(offset_of!(Pinned, earlier), number % COUNTERS)
    }

    /// Counters of sets that are no more.
    pub(in crate::kernel) fn earlier(&self) -> CounterBlock {
        std::array::from_fn(|number| self.counter(number).load(Ordering::Acquire))
    }

    /// Keeps them.
    pub(in crate::kernel) fn set_earlier(&self, words: &CounterBlock) {
        for (number, word) in words.iter().enumerate() {
            self.counter(number).store(*word, Ordering::Release);
        }
    }

    /// The text that holds.
    fn text(&self) -> Vec<u8> {
        let _texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let side = (self.get(Word::Text) & 1) as usize;
        let length = usize::try_from(self.text_len(side).load(Ordering::Acquire)).unwrap_or(0);
        self.text_at(side, length).iter().map(|byte| byte.load(Ordering::Relaxed)).collect()
    }

    /// Puts another text in its place, if there is room for it. Whoever is killed meanwhile leaves the one before.
    pub fn set_text(&self, text: &[u8]) -> bool {
        if text.len() > TEXT_LEN {
            return false;
        }
        let _texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let side = 1 - (self.get(Word::Text) & 1) as usize;
        for (place, byte) in self.text_at(side, text.len()).iter().zip(text) {
            place.store(*byte, Ordering::Relaxed);
        }
        self.text_len(side).store(text.len() as u64, Ordering::Release);
        self.set(Word::Text, side as u64);
        self.set(Word::Format, FORMAT);
        true
    }

    /// The first bytes of a text, no more than [`TEXT_LEN`].
    fn text_at(&self, side: usize, length: usize) -> &[AtomicU8] {
        self.memory.bytes(offset_of!(Pinned, text) + (side & 1) * TEXT_LEN, length.min(TEXT_LEN))
    }

    fn text_len(&self, side: usize) -> &AtomicU64 {
        self.element(offset_of!(Pinned, text_len), side & 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        Page { memory: Mapped::of_no_map().unwrap(), texts: Mutex::new(()) }
    }

    #[test]
    fn each_text_takes_the_place_of_the_one_before() {
        let page = page();
        assert_eq!(page.format(), None);
        for length in [0, 1, 300, 2] {
            let text: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
            assert!(page.set_text(&text));
            assert_eq!(page.text(), text);
        }
        assert!(!page.set_text(&vec![1; TEXT_LEN + 1]));
        assert_eq!(page.text().len(), 2, "one that is too long changes nothing");
        assert_eq!(page.format(), Some(FORMAT));
    }

    /// A writer that is killed before it says which text holds.
    #[test]
    fn half_a_text_is_not_told() {
        let page = page();
        assert!(page.set_text(b"whole"));
        let side = 1 - (page.get(Word::Text) & 1) as usize;
        page.text_at(side, 1)[0].store(b'x', Ordering::Relaxed);
        page.text_len(side).store(99, Ordering::Relaxed);
        assert_eq!(page.text(), b"whole");
    }

    #[test]
    fn what_was_taken_is_known_at_the_mark_and_before_it_moved() {
        let page = page();
        page.about_to_take(64, 1);
        assert_eq!((page.taken_at(0), page.taken_at(64)), (0, 1));
        page.about_to_take(128, 3);
        assert_eq!((page.taken_at(64), page.taken_at(128)), (1, 3));
    }

    #[test]
    fn counts_stay_apart() {
        let page = page();
        page.add(Word::Lines, 5);
        page.add(Word::Lines, 2);
        page.set(Word::TakenEarlier, 9);
        let by_bit = std::array::from_fn(|bit| bit as u64 + 1);
        page.set_ring_full(&by_bit);
        let earlier = std::array::from_fn(|number| 1000 + number as u64);
        page.set_earlier(&earlier);
        assert_eq!((page.get(Word::Lines), page.get(Word::TakenEarlier), page.get(Word::Text)), (7, 9, 0));
        assert_eq!((page.ring_full(), page.earlier()), (by_bit, earlier));
        assert_eq!((page.taken_at(0), page.text()), (0, Vec::new()));
    }

    /// While one thread writes texts, another reads: each that it gets is one of them, whole.
    #[test]
    fn a_text_is_read_whole_beside_its_writer() {
        let page = page();
        assert!(page.set_text(b"aaaa"));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for turn in 0..20 {
                    assert!(page.set_text([b"aaaa", b"bbbb"][turn % 2]));
                }
            });
            for _ in 0..20 {
                assert!(matches!(page.text().as_slice(), b"aaaa" | b"bbbb"));
            }
        });
    }
}
