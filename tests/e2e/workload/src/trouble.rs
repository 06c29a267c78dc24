//! `e2e-workload visit|hold|deaf`: programs whose connections go wrong. What becomes of each is not logged: whoever looks
//! for the trouble does not know either.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::net::{AddressFamily, SocketType, bind, listen, socket};

use crate::log::Entry;
use crate::protocol;

/// Between two attempts that failed.
const REST: Duration = Duration::from_millis(200);

/// One connection after the other, closed in good order where that works.
#[derive(Clone, Debug, clap::Args)]
pub struct Visit {
    /// Where to.
    #[arg(long)]
    target: SocketAddr,
    /// Silence in each connection before the client speaks again; with 0 it closes instead.
    #[arg(long, default_value_t = 0)]
    idle_ms: u64,
    /// Rest between one connection and the next.
    #[arg(long, default_value_t = 200)]
    pace_ms: u64,
    /// How long to wait for a connection.
    #[arg(long, default_value_t = 60_000)]
    patience_ms: u64,
}

/// Goes on until the container is stopped.
pub fn visit(options: &Visit) -> Result<()> {
    loop {
        let patience = Duration::from_millis(options.patience_ms);
        if let Ok(stream) = TcpStream::connect_timeout(&options.target, patience) {
            // Why it failed is for others to tell.
            drop(protocol::be_silent_as_client(stream, Duration::from_millis(options.idle_ms)));
        }
        thread::sleep(Duration::from_millis(options.pace_ms));
    }
}

/// Connections that stay open and are not used.
#[derive(Clone, Debug, clap::Args)]
pub struct Hold {
    /// Where to.
    #[arg(long)]
    target: SocketAddr,
    /// How many; what fails is tried again.
    #[arg(long)]
    count: usize,
    /// Rest before the first.
    #[arg(long, default_value_t = 0)]
    sleep_before_ms: u64,
}

/// Holds them until the container is stopped.
pub fn hold(options: &Hold) -> Result<()> {
    thread::sleep(Duration::from_millis(options.sleep_before_ms));
    let mut held = Vec::new();
    loop {
        if held.len() < options.count
            && let Ok(stream) = TcpStream::connect_timeout(&options.target, Duration::from_secs(10))
        {
            held.push(stream);
            continue;
        }
        thread::sleep(REST);
    }
}

/// A listener whose program accepts nothing.
#[derive(Clone, Debug, clap::Args)]
pub struct Deaf {
    /// A port on every address.
    #[arg(long)]
    port: u16,
    /// How many connections may wait.
    #[arg(long)]
    backlog: i32,
}

/// Listens until the container is stopped.
pub fn deaf(options: &Deaf) -> Result<()> {
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).context("make a socket")?;
    let local = SocketAddr::from((Ipv4Addr::UNSPECIFIED, options.port));
    bind(&listener, &local).context("bind it")?;
    listen(&listener, options.backlog).context("listen")?;
    Entry::Listening { local }.print();
    loop {
        thread::sleep(Duration::from_hours(1));
    }
}
