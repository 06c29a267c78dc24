//! The least that a program on the hook can do: nothing, and a record of our size that says nothing.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "the attributes of sections and of names that the kernel looks for are unsafe"
)]

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    btf_maps::RingBuf,
    macros::{btf_map, btf_tracepoint},
    programs::BtfTracePointContext,
};
use kube_tcpstates_common::record::TransitionRecord;

/// Of the default size of the tracer's.
#[btf_map]
static RESERVED: RingBuf<TransitionRecord, { 8 * 1024 * 1024 }, 0> = RingBuf::new();

/// What the hook itself costs, and the kernel's taking of its time.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn empty(_context: BtfTracePointContext) -> i32 {
    0
}

/// What it costs to hand over as many bytes as a transition has.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn reserve(_context: BtfTracePointContext) -> i32 {
    if let Some(entry) = RESERVED.reserve(0) {
        entry.submit(BPF_RB_NO_WAKEUP.into());
    }
    0
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Helpers such as `bpf_ringbuf_reserve` are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
