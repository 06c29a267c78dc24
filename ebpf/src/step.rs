//! The two states of a transition, and what they say about the socket.

use kube_tcpstates_common::{
    counter::Counter,
    offsets::ABSENT,
    record::{flag, role},
    state::State,
    verifier::{any_bit_everywhere, bit_everywhere, masked, select},
};

use crate::{counters::Counters, globals::offset, memory::Memory, socket::SocketRecord};

const ESTABLISHED: u8 = State::ESTABLISHED.0;
const SYN_SENT: u8 = State::SYN_SENT.0;
const SYN_RECV: u8 = State::SYN_RECV.0;
const FIN_WAIT1: u8 = State::FIN_WAIT1.0;
const CLOSE: u8 = State::CLOSE.0;
const CLOSE_WAIT: u8 = State::CLOSE_WAIT.0;
const LAST_ACK: u8 = State::LAST_ACK.0;
const LISTEN: u8 = State::LISTEN.0;

/// What a pair of states says about the socket, as bits of [`KINDS`].
mod kind {
    /// A connection or a listener begins.
    pub(super) const BIRTH: u8 = 1 << 3;
    /// A child comes out of a listener.
    pub(super) const CHILD: u8 = 1 << 1;
    /// The socket is, or was, a listener.
    pub(super) const LISTENER: u8 = 1 << 2;
    /// The owner closes, in its own context.
    pub(super) const OWNERS_CLOSE: u8 = 1 << 4;
    /// The socket was closed: it has no port of its own yet, unless it is bound.
    pub(super) const FROM_CLOSE: u8 = 1 << 5;
    /// The socket has just closed.
    pub(super) const CLOSE: u8 = 1 << 0;
    /// The two upper bits are a role (`kube_tcpstates_common::record::role`), 0 where the states do not tell.
    pub(super) const ROLE_SHIFT: u8 = 6;
}

/// By `(old & 15) << 4 | new & 15`. A table, where comparisons would do as well: each comparison with a constant gives
/// the verifier another path on which it knows a state, and it walks all their combinations to the end.
static KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut index = 0;
    while index < 256 {
        kinds[index] = kind_of((index >> 4) as u8, index as u8 & 15);
        index += 1;
    }
    kinds
};

const fn kind_of(old: u8, new: u8) -> u8 {
    let child = old == LISTEN && new == SYN_RECV;
    let client = old == CLOSE && new == SYN_SENT;
    let listener = new == LISTEN || (old == LISTEN && !child);
    let birth = child || client || (old == CLOSE && new == LISTEN);
    let owners_close = (old == ESTABLISHED && new == FIN_WAIT1) || (old == CLOSE_WAIT && new == LAST_ACK);
    let role = match (client, child || listener) {
        (true, _) => role::CLIENT,
        (_, true) => role::SERVER,
        _ => role::UNKNOWN,
    };
    let bits = [
        (kind::BIRTH, birth),
        (kind::CHILD, child),
        (kind::LISTENER, listener),
        (kind::OWNERS_CLOSE, owners_close),
        (kind::FROM_CLOSE, old == CLOSE),
        (kind::CLOSE, new == CLOSE),
    ];
    let mut kind = role << kind::ROLE_SHIFT;
    let mut index = 0;
    while index < bits.len() {
        if bits[index].1 {
            kind |= bits[index].0;
        }
        index += 1;
    }
    kind
}

/// What a state says by itself, as bits of [`STATES`].
mod entry {
    /// The three lowest: its place in the times of a connection's states.
    pub(super) const PLACE: u8 = 7;
    /// It has such a place.
    pub(super) const TIMED_SHIFT: u32 = 3;
    /// On entering it something is known of the connection that is not known later.
    pub(super) const TELLS: u8 = 1 << 4;
    /// ... and it is ESTABLISHED.
    pub(super) const OPENS: u8 = 1 << 5;
}

/// By state. A table, for the reason that [`KINDS`] is one.
static STATES: [u8; 16] = {
    let mut states = [0; 16];
    let mut place = 0;
    while place < State::TIMED.len() {
        states[State::TIMED[place].0 as usize] = place as u8 | 1 << entry::TIMED_SHIFT;
        place += 1;
    }
    states[ESTABLISHED as usize] |= entry::TELLS | entry::OPENS;
    states[FIN_WAIT1 as usize] |= entry::TELLS;
    states
};

#[inline(always)]
fn about(state: u8) -> u8 {
    // SAFETY: the index is below 16. Read as it is at run time, as in `Step::new`.
    unsafe { STATES.as_ptr().add(masked::<15>(state.into())).read_volatile() }
}

/// The states of a transition, and what they say about the socket.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) old: u8,
    pub(crate) new: u8,
    kind: u8,
}

