//! A server for connections in bulk.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::churn::await_fin;
use super::puppet::MPTCP;
use super::{Ending, Ends, Report};

/// What to serve.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub struct Options {
    /// Addresses to listen on; port 0 lets the kernel choose.
    #[arg(long = "listen", required = true)]
    listen: Vec<SocketAddr>,
    /// Listen with `SO_REUSEPORT`, beside other processes on the same address.
    #[arg(long)]
    reuse_port: bool,
    /// Listen with a socket of MPTCP.
    #[arg(long)]
    mptcp: bool,
    /// Leave the listener to another process, and end.
    #[arg(long)]
    daemon: bool,
    /// The listener is there as stdin, and what would be on stdin comes from stderr.
    #[arg(long, hide = true)]
    succeeds: bool,
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
    let listeners: Vec<TcpListener> = if options.succeeds {
        vec![io::stdin().as_fd().try_clone_to_owned()?.into()]
    } else {
        options.listen.iter().map(|at| listen(*at, &options)).collect::<Result<_, _>>()?
    };
    if options.daemon {
        return succeed(listeners);
    }
    let questions: Box<dyn Read> = if options.succeeds {
        Box::new(File::from(io::stderr().as_fd().try_clone_to_owned()?))
    } else {
        Box::new(io::stdin())
    };
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
    for line in BufReader::new(questions).lines() {
        line?;
        report(&tally).print();
    }
    Ok(())
}

/// Starts this program anew with the listener, and leaves it behind.
fn succeed(listeners: Vec<TcpListener>) -> io::Result<()> {
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--daemon");
    let listener = listeners.into_iter().next().ok_or(io::ErrorKind::InvalidInput)?;
    Command::new(std::env::current_exe()?)
        .args(arguments)
        .arg("--succeeds")
        .stdin(OwnedFd::from(listener))
        .stderr(io::stdin().as_fd().try_clone_to_owned()?)
        .spawn()
        .map(drop)
}

fn listen(at: SocketAddr, options: &Options) -> io::Result<TcpListener> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let protocol = options.mptcp.then_some(MPTCP);
    let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, protocol)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, options.reuse_port)?;
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
