//! What a look at everything that is open costs: a table of 262,144 buckets, empty, and with 19,000 sockets in it. And what
//! connections notice of a trace that looks now and then.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kube_tcpstates::kernel::Looker;
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::workload::enter::enter;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Stage;
use super::rate::in_turn;
use crate::load::Length;
use crate::report::{Promise, Report};
use crate::subject::Subject;

const GROUP: &str = "what is open: a table of 262,144 buckets";
const BUCKETS: &str = "262144";
/// With both ends as many files as a process may have open where nobody may raise the limit.
const CONNECTIONS: usize = 9_500;
const RUNS: usize = 11;
const BESIDE: &str = "connection rate beside a look at 19,000 sockets now and then, of that without";
const BY_CPU: &str = "the same by the CPU time of who connects";
/// How often is looked, as the report and as the trace calls it; how long a run is, so that each has a look in it; and
/// the most pairs, which take that long.
const LOOKS: [(&str, &str, Duration, usize); 2] =
    [(TEN, "10s", Duration::from_secs(10), 4), ("every 2 s", "2s", Duration::from_secs(4), 6)];
const TEN: &str = "every 10 s";

pub(super) fn measure(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
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
    drop(looker);
    for (name, every, length, most) in LOOKS {
        let [rates, by_cpu] = beside(stage, &netns, every, length, stage.settings.pairs.min(most))?;
        report.add(BESIDE, name, "", rates);
        report.add(BY_CPU, name, "", by_cpu);
    }
    let found = report.median(BESIDE, TEN).unwrap_or(f64::NAN);
    report.promises.push(Promise::at_least(
        "connection rate beside a look at what is open every 10 s, of that without",
        found,
        0.99,
        None,
    ));
    drop(open);
    Ok(())
}

/// Connections elsewhere, beside a trace of this namespace alone that looks at everything there so often, and beside the
/// same that does not. Of each run with looks the ratio to its neighbours without, by the clock and by CPU time.
fn beside(
    stage: &Stage<'_>,
    netns: &Netns,
    every: &str,
    length: Duration,
    pairs: usize,
) -> Result<[Vec<f64>; 2]> {
    let only = vec!["--netns".to_owned(), netns.inode().to_string()];
    let looks = vec!["--open-sockets".to_owned(), format!("{every},limit=1000")];
    let (blind, looking) = (Subject::Agent(only.clone()), Subject::Agent([only, looks].concat()));
    let mut traffic = stage.traffic(&[])?;
    in_turn(pairs, |with| {
        let running = stage.start(if with { &looking } else { &blind })?;
        let load = traffic.run(Length::Time(length))?;
        running.stop()?;
        Ok([load.rate(), load.rate_by_cpu()])
    })
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
