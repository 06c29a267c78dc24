//! `raw_tracepoint/inet_sock_set_state`: the same arguments as `tp_btf`, without their types.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use super::{Hook, Tuple, first, second, tuple_of_socket};
use crate::{
    globals::offset,
    memory::{Memory, Probed},
    socket::InHash,
    step::Step,
};

struct RawTp(RawTracePointContext);

impl Hook for RawTp {
    type Memory = Probed;
    type Records = InHash;

    #[inline(always)]
    fn socket(&self) -> *const u8 {
        self.0.arg(0)
    }

    #[inline(always)]
    fn old_state(&self) -> u32 {
        self.0.arg(1)
    }

    #[inline(always)]
    fn new_state(&self) -> u32 {
        self.0.arg(2)
    }

    #[inline(always)]
    fn protocol(&self) -> u16 {
        Probed::field(self.socket(), offset!(protocol))
    }

    #[inline(always)]
    fn tuple(&self, step: Step) -> Tuple {
        tuple_of_socket::<Probed>(self.socket(), step.is_close())
    }
}

#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub(crate) fn raw_tp(context: RawTracePointContext) -> i32 {
    first(&RawTp(context));
    0
}

#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub(crate) fn raw_tp_2(context: RawTracePointContext) -> i32 {
    second(&RawTp(context));
    0
}
