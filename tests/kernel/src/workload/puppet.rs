//! A process that makes one socket call at a time, as told over its stdin: so that a test decides the order
//! of calls on both sides of a connection.

use std::collections::HashMap;
use std::ffi::CString;
use std::io::{self, BufRead, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{self, AddressFamily, Protocol, RawProtocol, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::handover::{self, Mailbox};
use super::{Ends, own_cgroup};

/// No call waits longer than this; a test that needs more is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// `IPPROTO_MPTCP` (5.6).
pub(super) const MPTCP: Protocol = Protocol::from_raw(RawProtocol::new(262).expect("it is not 0"));

/// One thing to do. Sockets go by names that the test chooses.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// Gives the calling thread a name, in hex because it may be any bytes.
    Rename {
        /// Up to 15 bytes, two digits each, none of them 00.
        hex: String,
    },
    /// `socket` and `bind`, with `SO_REUSEADDR`.
    Bind {
        /// New socket.
        socket: String,
        /// Port 0 lets the kernel choose.
        at: SocketAddr,
    },
    /// The same with a socket of MPTCP, as Go's `net.Listen` makes them.
    BindMptcp {
        /// New socket.
        socket: String,
        /// Port 0 lets the kernel choose.
        at: SocketAddr,
    },
    /// `listen` on a socket.
    Listen {
        /// Bound socket, or one that was disconnected.
        socket: String,
        /// How many connections may wait to be accepted.
        backlog: i32,
    },
    /// `socket` and `listen`, without `bind`: the kernel chooses the port, on every address.
    ListenUnbound {
        /// New socket.
        socket: String,
        /// Of the family of this address.
        like: SocketAddr,
    },
    /// `connect` to `AF_UNSPEC`: the connection ends, the socket stays.
    Disconnect {
        /// Connected socket.
        socket: String,
    },
    /// `connect`, on a bound socket or a new one.
    Connect {
        /// Bound or new socket.
        socket: String,
        /// Where to.
        to: SocketAddr,
    },
    /// `connect` without waiting for its end.
    BeginConnect {
        /// Bound or new socket.
        socket: String,
        /// Where to.
        to: SocketAddr,
    },
    /// `connect` in repair mode, as CRIU restores a connection: no packet goes out.
    Restore {
        /// Bound or new socket.
        socket: String,
        /// The other end.
        to: SocketAddr,
    },
    /// Waits for the end of a connect that was begun.
    FinishConnect {
        /// Socket whose connect was begun.
        socket: String,
    },
    /// `accept`.
    Accept {
        /// Name for the accepted socket.
        socket: String,
        /// Listener.
        from: String,
    },
    /// Sends some bytes.
    Send {
        /// Connected socket.
        socket: String,
        /// How many.
        bytes: usize,
    },
    /// Receives some bytes, all of them.
    Receive {
        /// Connected socket.
        socket: String,
        /// How many.
        bytes: usize,
    },
    /// Sends as much as there is room for without waiting.
    Fill {
        /// Connected socket.
        socket: String,
    },
    /// Sets a time after which the kernel gives the peer up, or keeps the connection alive by.
    Tune {
        /// Any socket.
        socket: String,
        /// What.
        tuning: Tuning,
    },
    /// Receives until the peer's FIN, or says what the peer sent instead.
    ReceiveToEnd {
        /// Connected socket.
        socket: String,
    },
    /// `shutdown(SHUT_WR)`: a FIN goes out, receiving goes on.
    ShutDown {
        /// Connected socket.
        socket: String,
    },
    /// `close`.
    Close {
        /// Any socket.
        socket: String,
    },
    /// `close` with `SO_LINGER` 0: a RST goes out.
    Reset {
        /// Connected socket.
        socket: String,
    },
    /// Sends the descriptor to another puppet of the same network namespace (`SCM_RIGHTS`), and keeps it.
    Give {
        /// Any socket.
        socket: String,
        /// Process id of the other.
        to: u32,
    },
    /// Takes the descriptor that another puppet has sent.
    Take {
        /// Name for it here.
        socket: String,
    },
    /// `fork`: the parent ends, and the child goes on with all sockets. It begins with a [`Hello`].
    Fork,
}

/// Options of a socket.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tuning {
    /// `TCP_USER_TIMEOUT`, ms.
    UserTimeout(u32),
    /// `SO_KEEPALIVE`: a probe after one second, and one each second; so many without an answer end it.
    KeepAlive(u32),
    /// `TCP_SYNCNT`: SYNs that are sent again before the kernel gives up.
    Syns(i32),
    /// `SO_LINGER` with so many seconds.
    Linger(u64),
    /// `SO_RCVBUF`, bytes.
    ReceiveBuffer(usize),
    /// `TCP_FASTOPEN_CONNECT`: `connect` sends nothing, and the SYN takes along what is sent first.
    FastOpen,
}

