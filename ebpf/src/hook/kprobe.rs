//! `kprobe/tcp_set_state(struct sock *sk, int state)`: for kernels without the tracepoint. Some changes of state
//! do not go through this function: CLOSE -> LISTEN, a failed LISTEN -> CLOSE, and LISTEN -> SYN_RECV.

use aya_ebpf::{macros::kprobe, programs::ProbeContext};

use super::{Hook, Tuple, only, tuple_of_socket};
use crate::{
    globals::offset,
    memory::{Memory, Probed},
    socket::InHash,
    step::Step,
};

struct Kprobe(ProbeContext);

impl Hook for Kprobe {
    type Memory = Probed;
    type Records = InHash;

    #[inline(always)]
    fn socket(&self) -> *const u8 {
        self.0.arg(0).unwrap_or(core::ptr::null())
    }

    #[inline(always)]
    fn old_state(&self) -> u32 {
        Probed::field::<u8>(self.socket(), offset!(state)).into()
    }

    #[inline(always)]
    fn new_state(&self) -> u32 {
        self.0.arg(1).unwrap_or(0)
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

#[kprobe(function = "tcp_set_state")]
pub(crate) fn kprobe_tcp_set_state(context: ProbeContext) -> u32 {
    only(&Kprobe(context));
    0
}
