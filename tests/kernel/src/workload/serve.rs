//! A server for connections in bulk.

use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::churn::await_fin;
use super::{Ending, Ends, Report};

/// What to serve.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Addresses to listen on; port 0 lets the kernel choose.
    #[arg(long = "listen", required = true)]
    listen: Vec<SocketAddr>,
    /// Listen with `SO_REUSEPORT`, beside other processes on the same address.
    #[arg(long)]
    reuse_port: bool,
    /// Who ends a connection.
    #[arg(long, value_enum, default_value = "client-first")]
    ending: Ending,
    /// Ends by itself after so many seconds, also when its test was killed.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Keep every connection's ends for the report.
    #[arg(long)]
    list: bool,
}

/// What the accepting threads and the reporting one share.
struct Tally {
    connections: AtomicU64,
    failures: AtomicU64,
    ends: Mutex<Vec<Ends>>,
    options: Options,
}

/// Listens, writes one line with the listeners' addresses, then answers every line on stdin with a [`Report`]
/// until stdin ends.
pub fn run(options: Options) -> io::Result<()> {
    let seconds = options.seconds;
    let listeners: Vec<TcpListener> =
        options.listen.iter().map(|at| listen(*at, options.reuse_port)).collect::<Result<_, _>>()?;
    let addresses: Vec<SocketAddr> =
        listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    let (connections, failures, ends) = Default::default();
    let tally = Arc::new(Tally { connections, failures, ends, options });
    for listener in listeners {
        let tally = Arc::clone(&tally);
        thread::spawn(move || accept_for_ever(&listener, &tally));
    }
    thread::spawn(move || {
        thread::sleep(Duration::from_secs(seconds));
        std::process::exit(3);
    });
    println!("{}", serde_json::to_string(&addresses)?);
    for line in io::stdin().lock().lines() {
        line?;
        report(&tally).print();
    }
    Ok(())
}

fn listen(at: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, reuse_port)?;
    net::bind(&socket, &at)?;
    net::listen(&socket, 4096)?;
    Ok(socket.into())
}

fn report(tally: &Tally) -> Report {
    Report {
        connections: tally.connections.load(Ordering::SeqCst),
        failures: tally.failures.load(Ordering::SeqCst),
        ends: tally.ends.lock().expect("no thread panicked").clone(),
        ..Report::of_this_process()
    }
}

fn accept_for_ever(listener: &TcpListener, tally: &Tally) {
    loop {
        let carried = listener.accept().and_then(|(stream, peer)| answer(stream, peer, tally));
        let count = if carried.is_ok() { &tally.connections } else { &tally.failures };
        count.fetch_add(1, Ordering::SeqCst);
    }
}

/// One connection from accept to close.
fn answer(mut stream: TcpStream, peer: SocketAddr, tally: &Tally) -> io::Result<()> {
    if tally.options.list {
        let ends = Ends { local: stream.local_addr()?, peer: Some(peer) };
        tally.ends.lock().expect("no thread panicked").push(ends);
    }
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    match tally.options.ending {
        Ending::ServerFirst => Ok(()),
        Ending::ClientFirst => await_fin(&mut stream),
        Ending::Reset => {
            // Lets the client go on: without waiting for its server it would overrun the accept queue.
            stream.write_all(b"x")?;
            match stream.read(&mut [0; 64]) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
                other => Err(io::Error::other(format!("a RST was due, not {other:?}"))),
            }
        }
    }
}
