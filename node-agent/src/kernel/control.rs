//! The page shared with the program: the generation of the rules, and whether the reader sleeps.

use std::{
    os::fd::AsFd as _,
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

use aya::maps::MapData;
use kube_tcpstates_common::rule::Control;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The mapping. Everything in it is read and written by word, atomically: the program does the same.
pub(super) struct ControlPage {
    page: NonNull<Control>,
    /// Held open: programs that are loaded later still name it by its descriptor.
    _map: MapData,
}

// SAFETY: every access goes through atomics.
#[expect(unsafe_code, reason = "a raw pointer to shared memory is neither by itself")]
unsafe impl Send for ControlPage {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "a raw pointer to shared memory is neither by itself")]
unsafe impl Sync for ControlPage {}

const LENGTH: usize = 4096;

impl ControlPage {
    /// Maps the control map.
    #[expect(unsafe_code, reason = "mmap of a map the program shares with us")]
    pub(super) fn map(map: MapData) -> std::io::Result<Self> {
        // SAFETY: a new shared mapping of one page of the map, at an address the kernel chooses.
        let page = unsafe {
            mmap(
                std::ptr::null_mut(),
                LENGTH,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map.fd().as_fd(),
                0,
            )
        }?;
        let page = NonNull::new(page.cast());
        page.map(|page| Self { page, _map: map }).ok_or_else(|| std::io::ErrorKind::Other.into())
    }

    #[expect(unsafe_code, reason = "the field lies in the shared page")]
    fn word(&self, field: fn(*mut Control) -> *mut u32) -> &AtomicU32 {
        // SAFETY: an aligned word inside the mapping, which lives as long as `self`.
        unsafe { AtomicU32::from_ptr(field(self.page.as_ptr())) }
    }

    #[expect(unsafe_code, reason = "address of a field, no access")]
    fn generation(&self) -> &AtomicU32 {
        // SAFETY: in bounds of the mapping.
        self.word(|page| unsafe { &raw mut (*page).generation })
    }

    #[expect(unsafe_code, reason = "address of a field, no access")]
    fn sleeping(&self) -> &AtomicU32 {
        // SAFETY: in bounds of the mapping.
        self.word(|page| unsafe { &raw mut (*page).sleeping })
    }

    #[expect(unsafe_code, reason = "address of a field, no access")]
    fn resting(&self) -> &AtomicU32 {
        // SAFETY: in bounds of the mapping.
        self.word(|page| unsafe { &raw mut (*page).resting })
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
    #[expect(unsafe_code, reason = "the field lies in the shared page")]
    pub(super) fn store_attached(&self, now_ns: u64) {
        // SAFETY: an aligned word inside the mapping, which lives as long as `self`.
        let field = unsafe { AtomicU64::from_ptr(&raw mut (*self.page.as_ptr()).attached_ns) };
        field.store(now_ns, Ordering::SeqCst);
    }

    #[expect(unsafe_code, reason = "address of a field, no access")]
    fn renewed(&self) -> &AtomicU32 {
        // SAFETY: in bounds of the mapping.
        self.word(|page| unsafe { &raw mut (*page).renewed })
    }

    /// Shows that the reader is there.
    pub(super) fn renew(&self) {
        self.renewed().store(1, Ordering::Relaxed);
    }

    /// Has the programs trace nobody from here on, as if nobody had read for too long.
    #[expect(unsafe_code, reason = "the field lies in the shared page")]
    pub(super) fn end_lease(&self) {
        self.renewed().store(0, Ordering::SeqCst);
        // SAFETY: an aligned word inside the mapping, which lives as long as `self`.
        let lease = unsafe { AtomicU64::from_ptr(&raw mut (*self.page.as_ptr()).lease) };
        lease.store(0, Ordering::SeqCst);
    }

    /// Whether a transition was left out because nobody had read for too long.
    #[expect(unsafe_code, reason = "the field lies in the shared page")]
    pub(super) fn has_lapsed(&self) -> bool {
        // SAFETY: an aligned word inside the mapping, which lives as long as `self`.
        let field = unsafe { AtomicU64::from_ptr(&raw mut (*self.page.as_ptr()).lapsed) };
        field.load(Ordering::Acquire) != 0
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

impl Drop for ControlPage {
    #[expect(unsafe_code, reason = "munmap of our own mapping")]
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length; no reference to it outlives `self`.
        let _ = unsafe { munmap(self.page.as_ptr().cast(), LENGTH) };
    }
}
