//! The walk over the kernel's own tables: every namespace's TCP sockets, and which process holds which. It needs no
//! pid namespace and no descriptor of its own, so that it finds from a pod what is on the node.
//!
//! User space runs these programs (`BPF_PROG_TEST_RUN`, for raw tracepoints since 5.10), a slice at a time; each runs
//! within one RCU read section. What a slice may look at is bounded: a loop around a global function, which the verifier
//! walks by itself and once (5.6).
//!
//! aya's own macro for raw tracepoints would drop what a program returns, and here it says why a slice ended.
//!
//! Everything is read through probe reads: what has been freed meanwhile gives nonsense, never a fault. So whatever was
//! found is checked against itself before it is told.

mod chains;
mod closely;
mod copy;
mod descriptors;
mod ring;

use kube_tcpstates_common::{
    verifier::masked,
    walk::{STEPS, Walk, end},
};

use crate::{
    maps::WALK,
    memory::{Memory, Probed},
};

/// What a step asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Next {
    Step = u32::MAX,
    Done = end::DONE,
    Full = end::FULL,
    Lost = end::LOST,
}

#[inline(always)]
fn shared() -> Option<&'static mut Walk> {
    // SAFETY: the map's only element. User space touches it while no program runs, and runs one at a time.
    WALK.get_ptr_mut(0).and_then(|walk| unsafe { walk.as_mut() })
}

/// Takes steps until one says otherwise. Returns why it ended.
#[inline(always)]
fn steps(step: extern "C" fn() -> u32) -> i32 {
    let mut left = STEPS;
    while left > 0 {
        let next = step();
        if next != Next::Step as u32 {
            return next.cast_signed();
        }
        left -= 1;
    }
    end::STEPS.cast_signed()
}

impl Next {
    #[inline(always)]
    fn number(self) -> u32 {
        self as u32
    }
}

/// Room for one more record of which there may be `MASK` + 1.
#[inline(always)]
fn room<T, const MASK: usize>(walk: &mut Walk) -> Option<*mut T> {
    if walk.cursor.count as usize > MASK {
        return None;
    }
    let index = masked::<MASK>(walk.cursor.count as usize);
    // SAFETY: `told` has room for so many of each kind (`kube_tcpstates_common::walk`), and is aligned to 8.
    Some(unsafe { walk.told.as_mut_ptr().cast::<T>().add(index) })
}

/// A word of kernel memory.
#[inline(always)]
fn word(address: u64) -> u64 {
    Probed::read(address as *const u8, 0)
}

/// What `address` points to at `offset`.
#[inline(always)]
fn pointer(address: u64, offset: u32) -> u64 {
    Probed::read(address as *const u8, offset)
}
