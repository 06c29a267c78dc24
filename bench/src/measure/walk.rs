//! What a look at everything that is open costs: a table of 262,144 buckets, empty, and with 19,000 sockets in it.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result};
use kube_tcpstates::kernel::Looker;
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::workload::enter::enter;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Stage;
use crate::report::Report;

const GROUP: &str = "what is open: a table of 262,144 buckets";
const BUCKETS: &str = "262144";
/// With both ends as many files as a process may have open where nobody may raise the limit.
const CONNECTIONS: usize = 9_500;
const RUNS: usize = 11;

pub(super) fn measure(_: &Stage<'_>, report: &mut Report) -> Result<()> {
    let maker = Netns::new();
    maker.set("net/ipv4/tcp_child_ehash_entries", BUCKETS);
    let netns = Netns::made_in(&maker);
    let begun = Instant::now();
    let mut looker = Looker::load(None)?;
    report.add(GROUP, "loading, once", "ms", vec![ms(begun)]);
    report.add(GROUP, "a look, empty", "ms", looks(&mut looker, false)?);
    let open = open(&netns)?;
    report.add(GROUP, "a look, 19,000 sockets, none closely", "ms", looks(&mut looker, false)?);
    report.add(GROUP, "a look, 19,000 sockets, each closely", "ms", looks(&mut looker, true)?);
    drop(open);
    Ok(())
}

/// How long a look at everything takes, descriptors included.
fn looks(looker: &mut Looker, closely: bool) -> Result<Vec<f64>> {
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let begun = Instant::now();
        let sight = looker.look(|_| closely)?;
        runs.push(ms(begun));
        drop(sight);
    }
    Ok(runs)
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Both ends of connections in a namespace.
fn open(netns: &Netns) -> Result<Vec<TcpStream>> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .context("allow as many files as may be")?;
    let connect = || {
        enter(None, Some(netns.name())).context("enter the namespace")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
        let address = listener.local_addr().context("the listener's address")?;
        let mut ends = Vec::new();
        for _ in 0..CONNECTIONS {
            ends.push(TcpStream::connect(address).context("connect")?);
            ends.push(listener.accept().context("accept")?.0);
        }
        Ok(ends)
    };
    thread::scope(|scope| scope.spawn(connect).join()).unwrap_or_else(|_| anyhow::bail!("it panicked"))
}
