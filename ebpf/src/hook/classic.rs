//! `tracepoint/sock/inet_sock_set_state`: the tuple comes in the tracepoint's own record, whose layout user space
//! reads from its `format` file.

use aya_ebpf::{EbpfContext, macros::tracepoint, programs::TracePointContext};
use kube_tcpstates_common::offsets::ABSENT;

use super::{Hook, Tuple, family, is_v6, only};
use crate::{
    globals::{classic, offset},
    memory::{Memory, Probed},
    socket::InHash,
    step::Step,
};

struct Classic(TracePointContext);

impl Classic {
    #[inline(always)]
    fn read<T: Copy + Default>(&self, offset: u32) -> T {
        Probed::read(self.0.as_ptr().cast::<u8>(), offset)
    }
}

impl Hook for Classic {
    type Memory = Probed;
    type Records = InHash;

    #[inline(always)]
    fn socket(&self) -> *const u8 {
        self.read::<u64>(classic!(socket)) as *const u8
    }

    #[inline(always)]
    fn old_state(&self) -> u32 {
        self.read(classic!(old_state))
    }

    #[inline(always)]
    fn new_state(&self) -> u32 {
        self.read(classic!(new_state))
    }

    #[inline(always)]
    fn protocol(&self) -> u16 {
        if classic!(protocol_size) == 1 {
            self.read::<u8>(classic!(protocol)).into()
        } else {
            self.read(classic!(protocol))
        }
    }

    /// For `AF_INET6` the four-byte addresses hold filler. The local port is `inet_sport`: see `tuple_of_socket` for
    /// what that is worth in a socket that connects again. Without BTF there is nothing better.
    #[inline(always)]
    fn tuple(&self, step: Step) -> Tuple {
        let number = self.read(classic!(family));
        let is_v6 = is_v6(number);
        let record = self.0.as_ptr().cast::<u8>();
        let local_port = if step.was_closed() && offset!(local_port) != ABSENT {
            Probed::field(self.socket(), offset!(local_port))
        } else {
            self.read(classic!(local_port))
        };
        Tuple {
            family: family(number),
            local: Probed::address(record, classic!(local_v4), classic!(local_v6), is_v6),
            peer: Probed::address(record, classic!(peer_v4), classic!(peer_v6), is_v6),
            local_port,
            peer_port: self.read(classic!(peer_port)),
        }
    }
}

#[tracepoint(category = "sock", name = "inet_sock_set_state")]
pub(crate) fn classic(context: TracePointContext) -> u32 {
    only(&Classic(context));
    0
}
