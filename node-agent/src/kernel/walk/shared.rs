//! The memory that the walk's programs and this process share.

use std::{os::fd::BorrowedFd, ptr::NonNull};

use bytemuck::Pod;
use kube_tcpstates_common::walk::Walk;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The mapping of the map's only element.
pub(super) struct Shared {
    walk: NonNull<Walk>,
}

// SAFETY: it is the only one that refers to the mapping, and lets nobody else.
#[expect(unsafe_code, reason = "a raw pointer is not by itself")]
unsafe impl Send for Shared {}

/// A map's memory is mapped in whole pages.
const LENGTH: usize = size_of::<Walk>().next_multiple_of(4096);

impl Shared {
    /// Maps it.
    #[expect(unsafe_code, reason = "mmap of a map the programs share with us")]
    pub(super) fn map(map: BorrowedFd<'_>) -> std::io::Result<Self> {
        // SAFETY: a new shared mapping of the map's one element, at an address the kernel chooses.
        let walk = unsafe {
            mmap(std::ptr::null_mut(), LENGTH, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, map, 0)
        }?;
        NonNull::new(walk.cast()).map(|walk| Self { walk }).ok_or_else(|| std::io::ErrorKind::Other.into())
    }

    /// What a program has left there. The programs run in system calls of the thread that calls this, so none does now.
    #[expect(unsafe_code, reason = "it lies in shared memory")]
    pub(super) fn get(&mut self) -> &mut Walk {
        // SAFETY: aligned to a page, any bit pattern is a `Walk`, and nobody else reads or writes meanwhile.
        unsafe { self.walk.as_mut() }
    }

    /// The first records of what a slice has told, which are then forgotten.
    pub(super) fn take_told<T: Pod>(&mut self) -> Vec<T> {
        let walk = self.get();
        let bytes: &[u8] = bytemuck::cast_slice(&walk.told);
        let told = bytemuck::cast_slice(&bytes[..walk.cursor.count as usize * size_of::<T>()]).to_vec();
        walk.cursor.count = 0;
        told
    }
}

impl Drop for Shared {
    #[expect(unsafe_code, reason = "munmap of our own mapping")]
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length; no reference to it outlives `self`.
        let _ = unsafe { munmap(self.walk.as_ptr().cast(), LENGTH) };
    }
}
