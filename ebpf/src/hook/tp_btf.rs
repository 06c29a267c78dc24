//! `tp_btf/inet_sock_set_state`: `(const struct sock *sk, int oldstate, int newstate)`.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use super::{Hook, Tuple, first, second, tuple_of_socket};
use crate::{
    globals::offset,
    memory::{Memory, Typed},
    socket::{InHash, InStorage, Records},
    step::Step,
};

struct TpBtf<R> {
    context: BtfTracePointContext,
    records: core::marker::PhantomData<R>,
}

impl<R: Records> TpBtf<R> {
    #[inline(always)]
    fn new(context: BtfTracePointContext) -> Self {
        Self { context, records: core::marker::PhantomData }
    }
}

impl<R: Records> Hook for TpBtf<R> {
    type Memory = Typed;
    type Records = R;

    #[inline(always)]
    fn socket(&self) -> *const u8 {
        self.context.arg(0)
    }

    #[inline(always)]
    fn old_state(&self) -> u32 {
        self.context.arg(1)
    }

    #[inline(always)]
    fn new_state(&self) -> u32 {
        self.context.arg(2)
    }

    #[inline(always)]
    fn protocol(&self) -> u16 {
        Typed::field(self.socket(), offset!(protocol))
    }

    #[inline(always)]
    fn tuple(&self, step: Step) -> Tuple {
        tuple_of_socket::<Typed>(self.socket(), step.is_close())
    }
}

/// From 5.11: records in socket storage.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn tp_btf_storage(context: BtfTracePointContext) -> i32 {
    first(&TpBtf::<InStorage>::new(context));
    0
}

#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn tp_btf_storage_2(context: BtfTracePointContext) -> i32 {
    second(&TpBtf::<InStorage>::new(context));
    0
}

/// Before 5.11: records in the hash.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn tp_btf_hash(context: BtfTracePointContext) -> i32 {
    first(&TpBtf::<InHash>::new(context));
    0
}

#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn tp_btf_hash_2(context: BtfTracePointContext) -> i32 {
    second(&TpBtf::<InHash>::new(context));
    0
}
