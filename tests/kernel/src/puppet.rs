//! The test's side of `tcp-workload puppet`: socket calls of another process, one at a time.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::place::{Place, Talker};
use crate::workload::Ends;
use crate::workload::puppet::{Hello, Reply, Request, Tuning};

/// A process in a [`Place`] that does what it is told.
#[derive(Debug)]
pub struct Puppet {
    talker: Talker,
    hello: Hello,
}

/// The errno of a refused call.
pub type Refused = rustix::io::Errno;

impl Puppet {
    /// Starts it and waits until it is in its place.
    pub fn start(place: &Place) -> Self {
        let mut talker = Talker::start(place.workload(&["puppet".to_owned()]));
        let hello = talker.hear();
        Self { talker, hello }
    }

    /// cgroup2 path that it was in before it made its first socket.
    pub fn cgroup(&self) -> &str {
        &self.hello.cgroup
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.hello.pid
    }

    fn ask(&mut self, request: &Request) -> Result<Option<Ends>, Refused> {
        self.talker.say(&serde_json::to_string(request).expect("a request serialises"));
        match self.talker.hear() {
            Reply::Done(ends) => Ok(ends),
            Reply::Refused(number) => Err(Refused::from_raw_os_error(number)),
        }
    }

    #[track_caller]
    fn must(&mut self, request: &Request) -> Option<Ends> {
        self.ask(request).unwrap_or_else(|error| panic!("{request:?} failed: {error}"))
    }

    /// Names its thread.
    pub fn rename(&mut self, name: &[u8]) {
        let mut hex = String::new();
        for byte in name {
            write!(hex, "{byte:02x}").expect("a string takes everything");
        }
        self.must(&Request::Rename { hex });
    }

    /// `socket`, `bind`; returns the local address.
    #[track_caller]
    pub fn bind(&mut self, socket: &str, at: SocketAddr) -> SocketAddr {
        let ends = self.must(&Request::Bind { socket: socket.to_owned(), at });
        ends.expect("a bound socket has an address").local
    }

    /// `bind` of a socket of MPTCP; returns the local address.
    #[track_caller]
    pub fn bind_mptcp(&mut self, socket: &str, at: SocketAddr) -> SocketAddr {
        let ends = self.must(&Request::BindMptcp { socket: socket.to_owned(), at });
        ends.expect("a bound socket has an address").local
    }

    /// `bind` and `listen` with a socket of MPTCP; returns the local address.
    #[track_caller]
    pub fn listen_mptcp(&mut self, socket: &str, at: SocketAddr) -> SocketAddr {
        let local = self.bind_mptcp(socket, at);
        self.listen_on(socket).unwrap_or_else(|error| panic!("listen on {at}: {error}"));
        local
    }

    /// `listen` on a bound socket.
    pub fn listen_on(&mut self, socket: &str) -> Result<(), Refused> {
        self.ask(&Request::Listen { socket: socket.to_owned(), backlog: 128 }).map(drop)
    }

    /// `bind`, and `listen` with room for so many connections that wait to be accepted; returns the local address.
    #[track_caller]
    pub fn listen_for(&mut self, socket: &str, at: SocketAddr, backlog: i32) -> SocketAddr {
        let local = self.bind(socket, at);
        self.must(&Request::Listen { socket: socket.to_owned(), backlog });
        local
    }

    /// `listen` on a new socket that has no address; returns the port that the kernel chose.
    #[track_caller]
    pub fn listen_unbound(&mut self, socket: &str, like: SocketAddr) -> u16 {
        let ends = self.must(&Request::ListenUnbound { socket: socket.to_owned(), like });
        ends.expect("a listener has an address").local.port()
    }

    /// Ends a connection, but not its socket.
    #[track_caller]
    pub fn disconnect(&mut self, socket: &str) {
        self.must(&Request::Disconnect { socket: socket.to_owned() });
    }

    /// `bind` and `listen`; returns the local address.
    #[track_caller]
    pub fn listen(&mut self, socket: &str, at: SocketAddr) -> SocketAddr {
        let local = self.bind(socket, at);
        self.listen_on(socket).unwrap_or_else(|error| panic!("listen on {local}: {error}"));
        local
    }

