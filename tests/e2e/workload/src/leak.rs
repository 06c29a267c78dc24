//! `e2e-workload leak`: a program that does not close what its peers have closed.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::log::Entry;

/// How much.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Connections that stay in `CLOSE_WAIT`.
    #[arg(long)]
    count: u64,
}

/// Leaks, and then does nothing until the container is stopped.
pub fn run(options: &Options) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
    let address = listener.local_addr().context("ask for the listener's address")?;
    let mut leaked = Vec::new();
    for _ in 0..options.count {
        let client = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        leaked.push(listener.accept().context("accept")?);
        drop(client);
    }
    Entry::Done { connections: options.count }.print();
    loop {
        thread::sleep(Duration::from_hours(1));
    }
}
