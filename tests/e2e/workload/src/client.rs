//! `e2e-workload client`: makes connections, one after the other, each to the next target with the next ending.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::net::{AddressFamily, SocketType, bind, connect, getsockname, socket};

use crate::log::{Connection, End, Ending, Entry, now_us};
use crate::protocol;

/// What to connect to, how often, and how to end.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// A server's address and port; several are taken in turn.
    #[arg(long = "target", required = true)]
    targets: Vec<SocketAddr>,
    /// How a connection ends; several are taken in turn, each with every target.
    #[arg(long = "ending", value_enum, default_value = "client-close")]
    endings: Vec<Ending>,
    /// How many connections; without it there is no end.
    #[arg(long)]
    count: Option<u64>,
    /// End before, when a datagram comes to this port.
    #[arg(long)]
    stop_port: Option<u16>,
    /// Rest between one connection and the next.
    #[arg(long, default_value_t = 0)]
    pace_ms: u64,
    /// Rest before the first connection.
    #[arg(long, default_value_t = 0)]
    sleep_before_ms: u64,
    /// Rest in each connection, between its beginning and its end.
    #[arg(long, default_value_t = 0)]
    hold_ms: u64,
    /// Rest after the last, before the process ends.
    #[arg(long, default_value_t = 0)]
    sleep_after_ms: u64,
    /// Try for so long until the first target accepts. Each attempt that is refused is a connection of the log.
    #[arg(long)]
    wait_ms: Option<u64>,
    /// The port that the targets do not listen on, for the ending `refused`.
    #[arg(long, default_value_t = 9)]
    closed_port: u16,
}

/// Makes the connections and logs each.
pub fn run(options: &Options) -> Result<()> {
    thread::sleep(Duration::from_millis(options.sleep_before_ms));
    let mut made = await_server(options)?;
    let plan = plan(options);
    let stop = options.stop_port.map(stop_socket).transpose()?;
    for (target, ending) in plan.iter().cycle() {
        let is_told = stop.as_ref().is_some_and(|stop| stop.recv(&mut [0]).is_ok());
        if is_told || options.count.is_some_and(|count| made >= count) {
            break;
        }
        attempt(*target, *ending, Duration::from_millis(options.hold_ms)).print();
        made += 1;
        thread::sleep(Duration::from_millis(options.pace_ms));
    }
    Entry::Done { connections: made }.print();
    thread::sleep(Duration::from_millis(options.sleep_after_ms));
    Ok(())
}

fn stop_socket(port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Every target with every ending.
fn plan(options: &Options) -> Vec<(SocketAddr, Ending)> {
    let mut plan = Vec::new();
    for ending in &options.endings {
        for target in &options.targets {
            let port = if *ending == Ending::Refused { options.closed_port } else { target.port() };
            plan.push((SocketAddr::new(target.ip(), port), *ending));
        }
    }
    plan
}

/// How many attempts were made until the first target accepted one.
fn await_server(options: &Options) -> Result<u64> {
    let (Some(wait), Some(target)) = (options.wait_ms, options.targets.first()) else { return Ok(0) };
    let deadline = Instant::now() + Duration::from_millis(wait);
    let mut made = 0;
    loop {
        let outcome = carry(*target, Ending::ClientClose, Port::ChosenBefore, Duration::ZERO);
        let accepted = outcome.as_ref().is_ok_and(|connection| connection.ending != Ending::Refused);
        entry(*target, Ending::ClientClose, outcome).print();
        made += 1;
        if accepted {
            return Ok(made);
        }
        if Instant::now() > deadline {
            bail!("{target} accepted nothing within {wait} ms");
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn attempt(target: SocketAddr, ending: Ending, hold: Duration) -> Entry {
    let port = if ending == Ending::Refused { Port::ChosenBefore } else { Port::ChosenByConnect };
    let outcome = carry(target, ending, port, hold).and_then(|connection| match connection.ending {
        ended if ended == ending => Ok(connection),
        other => Err(io::Error::other(format!("it ended {other:?}"))),
    });
    entry(target, ending, outcome)
}

fn entry(target: SocketAddr, ending: Ending, outcome: io::Result<Connection>) -> Entry {
    match outcome {
        Ok(connection) => Entry::Connection(connection),
        Err(error) => Entry::Failed { reason: format!("connect to {target} for {ending:?}: {error}") },
    }
}

/// When the local port is chosen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    /// By `bind`: the kernel forgets the port that `connect` chose when it is refused.
    ChosenBefore,
    /// As usual.
    ChosenByConnect,
}

/// One connection from birth to end; `ending` is how, if it is accepted at all.
fn carry(target: SocketAddr, ending: Ending, port: Port, hold: Duration) -> io::Result<Connection> {
    let opened_us = now_us();
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None)?;
    if port == Port::ChosenBefore {
        bind(&socket, &SocketAddr::new(address_towards(target)?, 0))?;
    }
    // Asked for before: a refused socket has lost its address.
    let bound = SocketAddr::try_from(getsockname(&socket)?)?;
    let (local, ending) = match connect(&socket, &target).map_err(io::Error::from) {
        Ok(()) => {
            let local = SocketAddr::try_from(getsockname(&socket)?)?;
            thread::sleep(hold);
            protocol::end_as_client(TcpStream::from(socket), ending)?;
            (local, ending)
        }
        Err(error) if port == Port::ChosenBefore && error.kind() == ErrorKind::ConnectionRefused => {
            drop(socket);
            (bound, Ending::Refused)
        }
        Err(error) => return Err(error),
    };
    Ok(Connection { end: End::Client, local, peer: target, ending, opened_us, closed_us: now_us() })
}

/// The address the kernel would send from. Sends nothing.
fn address_towards(target: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if target.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}
