//! Clients in bulk: bounded in count and in time.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use super::enter::enter;
use super::puppet::new_socket;
use super::{Ending, Ends, Report};

/// What to connect to, how often, and how it ends.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Servers, taken in turn.
    #[arg(long = "to", required = true)]
    to: Vec<SocketAddr>,
    /// Count the last two bytes of an IPv4 destination up, so many addresses in turn: each has all local
    /// ports to itself. For a server that listens on every address of 127.0.0.0/8.
    #[arg(long, default_value_t = 1)]
    spread: u16,
    /// Bind to this address before connecting, so that the local port is known at `SYN_SENT`.
    #[arg(long)]
    source: Option<IpAddr>,
    /// Connections in total.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Threads that share them.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Stops after so many seconds, however few were made.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Connect from within this network namespace, by threads that enter it; the process stays where it is.
    #[arg(long)]
    thread_netns: Option<String>,
    /// Pause of each thread after a connection.
    #[arg(long, default_value_t = 0)]
    pause_ms: u64,
    /// Who ends a connection.
    #[arg(long, value_enum, default_value = "client-first")]
    ending: Ending,
    /// Put every connection's ends into the report.
    #[arg(long)]
    list: bool,
}

/// What the threads share.
#[derive(Default)]
struct Tally {
    begun: AtomicU64,
    connections: AtomicU64,
    failures: AtomicU64,
    ends: Mutex<Vec<Ends>>,
}

/// Makes the connections and prints a [`Report`].
pub fn run(options: &Options) {
    let tally = Tally::default();
    let start = Instant::now();
    let deadline = start + Duration::from_secs(options.seconds);
    if options.threads == 1 && options.thread_netns.is_none() {
        connect_until(options, &tally, deadline);
    } else {
        thread::scope(|scope| {
            for _ in 0..options.threads {
                scope.spawn(|| {
                    enter(None, options.thread_netns.as_deref()).expect("enter the thread's namespace");
                    connect_until(options, &tally, deadline);
                });
            }
        });
    }
    let report = Report {
        connections: tally.connections.into_inner(),
        failures: tally.failures.into_inner(),
        micros: u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
        ends: tally.ends.into_inner().expect("no thread panicked"),
        ..Report::of_this_process()
    };
    report.print();
}

fn connect_until(options: &Options, tally: &Tally, deadline: Instant) {
    while Instant::now() < deadline {
        let turn = tally.begun.fetch_add(1, Ordering::Relaxed);
        if turn >= options.count {
            return;
        }
        match connect_once(options, turn) {
            Ok(ends) => {
                tally.connections.fetch_add(1, Ordering::Relaxed);
                if options.list {
                    tally.ends.lock().expect("no thread panicked").push(ends);
                }
            }
            Err(_) => {
                tally.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
        if options.pause_ms > 0 {
            thread::sleep(Duration::from_millis(options.pause_ms));
        }
    }
}

/// One connection from connect to close. The client waits for the server's FIN, so that no more connections
/// are open at any time than there are threads.
fn connect_once(options: &Options, turn: u64) -> io::Result<Ends> {
    let to = destination(options, turn);
    let socket = new_socket(to)?;
    if let Some(source) = options.source {
        sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
    }
    rustix::net::connect(&socket, &to)?;
    let mut stream = TcpStream::from(socket);
    let ends = Ends { local: stream.local_addr()?, peer: Some(to) };
    match options.ending {
        Ending::ClientFirst => {
            stream.shutdown(Shutdown::Write)?;
            await_fin(&mut stream)?;
        }
        Ending::ServerFirst => await_fin(&mut stream)?,
        Ending::Reset => {
            stream.read_exact(&mut [0; 1])?;
            sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        }
    }
    Ok(ends)
}

/// Reads until the other side's FIN; it sends nothing before.
pub(super) fn await_fin(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0; 64])? {
        0 => Ok(()),
        bytes => Err(io::Error::other(format!("{bytes} bytes that nobody should have sent"))),
    }
}

/// The server whose turn it is.
fn destination(options: &Options, turn: u64) -> SocketAddr {
    let places = u64::try_from(options.to.len()).expect("a list is shorter than 2^64");
    let index = usize::try_from(turn % places).expect("an index fits");
    let mut to = options.to[index];
    if let IpAddr::V4(address) = to.ip() {
        let step = u32::try_from((turn / places) % u64::from(options.spread.max(1))).expect("below 65536");
        to.set_ip(Ipv4Addr::from_bits(address.to_bits() + step).into());
    }
    to
}
