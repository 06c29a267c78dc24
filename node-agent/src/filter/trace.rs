//! What one trace asks, in the form that options of the command line and Kubernetes resources both become.

use std::collections::BTreeSet;
use std::time::Duration;

use kube_tcpstates_common::state::State;

use super::{Cidr, PortRange, TransitionFilter};
use crate::decode::{NetworkType, Role};

/// Which sockets' cgroups a trace takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CgroupChoice {
    /// All, those of host processes and those that cannot be read included.
    #[default]
    Any,
    /// Only those that the cgroup map names for it. Which they are is decided later and changes with the pods.
    Selected,
}

/// What is told of what fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Each transition.
    #[default]
    Transitions,
    /// Each connection, when it ends.
    Connections,
    /// What connections that have ended add up to, now and then.
    Summary,
}

impl Mode {
    /// It is told of connections that have ended, not of transitions.
    pub const fn is_of_connections(self) -> bool {
        matches!(self, Self::Connections | Self::Summary)
    }
}

/// What one trace asks. Every field narrows it, and the default asks for every transition; within a list one match
/// is enough.
///
/// What is not known does not match. What is not known yet is waited for: see
/// [`kube_tcpstates_common::classify::Interest`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceFilter {
    /// What is told. Of [`Mode::Connections`] and [`Mode::Summary`] the rest is asked of the connection: no transitions, and the least time is
    /// from its beginning to its end, which is not judged by the kernel.
    pub mode: Mode,
    /// The sockets' cgroups.
    pub cgroups: CgroupChoice,
    /// Address family after IPv4-mapped became IPv4; `None` is any.
    pub family: Option<NetworkType>,
    /// Side of the connection; `None` is any, and the only choice that takes a socket of unknown role.
    pub role: Option<Role>,
    /// Local ports; empty is any.
    pub local_ports: Vec<PortRange>,
    /// Peer ports; empty is any. A listener has no peer, so its transitions match only if this is empty.
    pub peer_ports: Vec<PortRange>,
    /// Peer addresses; empty is any. Prefixes of one family leave out the peers of the other, and listeners.
    pub peer_cidrs: Vec<Cidr>,
    /// Transitions; empty is any.
    pub transitions: Vec<TransitionFilter>,
    /// Network namespaces by inode number; `None` is any, an empty set is none.
    pub netns: Option<BTreeSet<u32>>,
    /// Least time in the old state. Zero asks for nothing; otherwise an unknown time does not match.
    pub min_duration: Option<Duration>,
}

impl TraceFilter {
    /// The least time in a state that really narrows the trace.
    pub fn minimum(&self) -> Option<Duration> {
        self.min_duration.filter(|minimum| !minimum.is_zero() && self.mode == Mode::Transitions)
    }

    /// Whether it accepts the states of a transition.
    pub fn accepts_states(&self, old: u8, new: u8) -> bool {
        match self.mode {
            Mode::Transitions => {
                self.transitions.is_empty() || self.transitions.iter().any(|wanted| wanted.accepts(old, new))
            }
            Mode::Connections | Mode::Summary => {
                // A listener is none, and a socket that was killed is closed twice.
                let (old, closed) = (State(old), State::CLOSE);
                State(new) == closed && old != closed && old != State::LISTEN
            }
        }
    }

    /// Whether it says something about states.
    pub fn narrows_states(&self) -> bool {
        self.mode.is_of_connections() || !self.transitions.is_empty()
    }
}
