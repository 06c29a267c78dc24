//! The states that an open socket can be in.

use std::fmt;

use kube_tcpstates_common::state::State;

/// Those that can be asked for, by the kernel's names. A closed socket is in no table, and what is only being opened is
/// told with its listener.
const ALL: [State; 10] = [
    State::ESTABLISHED,
    State::SYN_SENT,
    State::SYN_RECV,
    State::FIN_WAIT1,
    State::FIN_WAIT2,
    State::TIME_WAIT,
    State::CLOSE_WAIT,
    State::LAST_ACK,
    State::LISTEN,
    State::CLOSING,
];

/// A set of states, a bit for each number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpenStates(u16);

/// No open socket is ever in that state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a state of an open socket; there are {}", OpenStates::ANY)]
pub struct NoSuchState {
    name: String,
}

impl OpenStates {
    /// Every state.
    pub const ANY: Self = Self(u16::MAX);

    /// Those of these names, in either case; of none of them, every state.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, NoSuchState> {
        let mut bits = 0;
        for name in names {
            let is_it = |state: &State| state.name().is_some_and(|known| known.eq_ignore_ascii_case(name));
            let state = ALL.into_iter().find(is_it).ok_or_else(|| NoSuchState { name: name.to_owned() })?;
            bits |= 1 << state.0;
        }
        Ok(if bits == 0 { Self::ANY } else { Self(bits) })
    }

    /// Whether the state is in it.
    pub const fn contains(self, state: State) -> bool {
        state.0 < 16 && self.0 & (1 << state.0) != 0
    }

    /// Whether what is in that state is worth a close look, for whoever asks for these. Whose a namespace is, where what is
    /// in `TIME_WAIT` is counted, shows by all its sockets.
    pub const fn look_at(self, state: State) -> bool {
        self.contains(state) || self.contains(State::TIME_WAIT)
    }

    /// With those of another set.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for OpenStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ALL.into_iter().filter(|state| self.contains(*state)).filter_map(State::name);
        f.write_str(&names.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use kube_tcpstates_common::state::State;

    use super::OpenStates;

    #[test]
    fn states_are_named_as_the_kernel_names_them_in_either_case() {
        let states = OpenStates::named(["CLOSE_WAIT", "last_ack"]).unwrap();
        assert_eq!(states.to_string(), "CLOSE_WAIT, LAST_ACK");
        assert!(states.contains(State::CLOSE_WAIT) && !states.contains(State::ESTABLISHED));
        assert_eq!(OpenStates::named([]), Ok(OpenStates::ANY));
        assert!(!OpenStates::ANY.contains(State(16)));
    }

    #[test]
    fn what_no_open_socket_is_in_is_refused_with_what_there_is() {
        for name in ["CLOSED", "CLOSE", "NEW_SYN_RECV", ""] {
            let refused = OpenStates::named(["LISTEN", name]).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("{name:?} is not a state of an open socket")), "{refused}");
            assert!(refused.ends_with("CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING"), "{refused}");
        }
    }
}
