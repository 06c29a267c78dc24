//! Why a connect failed. `sk_err` alone does not tell: it is not set where the kernel found no local port, nor where an
//! ICMP message came while `connect` held the socket; and what it holds may be of the socket's connection before.

use kube_tcpstates_common::{
    offsets::ABSENT,
    verifier::{any_bit_everywhere, bit_everywhere, forget, select},
};

use crate::{
    emit::Emission,
    globals::offset,
    memory::{Memory, Probed},
    socket::{BIRTH_UNKNOWN, SocketRecord},
    step::Step,
};

/// `include/uapi/asm-generic/errno.h`.
const EADDRNOTAVAIL: u64 = 99;

/// What is known of a failed connect beside `sk_err`.
pub(crate) struct Failure {
    /// All ones where no local port was free, else 0.
    pub(crate) no_port: u64,
    /// All ones where a SYN went out: the kernel has cleared `sk_err` before that (`tcp_connect_init`).
    sent: u64,
    /// An errno, or 0.
    error: u64,
}

impl Failure {
    /// The errno that this connection ended with, 0 where none is known.
    #[inline(always)]
    pub(crate) fn error_of(&self, record: &SocketRecord, now: u32) -> u32 {
        let now = u64::from(now);
        let changed = any_bit_everywhere(now ^ u64::from(record.birth_error));
        let own = now & (changed | self.sent) & !self.no_port;
        select(any_bit_everywhere(own), own, self.error) as u32
    }
}

/// Keeps what an earlier connection has left in the socket, and what tells whether there was one.
#[inline(always)]
pub(crate) fn remember_left_over<M: Memory>(
    record: &mut SocketRecord,
    socket: *const u8,
    birth: &Emission<'_>,
) {
    record.birth_error = M::field::<u32>(socket, offset!(error)) as u16;
    record.birth_soft_error = M::field::<u32>(socket, offset!(soft_error)) as u16;
    record.birth_errors_queued = M::field::<u32>(socket, offset!(errors_queued)) as u8;
    record.birth_port = birth.tuple.local_port;
    record.used_before = any_bit_everywhere(M::beyond::<u32>(socket, offset!(write_seq)).into()) as u16;
}

/// Looks at a connect that came to nothing. `zero` is that of [`forget`].
#[inline(always)]
pub(crate) fn of_connect<M: Memory>(
    socket: *const u8,
    record: Option<&SocketRecord>,
    step: Step,
    zero: u64,
) -> Failure {
    let unknown = Failure { no_port: zero, sent: zero, error: zero };
    if offset!(segments_out) == ABSENT || offset!(write_seq) == ABSENT || offset!(shutdown) == ABSENT {
        return unknown;
    }
    let Some(record) = record else { return unknown };
    if !step.is_failed_connect() || record.flags & BIRTH_UNKNOWN != 0 {
        return unknown;
    }
    let sent = any_bit_everywhere(M::beyond::<u32>(socket, offset!(segments_out)).into());
    let no_port = no_port::<M>(socket, record, sent);
    let error = select(no_port, EADDRNOTAVAIL, rejected::<M>(socket, record));
    Failure { no_port: forget(no_port, zero), sent: forget(sent, zero), error: forget(error, zero) }
}

/// All ones where no local port was free (`EADDRNOTAVAIL`), else 0: nothing was sent, and the first sequence number was
/// not chosen yet. In a socket that was used before that number is an old one; there a connect that was put off
/// (`TCP_FASTOPEN_CONNECT`) is told by its shutdown.
#[inline(always)]
fn no_port<M: Memory>(socket: *const u8, record: &SocketRecord, sent: u64) -> u64 {
    let chosen = u64::from(M::beyond::<u32>(socket, offset!(write_seq)));
    let shut = u64::from(M::field::<u8>(socket, offset!(shutdown)));
    let tells = select(bit_everywhere::<0>(record.used_before.into()), shut, chosen);
    !any_bit_everywhere(sent | tells)
}

/// The errno of an ICMP message that came while `connect` held the socket: `sk_err_soft`, until the program reads
/// `SO_ERROR`. Of IPv4, or under `IPV6_RECVERR`, the message is in the error queue besides, and stays there
/// (`ip_icmp_error`, `net/ipv4/ip_sockglue.c`); a socket that is connected again keeps those of before.
#[inline(always)]
fn rejected<M: Memory>(socket: *const u8, record: &SocketRecord) -> u64 {
    let soft = u64::from(M::field::<u32>(socket, offset!(soft_error)));
    let changed = any_bit_everywhere(soft ^ u64::from(record.birth_soft_error));
    if offset!(errors_queued) == ABSENT || offset!(newest_error) == ABSENT || offset!(queued_errno) == ABSENT
    {
        return soft & changed;
    }
    let queued = M::field::<u32>(socket, offset!(errors_queued)) as u8;
    let more = queued.wrapping_sub(record.birth_errors_queued);
    // Fewer than before: the program has taken some.
    let grown = any_bit_everywhere(more.into()) & !bit_everywhere::<7>(more.into());
    let newest = Probed::pointer(socket, offset!(newest_error));
    let origin = Probed::field::<u8>(newest, offset!(queued_origin));
    // `SO_EE_ORIGIN_ICMP` is 2, `SO_EE_ORIGIN_ICMP6` 3.
    let by_icmp = !any_bit_everywhere(u64::from(origin & !1) ^ 2);
    let errno = u64::from(Probed::field::<u32>(newest, offset!(queued_errno)));
    select(any_bit_everywhere(soft & changed), soft, errno & grown & by_icmp)
}
