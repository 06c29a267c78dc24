//! `tracepoint/sock/inet_sock_set_state`: the tuple comes in the tracepoint's own record, whose layout user space
//! reads from its `format` file.

use aya_ebpf::{EbpfContext, macros::tracepoint, programs::TracePointContext};

use super::{Hook, Tuple, address_v6, family, widen};
use crate::{globals::classic, memory::Memory, memory::Probed, socket::InHash, transition::on_transition};

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

    /// For `AF_INET6` the four-byte addresses hold filler.
    #[inline(always)]
    fn tuple(&self) -> Tuple {
        let family = family(self.read(classic!(family)));
        let record = self.0.as_ptr().cast::<u8>();
        let (local, peer) = if family == 6 {
            (
                address_v6::<Probed>(record, classic!(local_v6)),
                address_v6::<Probed>(record, classic!(peer_v6)),
            )
        } else {
            (widen(self.read(classic!(local_v4))), widen(self.read(classic!(peer_v4))))
        };
        Tuple {
            family,
            local,
            peer,
            local_port: self.read(classic!(local_port)),
            peer_port: self.read(classic!(peer_port)),
        }
    }
}

#[tracepoint(category = "sock", name = "inet_sock_set_state")]
pub(crate) fn classic(context: TracePointContext) -> u32 {
    on_transition(&Classic(context));
    0
}
