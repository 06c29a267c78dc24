//! `tcp_receive_reset(struct sock *sk)`, for each reset of the peer that a socket takes. `sk_err` alone does not tell it
//! from an ICMP message that says the same (`tcp_reset`, `net/ipv4/tcp_input.c`).

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};

use crate::socket::{InHash, InStorage, RESET_RECEIVED, Records};

/// The kernel holds the socket's lock, as at its transitions.
#[inline(always)]
fn note<R: Records>(socket: *const u8) {
    if let Some(record) = R::get(socket) {
        record.flags |= RESET_RECEIVED;
    }
}

/// Beside `tp_btf_storage`.
#[btf_tracepoint(function = "tcp_receive_reset")]
pub(crate) fn reset_storage(context: BtfTracePointContext) -> i32 {
    note::<InStorage>(context.arg(0));
    0
}

/// Beside `tp_btf_hash`.
#[btf_tracepoint(function = "tcp_receive_reset")]
pub(crate) fn reset_hash(context: BtfTracePointContext) -> i32 {
    note::<InHash>(context.arg(0));
    0
}

/// Beside `raw_tp`.
#[raw_tracepoint(tracepoint = "tcp_receive_reset")]
pub(crate) fn reset_raw(context: RawTracePointContext) -> i32 {
    note::<InHash>(context.arg(0));
    0
}
