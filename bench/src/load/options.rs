//! What the load is made of.

use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Who ends a connection, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Ending {
    /// FIN from the client, then from the server.
    Client,
    /// FIN from the server, then from the client.
    Server,
    /// RST from the client.
    Reset,
}

impl Ending {
    /// Transitions of both ends, from birth to CLOSE. By FIN: to `SYN_SENT`, ESTABLISHED, `FIN_WAIT1`, `FIN_WAIT2`,
    /// CLOSE here and `SYN_RECV`, ESTABLISHED, `CLOSE_WAIT`, `LAST_ACK`, CLOSE there. By RST: three and three.
    pub const fn transitions(self) -> u64 {
        match self {
            Self::Client | Self::Server => 10,
            Self::Reset => 6,
        }
    }
}

/// Traffic for the benchmarks.
#[derive(Clone, Debug, clap::Parser)]
pub struct Options {
    /// Address of the servers, and the first that clients connect to.
    #[arg(long, default_value_t = Ipv4Addr::new(127, 0, 0, 1))]
    pub address: Ipv4Addr,
    /// Addresses from there on that lead to the servers, taken in turn.
    #[arg(long, default_value_t = 32_768)]
    pub addresses: u32,
    /// Threads; each has a server of its own.
    #[arg(long, default_value_t = 1)]
    pub threads: u32,
    /// Who ends a connection.
    #[arg(long, value_enum, default_value = "client")]
    pub ending: Ending,
    /// Connections a second, for all threads together; as fast as it goes by default.
    #[arg(long)]
    pub rate: Option<u32>,
    /// Connections that are opened first and stay open.
    #[arg(long, default_value_t = 0)]
    pub held: u32,
    /// Folder of the cgroup to run in.
    #[arg(long)]
    pub cgroup: Option<PathBuf>,
    /// Network namespace of the clients, as `ip netns` knows it.
    #[arg(long)]
    pub client_netns: Option<String>,
    /// Network namespace of the servers.
    #[arg(long)]
    pub server_netns: Option<String>,
    /// CPU to run on.
    #[arg(long)]
    pub cpu: Option<usize>,
}

#[cfg(test)]
impl Options {
    /// The defaults.
    pub(crate) fn loopback() -> Self {
        clap::Parser::parse_from(["tcp-load"])
    }
}
