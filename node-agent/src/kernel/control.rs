//! The page shared with the program: the generation of the rules, and whether the reader sleeps.

use std::{
    io,
    mem::offset_of,
    os::fd::AsFd as _,
    sync::atomic::{AtomicU32, Ordering, fence},
};

use aya::maps::MapData;
use kube_tcpstates_common::rule::Control;

use super::mapped::Mapped;

/// The mapping. Everything in it is read and written by word, atomically: the program does the same.
pub(super) struct ControlPage {
    page: Mapped<Control>,
    /// Held open: programs that are loaded later still name it by its descriptor.
    _map: Option<MapData>,
}

impl ControlPage {
    /// Maps the control map.
    pub(super) fn map(map: MapData) -> io::Result<Self> {
        Ok(Self { page: Mapped::map(map.fd().as_fd())?, _map: Some(map) })
    }

    fn generation(&self) -> &AtomicU32 {
        self.page.word32(offset_of!(Control, generation))
    }

    fn sleeping(&self) -> &AtomicU32 {
        self.page.word32(offset_of!(Control, sleeping))
    }

    fn resting(&self) -> &AtomicU32 {
        self.page.word32(offset_of!(Control, resting))
    }

    fn renewed(&self) -> &AtomicU32 {
        self.page.word32(offset_of!(Control, renewed))
    }

    /// The generation in use.
    pub(super) fn load_generation(&self) -> u32 {
        self.generation().load(Ordering::Acquire)
    }

    /// Puts a generation in use.
    pub(super) fn store_generation(&self, generation: u32) {
        self.generation().store(generation, Ordering::Release);
    }

    /// Says that whatever was recorded before `now_ns` (boot time) may no longer be true.
    pub(super) fn store_attached(&self, now_ns: u64) {
        self.page.word64(offset_of!(Control, attached_ns)).store(now_ns, Ordering::SeqCst);
    }

    /// When programs were attached, boot time, ns.
    pub(super) fn attached_ns(&self) -> u64 {
        self.page.word64(offset_of!(Control, attached_ns)).load(Ordering::SeqCst)
    }

    /// Shows that the reader is there.
    pub(super) fn renew(&self) {
        self.renewed().store(1, Ordering::Relaxed);
    }

    /// Has the programs trace nobody from here on, as if nobody had read for too long.
    pub(super) fn end_lease(&self) {
        self.renewed().store(0, Ordering::SeqCst);
        self.page.word64(offset_of!(Control, lease)).store(0, Ordering::SeqCst);
    }

    /// Whether a transition was left out because nobody had read for too long.
    pub(super) fn has_lapsed(&self) -> bool {
        self.page.word64(offset_of!(Control, lapsed)).load(Ordering::Acquire) != 0
    }

    /// The same, where nobody has ended the lease. To be asked before [`Self::end_lease`].
    pub(super) fn has_run_out(&self) -> bool {
        self.has_lapsed() && self.page.word64(offset_of!(Control, lease)).load(Ordering::SeqCst) != 0
    }

    /// Says that the reader is about to sleep without limit. The reader looks at the ring once more after this;
    /// the barrier pairs with the one in `bpf_ringbuf_commit`.
    pub(super) fn about_to_sleep(&self) {
        self.sleeping().store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Says that the reader rests for some milliseconds.
    pub(super) fn about_to_rest(&self) {
        self.resting().store(1, Ordering::SeqCst);
    }

    /// Says that the reader is up.
    pub(super) fn awake(&self) {
        self.sleeping().store(0, Ordering::Relaxed);
        self.resting().store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each word where the program reads it, and no other one touched.
    #[test]
    fn each_word_is_written_where_the_program_reads_it() {
        let mut page = ControlPage { page: Mapped::of_no_map().unwrap(), _map: None };
        page.store_generation(3);
        page.store_attached(1 << 40);
        page.about_to_sleep();
        page.renew();
        let control = whole(&mut page);
        assert_eq!((control.generation, control.attached_ns), (3, 1 << 40));
        assert_eq!((control.sleeping, control.resting, control.renewed), (1, 0, 1));
        assert_eq!(page.load_generation(), 3);

        page.awake();
        page.about_to_rest();
        page.page.word64(offset_of!(Control, lease)).store(7, Ordering::SeqCst);
        assert!(!page.has_lapsed());
        page.page.word64(offset_of!(Control, lapsed)).store(1, Ordering::SeqCst);
        assert!(page.has_lapsed() && page.has_run_out());
        page.end_lease();
        assert!(page.has_lapsed() && !page.has_run_out(), "another process has ended it");
        let control = whole(&mut page);
        assert_eq!((control.sleeping, control.resting), (0, 1));
        assert_eq!((control.renewed, control.lease, control.generation), (0, 0, 3));
    }

    #[expect(unsafe_code, reason = "the page as a whole")]
    fn whole(page: &mut ControlPage) -> Control {
        // SAFETY: nobody else has this memory.
        *unsafe { page.page.as_mut() }
    }
}
