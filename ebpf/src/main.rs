//! The kernel side of kube-tcpstates.
//!
//! ```text
//! hook ─► transition ─► classify (common/) ─► socket record ─► emit ─► ring buffer
//!           │                                   │ owner
//!           └ reads the socket through `memory` └ storage: socket storage, or a hash
//! ```
//!
//! One program body serves every hook; an adapter in `hook/` says how that hook hands over the socket and how
//! its memory may be read. `cgroup` follows cgroups as they come and go. `walk` finds the sockets that are open, and
//! `preexisting` takes over those that were before the start.
#![no_std]
#![feature(core_intrinsics)]
#![expect(unsafe_code, reason = "kernel memory and maps are reached by pointers and helpers alone")]
#![expect(
    clippy::cast_possible_truncation,
    reason = "ports, states, families, bits and lengths, computed in words: each fits the field that takes it"
)]
#![expect(clippy::needless_pass_by_value, reason = "the macros of programs hand their context over")]
#![expect(internal_features, reason = "`counters` needs an atomic add that this target's core does not wrap")]
#![no_main]

mod accept;
mod cgroup;
mod counters;
mod emit;
mod failure;
mod figures;
mod globals;
mod hook;
mod lease;
mod maps;
mod memory;
mod owner;
mod place;
mod preexisting;
mod records;
mod share;
mod sight;
mod socket;
mod step;
mod tables;
mod transition;
mod walk;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Helpers such as `bpf_probe_read_kernel` are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
