//! Connections, one after the other.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::options::{Ending, Options};
use super::place;

/// Connections to one address before the next one's turn. Each address has all local ports to itself; a search among
/// more than some thousands of taken ports would be what is measured.
const CONNECTIONS_PER_ADDRESS: u32 = 4_000;
const BACKLOG: i32 = 4_096;

/// What one thread makes connections with.
pub(super) struct Lane {
    listener: TcpListener,
    port: u16,
    first: Ipv4Addr,
    addresses: u32,
    made: u32,
    ending: Ending,
}

impl Lane {
    /// A server of its own; addresses of its own come from the port.
    pub(super) fn new(options: &Options, thread: u32) -> Result<Self> {
        let listener = place::in_server_netns(options, listen).with_context(|| format!("thread {thread}"))?;
        let port = listener.local_addr().context("the server's port")?.port();
        let Options { address, addresses, ending, .. } = *options;
        Ok(Self { listener, port, first: address, addresses: addresses.max(1), made: 0, ending })
    }

    /// One connection, from connect to close.
    pub(super) fn connection(&mut self) -> Result<()> {
        let (client, server) = self.open()?;
        match self.ending {
            Ending::Client => {
                drop(client);
                drop(server);
            }
            Ending::Server => {
                drop(server);
                drop(client);
            }
            Ending::Reset => {
                sockopt::set_socket_linger(&client, Some(Duration::ZERO)).context("ask for a reset")?;
                drop(client);
                drop(server);
            }
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(OwnedFd, TcpStream)> {
        let turn = self.made / CONNECTIONS_PER_ADDRESS % self.addresses;
        self.made = self.made.wrapping_add(1);
        let to = SocketAddrV4::new(Ipv4Addr::from_bits(self.first.to_bits() + turn), self.port);
        let client = tcp_socket()?;
        rustix::net::connect(&client, &to).with_context(|| format!("connect to {to}"))?;
        let (server, _) = self.listener.accept().context("accept")?;
        Ok((client, server))
    }
}

/// Connections that stay open.
pub(super) struct Held(Vec<(OwnedFd, TcpStream)>);

impl Held {
    /// Opens them. Two descriptors each.
    pub(super) fn open(options: &Options) -> Result<Self> {
        if options.held == 0 {
            return Ok(Self(Vec::new()));
        }
        let descriptors = u64::from(options.held) * 2 + 1_024;
        let maximum = getrlimit(Resource::Nofile).maximum;
        // Raising the maximum needs a right; most often it is enough.
        let maximum = maximum.map(|maximum| maximum.max(descriptors));
        setrlimit(Resource::Nofile, Rlimit { current: Some(descriptors), maximum })
            .with_context(|| format!("allow {descriptors} descriptors"))?;
        let mut lane = Lane::new(options, 0)?;
        (0..options.held).map(|_| lane.open()).collect::<Result<_>>().map(Self)
    }

    pub(super) fn connections(&self) -> usize {
        self.0.len()
    }
}

fn tcp_socket() -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .context("make a socket")
}

/// On every address: those of 127.0.0.0/8 all lead here.
fn listen() -> Result<TcpListener> {
    let socket = tcp_socket()?;
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    rustix::net::bind(socket.as_fd(), &any).context("bind a server")?;
    rustix::net::listen(&socket, BACKLOG).context("listen")?;
    Ok(TcpListener::from(socket))
}
