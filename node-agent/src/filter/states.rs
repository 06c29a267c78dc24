//! Sets of TCP states, and the transitions a trace asks for.

use std::fmt;
use std::str::FromStr;

use kube_tcpstates_common::state::State;

use super::error::{FilterError, Reason, list};

/// A set of states, a bit for each number below 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StateSet(u16);

impl StateSet {
    /// Every state, the numbers without a name included.
    pub const ANY: Self = Self(u16::MAX);

    /// The named states; of none of them, [`Self::ANY`]. States that no transition shows are refused.
    pub fn of(states: impl IntoIterator<Item = State>) -> Result<Self, Reason> {
        let mut bits = 0;
        for state in states {
            match state {
                State::TIME_WAIT => {
                    return Err(Reason::NeverSeen(
                        "TIME_WAIT",
                        "the kernel hands the connection to a timewait socket and moves this one to CLOSE",
                    ));
                }
                State::NEW_SYN_RECV => {
                    return Err(Reason::NeverSeen(
                        "NEW_SYN_RECV",
                        "only a request socket has it, before there is a socket to trace",
                    ));
                }
                _ if state.name().is_some() => bits |= 1 << state.0,
                State(number) => return Err(Reason::UnknownState(number.to_string())),
            }
        }
        Ok(if bits == 0 { Self::ANY } else { Self(bits) })
    }

    /// Whether the state is in it. No number from 16 up is, not even in [`Self::ANY`].
    pub const fn contains(self, state: u8) -> bool {
        state < 16 && self.0 & (1 << state) != 0
    }
}

impl FromStr for StateSet {
    type Err = Reason;

    /// `*` or nothing for any, else names joined by `|`, in either case.
    fn from_str(text: &str) -> Result<Self, Reason> {
        let text = text.trim();
        if text.is_empty() || text == "*" {
            return Ok(Self::ANY);
        }
        let states: Result<Vec<State>, Reason> = text.split('|').map(|name| state(name.trim())).collect();
        Self::of(states?)
    }
}

/// A state by its kernel name.
fn state(name: &str) -> Result<State, Reason> {
    State::all()
        .find(|state| state.name().is_some_and(|known| known.eq_ignore_ascii_case(name)))
        .ok_or_else(|| Reason::UnknownState(name.to_owned()))
}

impl fmt::Display for StateSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ANY {
            return f.write_str("*");
        }
        let mut separator = "";
        for name in State::all().filter(|state| self.contains(state.0)).filter_map(State::name) {
            write!(f, "{separator}{name}")?;
            separator = "|";
        }
        Ok(())
    }
}

/// Transitions from one of a set of states to one of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransitionFilter {
    from: StateSet,
    to: StateSet,
}

impl TransitionFilter {
    /// Refused when both sides are any: that asks for nothing, and its writer meant something.
    pub fn new(from: StateSet, to: StateSet) -> Result<Self, Reason> {
        if from == StateSet::ANY && to == StateSet::ANY {
            return Err(Reason::AnyToAny);
        }
        Ok(Self { from, to })
    }

    /// States left.
    pub const fn from(self) -> StateSet {
        self.from
    }

    /// States entered.
    pub const fn to(self) -> StateSet {
        self.to
    }

    /// Whether nothing that changes a state can be accepted: both sides are one and the same.
    pub const fn is_of_one_state(self) -> bool {
        self.from.0 == self.to.0 && self.from.0.is_power_of_two()
    }

    /// Whether it accepts the transition. A state from 16 up is accepted by no trace that asks for transitions.
    pub const fn accepts(self, old_state: u8, new_state: u8) -> bool {
        self.from.contains(old_state) && self.to.contains(new_state)
    }
}

impl FromStr for TransitionFilter {
    type Err = Reason;

    /// `OLD>NEW`, `OLD->NEW`, or `OLD:NEW`, which a shell leaves alone.
    fn from_str(text: &str) -> Result<Self, Reason> {
        let sides = text.split_once("->").or_else(|| text.split_once('>')).or_else(|| text.split_once(':'));
        let (from, to) = sides.ok_or(Reason::Transition)?;
        if to.contains(['>', ':']) || from.contains(':') {
            return Err(Reason::Transition);
        }
        Self::new(from.parse()?, to.parse()?)
    }
}

impl fmt::Display for TransitionFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}>{}", self.from, self.to)
    }
}

/// Reads a comma-separated list of transitions.
pub fn parse_transitions(field: &str, text: &str) -> Result<Vec<TransitionFilter>, FilterError> {
    list(field, text, str::parse)
}

#[cfg(test)]
mod tests {
    use super::{Reason, State, StateSet, TransitionFilter, parse_transitions};

    #[test]
    fn the_forms_of_a_transition_mean_the_same() {
        let wanted = TransitionFilter::new(
            StateSet::of([State::SYN_SENT]).unwrap(),
            StateSet::of([State::CLOSE]).unwrap(),
        )
        .unwrap();
        for text in ["SYN_SENT>CLOSE", "SYN_SENT->CLOSE", "SYN_SENT -> CLOSE", "syn_sent:close"] {
            assert_eq!(parse_transitions("f", text), Ok(vec![wanted]), "{text}");
        }
    }

    #[test]
    fn an_empty_or_starred_side_is_any_and_states_join() {
        for (text, shown) in [
            ("*>CLOSE", "*>CLOSE"),
            (">CLOSE", "*>CLOSE"),
            ("LISTEN:*", "LISTEN>*"),
            ("SYN_SENT|SYN_RECV>CLOSE", "SYN_SENT|SYN_RECV>CLOSE"),
        ] {
            let [read] = parse_transitions("f", text).unwrap()[..] else { panic!("{text}") };
            assert_eq!(read.to_string(), shown);
        }
        let any_to_close: TransitionFilter = "*>CLOSE".parse().unwrap();
        assert!(any_to_close.accepts(13, 7) && !any_to_close.accepts(1, 4));
        assert!(!any_to_close.accepts(16, 7) && !any_to_close.accepts(255, 7));
    }

    #[test]
    fn one_state_on_both_sides_is_no_transition() {
        for (text, is_of_one) in [
            ("CLOSE:CLOSE", true),
            ("close|CLOSE:CLOSE", true),
            ("*:CLOSE", false),
            ("CLOSE|LISTEN:CLOSE", false),
            ("CLOSE|LISTEN:CLOSE|LISTEN", false),
        ] {
            assert_eq!(text.parse::<TransitionFilter>().unwrap().is_of_one_state(), is_of_one, "{text}");
        }
    }

    #[test]
    fn a_bad_transition_is_refused_with_its_field_and_value() {
        for (text, reason) in [
            ("CLOSE", Reason::Transition),
            ("A>B>C", Reason::Transition),
            ("A:B:C", Reason::Transition),
            ("*>*", Reason::AnyToAny),
            (":", Reason::AnyToAny),
            ("CLOSED>*", Reason::UnknownState("CLOSED".into())),
            ("SYN_SENT|>*", Reason::UnknownState(String::new())),
        ] {
            assert_eq!(parse_transitions("f", text), Err(reason.of("f", text)), "{text:?}");
        }
        for text in ["*>TIME_WAIT", "TIME_WAIT>CLOSE", "NEW_SYN_RECV>*", "*>CLOSE|NEW_SYN_RECV"] {
            let error = parse_transitions("spec.transitions", text).unwrap_err();
            assert!(matches!(error.reason, Reason::NeverSeen(..)), "{text}");
            assert!(error.to_string().contains("never appears in a transition: "), "{error}");
        }
    }
}
