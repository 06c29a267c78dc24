//! The insides of `tcp-workload`, and the types in which it tells the harness what it did.
//!
//! It is a program of its own, not threads of the test, because what the tests are about (cgroup, network
//! namespace, thread name, process id) belongs to processes.

pub mod churn;
pub mod enter;
mod handover;
pub mod puppet;
pub mod serve;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The two ends of a socket as its own process sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ends {
    /// `getsockname`.
    pub local: SocketAddr,
    /// `getpeername`; nothing for a listener and a socket that is not connected.
    pub peer: Option<SocketAddr>,
}

/// Who ends a connection, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The client sends the first FIN: 5 transitions on each side.
    ClientFirst,
    /// The server sends the first FIN: 5 transitions on each side.
    ServerFirst,
    /// The client sends a RST: 3 transitions on each side.
    Reset,
}

impl Ending {
    /// Transitions that one connection makes, client and server together.
    pub fn transitions(self) -> u64 {
        match self {
            Self::ClientFirst | Self::ServerFirst => 10,
            Self::Reset => 6,
        }
    }

    /// The argument that stands for it.
    pub fn as_arg(self) -> &'static str {
        match self {
            Self::ClientFirst => "client-first",
            Self::ServerFirst => "server-first",
            Self::Reset => "reset",
        }
    }
}

/// What a bulk workload tells when it is done, and a server also when asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// cgroup2 path from the mount's root, read by the process that called `socket()`.
    pub cgroup: String,
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Connections carried to their end.
    pub connections: u64,
    /// Connections that failed.
    pub failures: u64,
    /// From the first connection to the last.
    pub micros: u64,
    /// Every connection, when asked for.
    pub ends: Vec<Ends>,
}

impl Report {
    /// A report of nothing yet, by this process.
    pub fn of_this_process() -> Self {
        Self { cgroup: own_cgroup(), pid: std::process::id(), ..Self::default() }
    }

    /// Writes it as one line on stdout.
    pub fn print(&self) {
        println!("{}", serde_json::to_string(self).expect("a report serialises"));
    }
}

/// The path of this process on the cgroup2 hierarchy, from `/proc/self/cgroup`.
pub fn own_cgroup() -> String {
    let text = std::fs::read_to_string("/proc/self/cgroup").expect("read /proc/self/cgroup");
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    path.expect("/proc/self/cgroup has no cgroup2 line").to_owned()
}
