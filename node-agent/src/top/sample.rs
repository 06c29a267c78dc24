//! What a look has brought.

use std::{net::IpAddr, sync::Arc};

use kube_tcpstates_common::state::State;
use kube_tcpstates_events::Role;

use crate::summary::Sums;

/// Stands for an owner of whom nothing is known.
pub const NOBODY: &str = "-";

/// Connections that have ended, of one owner, other end, port and side.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Whose they were.
    pub owner: Arc<str>,
    /// The other end.
    pub peer: Option<IpAddr>,
    /// The server's port; 0 where the side is not known.
    pub port: u16,
    /// The side.
    pub role: Option<Role>,
    /// What they add up to.
    pub sums: Sums,
}

/// An open connection.
#[derive(Clone, Debug)]
pub struct Open {
    /// Whose it is.
    pub owner: Arc<str>,
    /// The other end.
    pub peer: Option<IpAddr>,
    /// The ports of this end and of the other.
    pub ports: (u16, u16),
    /// The side; not known of what its program has closed and the kernel keeps for a while.
    pub role: Option<Role>,
    /// Its state.
    pub state: State,
}

/// Everything since the look before.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Since when, ns; 0 for the first look, which knows nothing of what has ended.
    pub span_ns: u64,
    /// What has ended meanwhile.
    pub ended: Vec<Ended>,
    /// What is open; `None` where that cannot be told.
    pub open: Option<Vec<Open>>,
    /// Transitions seen in the whole run.
    pub seen: u64,
    /// Those lost.
    pub lost: u64,
}
