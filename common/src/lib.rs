//! What the eBPF program and user space must agree on, byte for byte.
//!
//! Both sides are built from this crate in one build, so the layouts carry no version, but for what outlives a
//! process: see [`pinned`]. It does no I/O and needs no allocator.
#![cfg_attr(not(test), no_std)]
// For the kernel there is one line of assembler.
#![cfg_attr(not(target_arch = "bpf"), forbid(unsafe_code))]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod classify;
pub mod counter;
pub mod offsets;
pub mod pinned;
pub mod record;
pub mod rule;
pub mod share;
pub mod socket;
pub mod state;
pub mod verifier;
pub mod walk;
