//! `e2e-workload server`: accepts on several ports and lets each client say how its connection ends.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::log::{Connection, End, Entry, now_us};
use crate::protocol;

/// Where to listen.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// A port to accept on, on every address.
    #[arg(long = "port", required = true)]
    ports: Vec<u16>,
    /// Thinks for so long before it serves a connection.
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
}

/// Serves until the container is stopped.
pub fn run(options: &Options) -> Result<()> {
    let delay = Duration::from_millis(options.delay_ms);
    let mut acceptors = Vec::new();
    for port in &options.ports {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port));
        let listener = TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
        Entry::Listening { local: listener.local_addr().context("ask for the listener's address")? }.print();
        acceptors.push(thread::spawn(move || accept_for_ever(&listener, delay)));
    }
    for acceptor in acceptors {
        // It ends by a panic alone, which has been printed.
        drop(acceptor.join());
    }
    Ok(())
}

fn accept_for_ever(listener: &TcpListener, delay: Duration) {
    loop {
        match listener.accept() {
            Ok((stream, peer)) => drop(thread::spawn(move || serve(stream, peer, delay).print())),
            Err(error) => Entry::Failed { reason: format!("accept: {error}") }.print(),
        }
    }
}

fn serve(stream: TcpStream, peer: SocketAddr, delay: Duration) -> Entry {
    let opened_us = now_us();
    thread::sleep(delay);
    let outcome = stream.local_addr().and_then(|local| Ok((local, protocol::end_as_server(stream)?)));
    match outcome {
        Ok((local, ending)) => Entry::Connection(Connection {
            end: End::Server,
            local,
            peer,
            ending,
            opened_us,
            closed_us: now_us(),
        }),
        Err(error) => Entry::Failed { reason: format!("serve {peer}: {error}") },
    }
}
