//! Connections in bulk: a server that the test can question, and clients that report at their end.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::netns::Netns;
use crate::place::{Place, Talker};
use crate::workload::{Ending, Report};

/// A running `tcp-workload serve`.
#[derive(Debug)]
pub struct Server {
    talker: Talker,
    addresses: Vec<SocketAddr>,
}

impl Server {
    /// Starts it and waits until it listens. With `list` its report names every connection.
    pub fn start(place: &Place, listen: &[SocketAddr], ending: Ending, list: bool) -> Self {
        Self::start_with(place, listen, ending, list.then_some("--list"))
    }

    /// One of several on the same address (`SO_REUSEPORT`); its report names every connection.
    pub fn start_beside(place: &Place, listen: SocketAddr, ending: Ending) -> Self {
        Self::start_with(place, &[listen], ending, ["--list", "--reuse-port"])
    }

    /// A listener of MPTCP, as Go makes them; its report names every connection.
    pub fn start_mptcp(place: &Place, listen: SocketAddr, ending: Ending) -> Self {
        Self::start_with(place, &[listen], ending, ["--list", "--mptcp"])
    }

    /// A daemon: the process that listens is [`Self::pid`], and it ends; another goes on with its listener. Its report
    /// names every connection.
    pub fn start_daemon(place: &Place, listen: SocketAddr, ending: Ending) -> Self {
        let mut server = Self::start_with(place, &[listen], ending, ["--list", "--daemon"]);
        server.talker.wait();
        server
    }

    fn start_with(
        place: &Place,
        listen: &[SocketAddr],
        ending: Ending,
        options: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        let mut arguments = vec!["serve".to_owned(), format!("--ending={}", ending.as_arg())];
        arguments.extend(listen.iter().map(|address| format!("--listen={address}")));
        arguments.extend(options.into_iter().map(str::to_owned));
        let mut talker = Talker::start(place.workload(&arguments));
        let addresses = talker.hear();
        Self { talker, addresses }
    }

    /// Where it listens, in the order asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.talker.pid()
    }

    /// What it did until now.
    pub fn report(&mut self) -> Report {
        self.talker.say("report");
        self.talker.hear()
    }

    /// Waits until it has carried so many connections to their end.
    #[track_caller]
    pub fn wait_for(&mut self, connections: u64) -> Report {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let report = self.report();
            if report.connections + report.failures >= connections {
                return report;
            }
            assert!(
                Instant::now() < deadline,
                "the server carried {report:?}, not {connections} connections"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Closes the listeners and ends it.
    pub fn finish(self) {
        self.talker.finish();
    }
}

/// What clients are to do.
#[derive(Clone, Debug)]
pub struct Churn {
    arguments: Vec<String>,
}

impl Churn {
    /// `count` connections to `to` in turn, one after the other.
    pub fn new(to: &[SocketAddr], count: u64) -> Self {
        let mut arguments = vec!["churn".to_owned(), format!("--count={count}")];
        arguments.extend(to.iter().map(|address| format!("--to={address}")));
        Self { arguments }
    }

    /// So many at a time.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        self.with(format!("--threads={threads}"))
    }

    /// Stops after so many seconds.
    #[must_use]
    pub fn seconds(self, seconds: u64) -> Self {
        self.with(format!("--seconds={seconds}"))
    }

    /// Spread over so many addresses of 127.0.0.0/8, counted up from the given one.
    #[must_use]
    pub fn spread(self, addresses: u16) -> Self {
        self.with(format!("--spread={addresses}"))
    }

    /// From within a namespace that only the threads enter which connect.
    #[must_use]
    pub fn inside(self, namespace: &Netns) -> Self {
        self.with(format!("--thread-netns={}", namespace.name()))
    }

    /// A pause after each connection.
    #[must_use]
    pub fn pause(self, pause: Duration) -> Self {
        self.with(format!("--pause-ms={}", pause.as_millis()))
    }

    /// How connections end.
    #[must_use]
    pub fn ending(self, ending: Ending) -> Self {
        self.with(format!("--ending={}", ending.as_arg()))
    }

    /// Report every connection's ends.
    #[must_use]
    pub fn list(self) -> Self {
        self.with("--list".to_owned())
    }

    /// The last word on an option counts.
    fn with(mut self, argument: String) -> Self {
        let option = |text: &str| text.split('=').next().map(str::to_owned);
        self.arguments.retain(|before| option(before) != option(&argument));
        self.arguments.push(argument);
        self
    }

    /// Starts it.
    pub fn start(&self, place: &Place) -> Running {
        let command = place.workload(&self.arguments);
        Running { talker: Talker::start(command) }
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(&self, place: &Place) -> Report {
        self.start(place).report()
    }
}

/// Clients at work.
#[derive(Debug)]
pub struct Running {
    talker: Talker,
}

impl Running {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.talker.pid()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn report(mut self) -> Report {
        let report: Report = self.talker.hear();
        self.talker.finish();
        assert_eq!(report.failures, 0, "{} connections failed", report.failures);
        report
    }
}
