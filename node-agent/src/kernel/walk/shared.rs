//! The memory that the walk's programs and this process share.

use std::{io, os::fd::BorrowedFd};

use bytemuck::Pod;
use kube_tcpstates_common::walk::Walk;

use crate::kernel::mapped::Mapped;

/// The mapping of the map's only element.
pub(super) struct Shared {
    walk: Mapped<Walk>,
}

impl Shared {
    /// Maps it.
    pub(super) fn map(map: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { walk: Mapped::map(map)? })
    }

    /// What a program has left there.
    #[expect(unsafe_code, reason = "it lies in shared memory")]
    pub(super) fn get(&mut self) -> &mut Walk {
        // SAFETY: the programs run in system calls of the thread that calls this, so none does now.
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