impl Tuning {
    fn apply(self, socket: &OwnedFd) -> io::Result<()> {
        match self {
            Self::UserTimeout(ms) => sockopt::set_tcp_user_timeout(socket, ms)?,
            Self::KeepAlive(probes) => {
                sockopt::set_socket_keepalive(socket, true)?;
                sockopt::set_tcp_keepidle(socket, Duration::from_secs(1))?;
                sockopt::set_tcp_keepintvl(socket, Duration::from_secs(1))?;
                sockopt::set_tcp_keepcnt(socket, probes)?;
            }
            Self::Syns(count) => set(socket, libc::TCP_SYNCNT, count)?,
            Self::Linger(seconds) => {
                sockopt::set_socket_linger(socket, Some(Duration::from_secs(seconds)))?;
            }
            Self::FastOpen => set(socket, libc::TCP_FASTOPEN_CONNECT, 1)?,
            Self::ReceiveBuffer(bytes) => sockopt::set_socket_recv_buffer_size(socket, bytes)?,
        }
        Ok(())
    }
}

/// The answer to one [`Request`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Done; the socket's ends where it still has some.
    Done(Option<Ends>),
    /// The kernel refused, with this errno.
    Refused(i32),
}

/// First line a puppet writes: who it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Process id.
    pub pid: u32,
    /// cgroup2 path.
    pub cgroup: String,
}

impl Hello {
    fn of_this_process() -> Self {
        Self { pid: std::process::id(), cgroup: own_cgroup() }
    }
}

/// Does what stdin says until its end.
pub fn run() -> io::Result<()> {
    allow_many_sockets()?;
    let mut sockets = Sockets { held: HashMap::new(), mailbox: Mailbox::open()? };
    say(&Hello::of_this_process())?;
    for line in io::stdin().lock().lines() {
        match serde_json::from_str(&line?)? {
            Request::Fork => {
                handover::leave_to_child()?;
                say(&Hello::of_this_process())?;
            }
            request => say(&match sockets.carry_out(request) {
                Ok(ends) => Reply::Done(ends),
                Err(error) => Reply::Refused(error.raw_os_error().unwrap_or(0)),
            })?,
        }
    }
    Ok(())
}

fn say(what: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(what)?)?;
    out.flush()
}

/// As many as the process may hold.
fn allow_many_sockets() -> io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// The sockets held, by name, and where others send theirs.
struct Sockets {
    held: HashMap<String, OwnedFd>,
    mailbox: Mailbox,
}

impl Sockets {
    fn carry_out(&mut self, request: Request) -> io::Result<Option<Ends>> {
        match request {
            Request::Rename { hex } => rename(&hex).map(|()| None),
            Request::Bind { socket, at } => self.bind(&socket, at, None),
            Request::BindMptcp { socket, at } => self.bind(&socket, at, Some(MPTCP)),
            Request::Listen { socket, backlog } => {
                net::listen(self.get(&socket)?, backlog)?;
                self.ends(&socket)
            }
            Request::ListenUnbound { socket, like } => {
                let unbound = new_socket(like)?;
                net::listen(&unbound, 128)?;
                self.keep(&socket, unbound)
            }
            Request::Disconnect { socket } => {
                net::connect_unspec(self.get(&socket)?)?;
                Ok(None)
            }
            Request::Connect { socket, to } => self.connect(&socket, to),
            Request::BeginConnect { socket, to } => self.begin_connect(&socket, to),
            Request::Restore { socket, to } => self.restore(&socket, to),
            Request::FinishConnect { socket } => self.finish_connect(&socket),
            Request::Accept { socket, from } => {
                let accepted = net::accept_with(self.get(&from)?, SocketFlags::CLOEXEC)?;
                limit_waiting(&accepted)?;
                self.keep(&socket, accepted)
            }
            Request::Send { socket, bytes } => {
                self.with_stream(&socket, |stream| stream.write_all(&vec![b'x'; bytes]))?;
                self.ends(&socket)
            }
            Request::ReceiveToEnd { socket } => {
                self.with_stream(&socket, |stream| stream.read_to_end(&mut Vec::new()).map(drop))?;
                self.ends(&socket)
            }
            Request::Receive { socket, bytes } => {
                self.with_stream(&socket, |stream| stream.read_exact(&mut vec![0; bytes]))?;
                self.ends(&socket)
            }
            Request::Fill { socket } => {
                let socket = self.get(&socket)?;
                while net::send(socket, &[b'x'; 4096], net::SendFlags::DONTWAIT).is_ok() {}
                Ok(None)
            }
            Request::Tune { socket, tuning } => tuning.apply(self.get(&socket)?).map(|()| None),
            Request::ShutDown { socket } => {
                self.with_stream(&socket, |stream| stream.shutdown(Shutdown::Write))?;
                self.ends(&socket)
            }
            Request::Close { socket } => self.take(&socket).map(drop).map(|()| None),
            Request::Reset { socket } => {
                let socket = self.take(&socket)?;
                sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
                Ok(None)
            }
            Request::Give { socket, to } => {
                handover::give(self.get(&socket)?, to)?;
                self.ends(&socket)
            }
            Request::Take { socket } => {
                let taken = self.mailbox.take()?;
                self.keep(&socket, taken)
            }
            Request::Fork => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn bind(&mut self, name: &str, at: SocketAddr, protocol: Option<Protocol>) -> io::Result<Option<Ends>> {
        let socket = socket_of(at, protocol)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        net::bind(&socket, &at)?;
        self.keep(name, socket)
    }

    fn connect(&mut self, name: &str, to: SocketAddr) -> io::Result<Option<Ends>> {
        self.make_if_new(name, to)?;
        net::connect(self.get(name)?, &to)?;
        self.ends(name)
    }

    fn begin_connect(&mut self, name: &str, to: SocketAddr) -> io::Result<Option<Ends>> {
        self.make_if_new(name, to)?;
        rustix::io::ioctl_fionbio(self.get(name)?, true)?;
        match net::connect(self.get(name)?, &to) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => self.ends(name),
            Err(error) => Err(error.into()),
        }
    }

    fn restore(&mut self, name: &str, to: SocketAddr) -> io::Result<Option<Ends>> {
        self.make_if_new(name, to)?;
        repair(self.get(name)?, true)?;
        net::connect(self.get(name)?, &to)?;
        repair(self.get(name)?, false)?;
        self.ends(name)
    }

    fn finish_connect(&mut self, name: &str) -> io::Result<Option<Ends>> {
        let socket = self.get(name)?;
        let patience = PATIENCE.try_into().expect("some seconds fit a timespec");
        let ready = poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&patience))?;
        if ready == 0 {
            return Err(rustix::io::Errno::TIMEDOUT.into());
        }
        sockopt::socket_error(socket)??;
        rustix::io::ioctl_fionbio(socket, false)?;
        self.ends(name)
    }

    fn make_if_new(&mut self, name: &str, to: SocketAddr) -> io::Result<()> {
        if !self.held.contains_key(name) {
            self.held.insert(name.to_owned(), new_socket(to)?);
        }
        Ok(())
    }

    fn keep(&mut self, name: &str, socket: OwnedFd) -> io::Result<Option<Ends>> {
        self.held.insert(name.to_owned(), socket);
        self.ends(name)
    }

    fn get(&self, name: &str) -> io::Result<&OwnedFd> {
        self.held.get(name).ok_or_else(|| unknown(name))
    }

    fn take(&mut self, name: &str) -> io::Result<OwnedFd> {
        self.held.remove(name).ok_or_else(|| unknown(name))
    }

    fn ends(&self, name: &str) -> io::Result<Option<Ends>> {
        Ok(ends_of(self.get(name)?))
    }

    /// Lends the socket to std's reading and writing.
    fn with_stream<T>(
        &mut self,
        name: &str,
        act: impl FnOnce(&mut TcpStream) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut stream = TcpStream::from(self.take(name)?);
        let result = act(&mut stream);
        self.held.insert(name.to_owned(), stream.into());
        result
    }
}