    /// `connect`, to its end.
    pub fn connect(&mut self, socket: &str, to: SocketAddr) -> Result<Ends, Refused> {
        let ends = self.ask(&Request::Connect { socket: socket.to_owned(), to })?;
        Ok(ends.expect("a connected socket has ends"))
    }

    /// Sends the SYN and returns.
    #[track_caller]
    pub fn begin_connect(&mut self, socket: &str, to: SocketAddr) -> SocketAddr {
        let ends = self.must(&Request::BeginConnect { socket: socket.to_owned(), to });
        ends.expect("a socket that connects has an address").local
    }

    /// Puts a connection's end in its place again, as CRIU does.
    #[track_caller]
    pub fn restore(&mut self, socket: &str, to: SocketAddr) {
        self.must(&Request::Restore { socket: socket.to_owned(), to });
    }

    /// Waits for what was begun.
    pub fn finish_connect(&mut self, socket: &str) -> Result<Ends, Refused> {
        let ends = self.ask(&Request::FinishConnect { socket: socket.to_owned() })?;
        Ok(ends.expect("a connected socket has ends"))
    }

    /// `accept`.
    #[track_caller]
    pub fn accept(&mut self, socket: &str, from: &str) -> Ends {
        let ends = self.must(&Request::Accept { socket: socket.to_owned(), from: from.to_owned() });
        ends.expect("an accepted socket has ends")
    }

    /// Sends some bytes.
    #[track_caller]
    pub fn send(&mut self, socket: &str, bytes: usize) {
        self.must(&Request::Send { socket: socket.to_owned(), bytes });
    }

    /// Receives so many bytes.
    #[track_caller]
    pub fn receive(&mut self, socket: &str, bytes: usize) {
        self.must(&Request::Receive { socket: socket.to_owned(), bytes });
    }

    /// Sends as much as there is room for.
    #[track_caller]
    pub fn fill(&mut self, socket: &str) {
        self.must(&Request::Fill { socket: socket.to_owned() });
    }

    /// Sets an option.
    #[track_caller]
    pub fn tune(&mut self, socket: &str, tuning: Tuning) {
        self.must(&Request::Tune { socket: socket.to_owned(), tuning });
    }

    /// Receives until the FIN, or gets the peer's reset.
    pub fn receive_to_end(&mut self, socket: &str) -> Result<(), Refused> {
        self.ask(&Request::ReceiveToEnd { socket: socket.to_owned() }).map(drop)
    }

    /// `shutdown(SHUT_WR)`.
    #[track_caller]
    pub fn shut_down(&mut self, socket: &str) {
        self.must(&Request::ShutDown { socket: socket.to_owned() });
    }

    /// `close`.
    #[track_caller]
    pub fn close(&mut self, socket: &str) {
        self.must(&Request::Close { socket: socket.to_owned() });
    }

    /// `close` with a RST.
    #[track_caller]
    pub fn reset(&mut self, socket: &str) {
        self.must(&Request::Reset { socket: socket.to_owned() });
    }

    /// Sends a socket's descriptor to another puppet of the same network namespace, which must [`Self::take`] it.
    #[track_caller]
    pub fn give(&mut self, socket: &str, to: &Self) {
        self.must(&Request::Give { socket: socket.to_owned(), to: to.pid() });
    }

    /// Takes the descriptor that another puppet has sent.
    #[track_caller]
    pub fn take(&mut self, socket: &str) {
        self.must(&Request::Take { socket: socket.to_owned() });
    }

    /// `fork`: the process ends, and a child goes on with its sockets, which is this puppet from now on.
    #[track_caller]
    pub fn fork(&mut self) {
        self.talker.say(&serde_json::to_string(&Request::Fork).expect("a request serialises"));
        self.talker.wait();
        self.hello = self.talker.hear();
    }

    /// Waits for the end of the process.
    pub fn exit(self) {
        self.talker.finish();
    }
}