impl Step {
    /// Counts states that no kernel has; they are shown by their lowest byte.
    #[inline(always)]
    pub(crate) fn new(old: u32, new: u32, counters: Counters) -> Self {
        if (old | new) > 15 {
            counters.add(Counter::StateOutOfRange, 1);
        }
        let index = masked::<255>(((old & 15) << 4 | new & 15) as usize);
        // SAFETY: the index is below 256. Read as it is at run time, so that no path is made for each value.
        let kind = unsafe { KINDS.as_ptr().add(index).read_volatile() };
        Self { old: old as u8, new: new as u8, kind }
    }

    #[inline(always)]
    pub(crate) fn is_birth(self) -> bool {
        self.kind & kind::BIRTH != 0
    }

    #[inline(always)]
    pub(crate) fn is_child(self) -> bool {
        self.kind & kind::CHILD != 0
    }

    #[inline(always)]
    pub(crate) fn is_listener(self) -> bool {
        self.kind & kind::LISTENER != 0
    }

    #[inline(always)]
    pub(crate) fn is_owners_close(self) -> bool {
        self.kind & kind::OWNERS_CLOSE != 0
    }

    #[inline(always)]
    pub(crate) fn was_closed(self) -> bool {
        self.kind & kind::FROM_CLOSE != 0
    }

    #[inline(always)]
    pub(crate) fn is_close(self) -> bool {
        self.kind & kind::CLOSE != 0
    }

    /// Nothing changed: the kernel sets some states a second time, as at `shutdown` and then `close`.
    #[inline(always)]
    pub(crate) fn stays(self) -> bool {
        self.old == self.new
    }

    /// A `connect` that came to nothing.
    #[inline(always)]
    pub(crate) fn is_failed_connect(self) -> bool {
        self.old == SYN_SENT && self.new == CLOSE
    }

    /// All ones where the socket is, or was, a listener, else 0.
    #[inline(always)]
    pub(crate) fn listener(self) -> u64 {
        bit_everywhere::<2>(self.kind.into())
    }

    /// The side of the connection: told by the states, or remembered.
    #[inline(always)]
    pub(crate) fn role<M: Memory>(self, socket: *const u8, record: Option<&SocketRecord>) -> u8 {
        let told = self.told_role();
        // A closed socket's record is of the connection before.
        let fresh = bit_everywhere::<5>(self.kind.into());
        let remembered = u64::from(record.map_or(role::UNKNOWN, |record| record.role)) & !fresh;
        select(any_bit_everywhere(told), told, remembered) as u8 & !self.restored::<M>(socket)
    }

    #[inline(always)]
    fn told_role(self) -> u64 {
        u64::from(self.kind >> kind::ROLE_SHIFT)
    }

    /// All ones where this `connect` sends no SYN but puts one end of a connection in its place again, whichever it was
    /// (`TCP_REPAIR`, as of CRIU), else 0.
    #[inline(always)]
    fn restored<M: Memory>(self, socket: *const u8) -> u8 {
        if offset!(repair) == ABSENT || self.told_role() != role::CLIENT.into() {
            return 0;
        }
        let bits = M::beyond::<u8>(socket, offset!(repair));
        bit_everywhere::<0>(u64::from(bits) >> (offset!(repair_bit) & 7)) as u8
    }

    /// Adds the time that was spent in the old state.
    #[inline(always)]
    pub(crate) fn add_time(self, record: &mut SocketRecord, duration_ns: u64) {
        let about = about(self.old);
        let place = masked::<{ entry::PLACE as usize }>(about.into());
        let time = duration_ns & bit_everywhere::<{ entry::TIMED_SHIFT }>(about.into());
        // SAFETY: the place is below 8. Without the panic that an index has.
        unsafe { *record.state_ns.as_mut_ptr().add(place) += time };
    }

    /// Remembers both states.
    #[inline(always)]
    pub(crate) fn visit(self, record: &mut SocketRecord) {
        record.visited |= 1 << (self.old & 15) | 1 << (self.new & 15);
    }

    /// Whether the connection tells something on entering the new state that is not to be known later.
    #[inline(always)]
    pub(crate) fn tells(self) -> bool {
        about(self.new) & entry::TELLS != 0
    }

    /// All ones where what it tells is how it was established, else 0.
    #[inline(always)]
    pub(crate) fn opens(self) -> u64 {
        bit_everywhere::<{ entry::OPENS.trailing_zeros() }>(about(self.new).into())
    }

    /// The record's flag for a birth that was not seen, as it stands before the record is asked.
    #[inline(always)]
    pub(crate) fn birth_flag(self) -> u16 {
        u16::from(!self.kind & kind::BIRTH)
    }
}

const _: () = assert!(
    kind::BIRTH as u16 == flag::BIRTH_UNKNOWN && kind::LISTENER == 1 << 2 && kind::FROM_CLOSE == 1 << 5
);
