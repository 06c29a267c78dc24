//! The map in which user space keeps what the next run must know, mapped into this process.

use std::{
    io,
    os::fd::AsFd as _,
    ptr::NonNull,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use aya::maps::MapData;
use kube_tcpstates_common::{
    counter::{COUNTERS, CounterBlock},
    pinned::{FORMAT, Pinned, TEXT_LEN, Word},
    rule::MAX_TRACES,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The mapping. Words are read and written atomically; one process has it at a time, but it may be killed at any moment.
pub struct Page {
    at: NonNull<Pinned>,
    /// Held by whoever reads or writes a text.
    texts: Mutex<()>,
    _map: MapData,
}

// SAFETY: words are atomics, and a lock is held where texts are read or written.
#[expect(unsafe_code, reason = "a raw pointer to shared memory is neither by itself")]
unsafe impl Send for Page {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "a raw pointer to shared memory is neither by itself")]
unsafe impl Sync for Page {}

/// No position: the ring's are multiples of eight.
const NOWHERE: u64 = u64::MAX;
const LENGTH: usize = size_of::<Pinned>().next_multiple_of(4096);

impl Page {
    /// Maps the map.
    #[expect(unsafe_code, reason = "mmap of a map that outlives this process")]
    pub(in crate::kernel) fn map(map: MapData) -> io::Result<Self> {
        let (protection, shared) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new shared mapping of the map's pages, at an address the kernel chooses.
        let page = unsafe { mmap(std::ptr::null_mut(), LENGTH, protection, shared, map.fd().as_fd(), 0) }?;
        let page = NonNull::new(page.cast());
        page.map(|page| Self { at: page, texts: Mutex::new(()), _map: map })
            .ok_or_else(|| io::ErrorKind::Other.into())
    }

    #[expect(unsafe_code, reason = "a word of the mapping")]
    fn atomic(&self, field: impl FnOnce(*mut Pinned) -> *mut u64) -> &AtomicU64 {
        // SAFETY: every caller names an aligned word inside the mapping, which lives as long as `self`.
        unsafe { AtomicU64::from_ptr(field(self.at.as_ptr())) }
    }

    #[expect(unsafe_code, reason = "address of a word, no access")]
    fn word(&self, word: Word) -> &AtomicU64 {
        // SAFETY: in bounds.
        self.atomic(|page| unsafe { (&raw mut (*page).words).cast::<u64>().add(word as usize) })
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

    /// Whether another run has left something here that this one can read.
    pub fn is_written(&self) -> bool {
        self.get(Word::Format) == FORMAT
    }

    #[expect(unsafe_code, reason = "addresses of words, no access")]
    fn taken(&self, side: usize) -> [&AtomicU64; 2] {
        [0, 1].map(|word| {
            // SAFETY: in bounds: `side` and `word` are 0 or 1.
            self.atomic(|page| unsafe { (&raw mut (*page).taken).cast::<u64>().add((side & 1) * 2 + word) })
        })
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

    #[expect(unsafe_code, reason = "the addresses of words, no access")]
    fn trace(&self, bit: usize) -> &AtomicU64 {
        // SAFETY: in bounds.
        self.atomic(|page| unsafe { (&raw mut (*page).ring_full).cast::<u64>().add(bit % MAX_TRACES) })
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

    #[expect(unsafe_code, reason = "the addresses of words, no access")]
    fn counter(&self, number: usize) -> &AtomicU64 {
        // SAFETY: in bounds.
        self.atomic(|page| unsafe { (&raw mut (*page).earlier).cast::<u64>().add(number % COUNTERS) })
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
    #[expect(unsafe_code, reason = "bytes of the mapping")]
    pub fn text(&self) -> Vec<u8> {
        let _texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let side = (self.get(Word::Text) & 1) as usize;
        let length = usize::try_from(self.text_len(side).load(Ordering::Acquire)).unwrap_or(0).min(TEXT_LEN);
        // SAFETY: within the mapping, and nobody writes it meanwhile.
        unsafe { std::slice::from_raw_parts(self.text_at(side), length) }.to_vec()
    }

    /// Puts another text in its place, if there is room for it. Whoever is killed meanwhile leaves the one before.
    #[expect(unsafe_code, reason = "bytes of the mapping")]
    pub fn set_text(&self, text: &[u8]) -> bool {
        if text.len() > TEXT_LEN {
            return false;
        }
        let _texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let side = 1 - (self.get(Word::Text) & 1) as usize;
        // SAFETY: within the mapping, and nobody else reads or writes it meanwhile.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), self.text_at(side), text.len()) };
        self.text_len(side).store(text.len() as u64, Ordering::Release);
        self.set(Word::Text, side as u64);
        self.set(Word::Format, FORMAT);
        true
    }

    #[expect(unsafe_code, reason = "address of a text, no access")]
    fn text_at(&self, side: usize) -> *mut u8 {
        // SAFETY: in bounds: `side` is 0 or 1.
        unsafe { (&raw mut (*self.at.as_ptr()).text).cast::<[u8; TEXT_LEN]>().add(side & 1).cast() }
    }

    #[expect(unsafe_code, reason = "address of a word, no access")]
    fn text_len(&self, side: usize) -> &AtomicU64 {
        // SAFETY: in bounds: `side` is 0 or 1.
        self.atomic(|page| unsafe { (&raw mut (*page).text_len).cast::<u64>().add(side & 1) })
    }
}

impl Drop for Page {
    #[expect(unsafe_code, reason = "munmap of our own mapping")]
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length; no reference to it outlives `self`.
        let _ = unsafe { munmap(self.at.as_ptr().cast(), LENGTH) };
    }
}
