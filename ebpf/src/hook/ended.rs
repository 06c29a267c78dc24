//! `tcp_destroy_sock(struct sock *sk)`, once for each TCP socket, after its last transition. A record that is not that
//! of a closed socket then tells of a close that no program got.

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use kube_tcpstates_common::state::State;

use super::{Hook, Tuple, tuple_of_socket};
use crate::{
    counters::Counters,
    globals::offset,
    memory::{Memory, Probed, Typed},
    socket::{InHash, InStorage, Records},
    step::Step,
    transition::on_end,
};

/// The close that is missing.
struct Ended<M, R> {
    socket: *const u8,
    state: u8,
    kind: core::marker::PhantomData<(M, R)>,
}

impl<M: Memory, R: Records> Hook for Ended<M, R> {
    type Memory = M;
    type Records = R;
    const INFERS: bool = true;

    #[inline(always)]
    fn socket(&self) -> *const u8 {
        self.socket
    }

    #[inline(always)]
    fn old_state(&self) -> u32 {
        self.state.into()
    }

    #[inline(always)]
    fn new_state(&self) -> u32 {
        State::CLOSE.0.into()
    }

    #[inline(always)]
    fn protocol(&self) -> u16 {
        M::field(self.socket, offset!(protocol))
    }

    #[inline(always)]
    fn tuple(&self, step: Step) -> Tuple {
        tuple_of_socket::<M>(self.socket, step.is_close())
    }
}

#[inline(always)]
fn ended<M: Memory, R: Records>(socket: *const u8) {
    // Almost always it has no record, or one that is closed.
    let Some(record) = R::get(socket) else { return };
    let state = record.state;
    if state == State::CLOSE.0 {
        return;
    }
    if let Some(counters) = Counters::get() {
        let hook = Ended::<M, R> { socket, state, kind: core::marker::PhantomData };
        on_end(&hook, record, counters);
    }
}

/// Beside `tp_btf_storage`.
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub(crate) fn ended_storage(context: BtfTracePointContext) -> i32 {
    ended::<Typed, InStorage>(context.arg(0));
    0
}

/// Beside `tp_btf_hash`.
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub(crate) fn ended_hash(context: BtfTracePointContext) -> i32 {
    ended::<Typed, InHash>(context.arg(0));
    0
}

/// Beside `raw_tp`.
#[raw_tracepoint(tracepoint = "tcp_destroy_sock")]
pub(crate) fn ended_raw(context: RawTracePointContext) -> i32 {
    ended::<Probed, InHash>(context.arg(0));
    0
}