fn unknown(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("the test named no socket {name:?}"))
}

/// A blocking TCP socket of the address' family whose calls end in bounded time.
pub(super) fn new_socket(for_address: SocketAddr) -> io::Result<OwnedFd> {
    socket_of(for_address, None)
}

fn socket_of(address: SocketAddr, protocol: Option<Protocol>) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, protocol)?;
    limit_waiting(&socket)?;
    Ok(socket)
}

/// `SO_RCVTIMEO` bounds `accept` and `recv`, `SO_SNDTIMEO` `connect` and `send`.
fn limit_waiting(socket: &OwnedFd) -> io::Result<()> {
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    Ok(sockopt::set_socket_timeout(socket, sockopt::Timeout::Send, Some(PATIENCE))?)
}

/// Switches `TCP_REPAIR`; needs `CAP_NET_ADMIN`.
fn repair(socket: &OwnedFd, on: bool) -> io::Result<()> {
    // `TCP_REPAIR_ON` and `TCP_REPAIR_OFF_NO_WP` (`include/uapi/linux/tcp.h`): without a probe of the peer's window.
    let mode: i32 = if on { 1 } else { -1 };
    set(socket, libc::TCP_REPAIR, mode)
}

/// Sets an option of TCP that neither std nor rustix binds.
#[expect(unsafe_code, reason = "see above")]
fn set(socket: &OwnedFd, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the kernel reads no more than the size given, and `value` outlives the call.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, (&raw const value).cast(), 4)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Both ends as the socket itself knows them.
fn ends_of(socket: &OwnedFd) -> Option<Ends> {
    let local = net::getsockname(socket.as_fd()).ok()?.try_into().ok()?;
    let peer = net::getpeername(socket.as_fd()).ok().flatten().and_then(|peer| peer.try_into().ok());
    Some(Ends { local, peer })
}

fn rename(hex: &str) -> io::Result<()> {
    let digits = hex.as_bytes().chunks(2).map(|pair| {
        let text = str::from_utf8(pair).map_err(|_| io::ErrorKind::InvalidInput)?;
        u8::from_str_radix(text, 16).map_err(|_| io::ErrorKind::InvalidInput.into())
    });
    let name = CString::new(digits.collect::<io::Result<Vec<u8>>>()?)?;
    Ok(rustix::thread::set_name(&name)?)
}
