//! The one element of an array map (`BPF_F_MMAPABLE`), mapped into this process.

use std::{
    io,
    os::fd::BorrowedFd,
    ptr::NonNull,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64},
};

use bytemuck::Pod;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The mapping, gone when this is dropped. Programs and other processes may read and write it at any moment, so it is
/// lent as atomics.
pub(super) struct Mapped<T: Pod> {
    at: NonNull<T>,
}

// SAFETY: it is lent as atomics, or as a whole to whoever has it alone and says that nobody writes.
#[expect(unsafe_code, reason = "a raw pointer to shared memory is neither by itself")]
unsafe impl<T: Pod + Send> Send for Mapped<T> {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "a raw pointer to shared memory is neither by itself")]
unsafe impl<T: Pod + Sync> Sync for Mapped<T> {}

impl<T: Pod> Mapped<T> {
    /// A map's memory is mapped in whole pages.
    const LENGTH: usize = size_of::<T>().next_multiple_of(4096);

    /// Maps the map's element, which is a `T`.
    pub(super) fn map(map: BorrowedFd<'_>) -> io::Result<Self> {
        Self::map_from(map, 0, ProtFlags::READ | ProtFlags::WRITE)
    }

    /// Maps what begins at an offset, a multiple of the page's size, only to be read.
    pub(super) fn map_to_read(map: BorrowedFd<'_>, offset: u64) -> io::Result<Self> {
        Self::map_from(map, offset, ProtFlags::READ)
    }

    #[expect(unsafe_code, reason = "mmap of a map that is shared with programs")]
    fn map_from(map: BorrowedFd<'_>, offset: u64, protection: ProtFlags) -> io::Result<Self> {
        // SAFETY: a new mapping, at an address the kernel chooses.
        let at =
            unsafe { mmap(std::ptr::null_mut(), Self::LENGTH, protection, MapFlags::SHARED, map, offset) }?;
        Self::at(at)
    }

    fn at(at: *mut std::ffi::c_void) -> io::Result<Self> {
        Ok(Self { at: NonNull::new(at.cast()).ok_or(io::ErrorKind::Other)? })
    }

    /// So many of `A`, an atomic integer, from an offset that is a multiple of its size. Only they are lent, however large
    /// the element is.
    #[expect(unsafe_code, reason = "it lies in shared memory")]
    fn atomics<A>(&self, offset: usize, count: usize) -> &[A] {
        assert!(offset.is_multiple_of(size_of::<A>()) && offset + count * size_of::<A>() <= size_of::<T>());
        // SAFETY: within the mapping, which lives as long as `self` and begins at a page, so aligned. An atomic has the size
        // of its integer, of which any bit pattern is one.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr().byte_add(offset).cast(), count) }
    }

    /// Bytes of the element, from an offset.
    pub(super) fn bytes(&self, offset: usize, count: usize) -> &[AtomicU8] {
        self.atomics(offset, count)
    }

    /// The four bytes at an offset, which is a multiple of four within the element.
    pub(super) fn word32(&self, offset: usize) -> &AtomicU32 {
        &self.atomics(offset, 1)[0]
    }

    /// The eight bytes at an offset, which is a multiple of eight within the element.
    pub(super) fn word64(&self, offset: usize) -> &AtomicU64 {
        &self.atomics(offset, 1)[0]
    }

    /// The element as a whole.
    ///
    /// # Safety
    ///
    /// Nobody writes it as long as the reference lives.
    #[expect(unsafe_code, reason = "it lies in shared memory")]
    pub(super) unsafe fn as_mut(&mut self) -> &mut T {
        // SAFETY: aligned to a page, any bit pattern is a `T`; the rest is the caller's to know.
        unsafe { self.at.as_mut() }
    }

    /// Memory of no map: all zeros, and this process's alone.
    #[cfg(test)]
    #[expect(unsafe_code, reason = "mmap")]
    pub(super) fn of_no_map() -> io::Result<Self> {
        let (protection, private) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping, at an address the kernel chooses.
        let at =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), Self::LENGTH, protection, private) }?;
        Self::at(at)
    }
}

impl<T: Pod> Drop for Mapped<T> {
    #[expect(unsafe_code, reason = "munmap of our own mapping")]
    fn drop(&mut self) {
        // SAFETY: mapped with this length; no reference to it outlives `self`.
        let _ = unsafe { munmap(self.at.as_ptr().cast(), Self::LENGTH) };
    }
}
