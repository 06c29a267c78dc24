//! The hooks. Each hands the same program body a socket, its states, and a way to read.
//!
//! | hook | tuple | cgroup, namespace, `sk_err`, cookie | socket records |
//! |---|---|---|---|
//! | `tp_btf` | typed loads | typed loads | socket storage (5.11), else hash |
//! | `raw_tp` | probe reads | probe reads | hash |
//! | classic tracepoint | its own record | probe reads, if the kernel has BTF | hash |
//! | kprobe `tcp_set_state` | probe reads | probe reads | hash; never sees a listener, nor a child's birth |
//!
//! The kernel does not run a program that already runs on the same CPU (`recursion_misses`): what a softirq does that
//! interrupts it would go unseen, and since 7.0, where programs are preempted, all that other tasks do until its own task
//! goes on. So `tp_btf` and `raw_tp` attach two. The first notes in its CPU's block whose hit it takes. The second takes
//! each that is not noted. What neither takes shows at the socket's next transition, or at its end (`ended`).

pub(crate) mod classic;
pub(crate) mod ended;
pub(crate) mod kprobe;
pub(crate) mod raw;
pub(crate) mod reset;
pub(crate) mod tp_btf;

use kube_tcpstates_common::{
    classify::Address,
    counter::Counter,
    verifier::{any_bit, any_bit_everywhere},
};

use crate::{
    counters::Counters, globals::offset, memory::Memory, socket::Records, step::Step,
    transition::on_transition,
};

/// `IPPROTO_TCP`.
pub(crate) const TCP: u16 = 6;

/// Addresses and ports as the socket holds them, before IPv4-mapped becomes IPv4.
pub(crate) struct Tuple {
    /// 4 or 6; anything else is neither.
    pub(crate) family: u8,
    pub(crate) local: Address,
    pub(crate) peer: Address,
    /// Host order.
    pub(crate) local_port: u16,
    pub(crate) peer_port: u16,
}

/// What a hook hands over.
pub(crate) trait Hook {
    type Memory: Memory;
    type Records: Records;
    /// The transition was not seen, but follows from what was.
    const INFERS: bool = false;

    fn socket(&self) -> *const u8;
    fn old_state(&self) -> u32;
    fn new_state(&self) -> u32;
    fn protocol(&self) -> u16;
    fn tuple(&self, step: Step) -> Tuple;
}

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// All ones where an address family is `AF_INET6`, else 0.
#[inline(always)]
pub(crate) fn is_v6(number: u16) -> u64 {
    !any_bit_everywhere((number ^ AF_INET6).into())
}

/// 4, 6 or 0 from an address family.
#[inline(always)]
pub(crate) fn family(number: u16) -> u8 {
    let other_than = |family: u16| any_bit((number ^ family).into());
    // One of the two is 1, or both are.
    (10 - (other_than(AF_INET) << 2) - other_than(AF_INET6) * 6) as u8
}

/// The tuple out of a `struct sock`. At -> CLOSE `skc_num` is already 0 while `inet_sport`, beyond `struct sock`, still
/// holds the port. Nobody clears it: in a socket that connects a second time it is the first connection's until the
/// kernel has chosen another, so before that it must not be looked at.
#[inline(always)]
pub(crate) fn tuple_of_socket<M: Memory>(socket: *const u8, is_closed: bool) -> Tuple {
    let number = M::field::<u16>(socket, offset!(family));
    let local_port = if is_closed {
        u16::from_be(M::beyond::<u16>(socket, offset!(inet_sport)))
    } else {
        M::field::<u16>(socket, offset!(local_port))
    };
    let is_v6 = is_v6(number);
    Tuple {
        family: family(number),
        local: M::address(socket, offset!(local_v4), offset!(local_v6), is_v6),
        peer: M::address(socket, offset!(peer_v4), offset!(peer_v6), is_v6),
        local_port,
        peer_port: u16::from_be(M::field::<u16>(socket, offset!(peer_port))),
    }
}

/// The first program of a hook that has two.
#[inline(always)]
pub(crate) fn first<H: Hook>(hook: &H) {
    let Some(counters) = Counters::get() else { return };
    counters.take_hit::<H::Memory>(hook.socket());
    on_transition(hook, counters);
}

/// The second program: takes the hits for which the kernel skipped the first.
#[inline(always)]
pub(crate) fn second<H: Hook>(hook: &H) {
    let Some(counters) = Counters::get() else { return };
    if counters.was_taken::<H::Memory>(hook.socket()) || is_known(hook) {
        return;
    }
    counters.add(Counter::Rescued, 1);
    on_transition(hook, counters);
}

/// Whether the socket's record has the new state already: the first program has taken the hit, and its note was another
/// socket's place, or is another CPU's, where the task has gone on elsewhere.
#[inline(always)]
fn is_known<H: Hook>(hook: &H) -> bool {
    hook.old_state() != hook.new_state()
        && H::Records::get(hook.socket()).is_some_and(|record| u32::from(record.state) == hook.new_state())
}

/// The only program of a hook.
#[inline(always)]
pub(crate) fn only<H: Hook>(hook: &H) {
    if let Some(counters) = Counters::get() {
        on_transition(hook, counters);
    }
}
