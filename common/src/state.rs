//! TCP states by the numbers the kernel gives them (`include/net/tcp_states.h`, unchanged since 4.4).

/// A TCP state as the kernel numbers it. Any number is representable; the ones without a name print as the number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct State(pub u8);

impl State {
    /// The connection is open.
    pub const ESTABLISHED: Self = Self(1);
    /// A client's SYN is out.
    pub const SYN_SENT: Self = Self(2);
    /// A server's child socket exists, the handshake's last ACK is being handled.
    pub const SYN_RECV: Self = Self(3);
    /// This side closed first.
    pub const FIN_WAIT1: Self = Self(4);
    /// This side's FIN is acknowledged.
    pub const FIN_WAIT2: Self = Self(5);
    /// Never a new state of a full socket: the kernel moves to a small timewait socket and reports CLOSE.
    pub const TIME_WAIT: Self = Self(6);
    /// Closed, or not yet open.
    pub const CLOSE: Self = Self(7);
    /// The peer closed first.
    pub const CLOSE_WAIT: Self = Self(8);
    /// This side's FIN answers the peer's.
    pub const LAST_ACK: Self = Self(9);
    /// Listening.
    pub const LISTEN: Self = Self(10);
    /// Both sides closed at once.
    pub const CLOSING: Self = Self(11);
    /// Never a state of a full socket: request sockets only.
    pub const NEW_SYN_RECV: Self = Self(12);

    /// Kernel name, or `None` for a number this table does not know.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            1 => "ESTABLISHED",
            2 => "SYN_SENT",
            3 => "SYN_RECV",
            4 => "FIN_WAIT1",
            5 => "FIN_WAIT2",
            6 => "TIME_WAIT",
            7 => "CLOSE",
            8 => "CLOSE_WAIT",
            9 => "LAST_ACK",
            10 => "LISTEN",
            11 => "CLOSING",
            12 => "NEW_SYN_RECV",
            _ => return None,
        })
    }

    /// States in which a connection spends time, by the place of each in [`crate::record::Figures::state_ns`].
    pub const TIMED: [Self; crate::record::TIMED_STATES] = [
        Self::SYN_SENT,
        Self::SYN_RECV,
        Self::ESTABLISHED,
        Self::FIN_WAIT1,
        Self::FIN_WAIT2,
        Self::CLOSE_WAIT,
        Self::CLOSING,
        Self::LAST_ACK,
    ];

    /// Every named state, in the kernel's order.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=12).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::State;

    #[test]
    fn every_state_of_the_kernel_has_a_name_and_no_other_number_does() {
        assert_eq!(State::all().filter_map(State::name).count(), 12);
        assert_eq!(State(0).name(), None);
        assert_eq!(State(13).name(), None);
    }
}
