//! A socket that another process closes than the one that made it: its descriptor was sent, or inherited. The connection
//! ends when the last holder lets go, and is told as its maker's.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use kube_tcpstates_kernel_tests::endings::{Pair, Stage, connections};
use kube_tcpstates_kernel_tests::line::Event;
use kube_tcpstates_kernel_tests::listed::listed;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;

/// A packet on its way takes less.
const MOMENT: Duration = Duration::from_millis(50);

/// Whose a line must be: the client's end of its connection, its side, and the process.
type Owned = (SocketAddr, &'static str, u32);

/// 10 bytes to the server: the connection is still open.
fn send(client: &mut Puppet, near: &str, stage: &mut Stage, pair: &Pair) {
    client.send(near, 10);
    stage.server.receive(&pair.far, 10);
}

/// The client's side ends it, whoever that is now, and its line is as any other's.
fn close(client: &mut Puppet, near: &str, stage: &mut Stage, pair: &Pair) {
    client.close(near);
    stage.server.receive_to_end(&pair.far).expect("a FIN");
    stage.server.close(&pair.far);
    stage.expect(pair, ("closed local", (10, 0, Some(0), 0)), ("closed peer", (0, 10, Some(0), 0)));
}

fn beside(stage: &Stage, side: usize) -> Puppet {
    Puppet::start(&Place::default().netns(&stage.namespaces[side]))
}

/// Judges the stage, and whose each of these lines is.
#[track_caller]
fn judge(stage: Stage, owned: &[Owned]) {
    for (hook, finished) in stage.judge() {
        let lines = connections(&finished);
        for (client, side, pid) in owned {
            let near = if *side == "client" { "local" } else { "peer" };
            let is_it = |line: &&Event| {
                line.text("tcpstates.role") == Some(*side)
                    && line.number(&format!("network.{near}.port")) == Some(client.port().into())
            };
            let line = lines.iter().find(is_it).expect("it was judged");
            assert_eq!(line.number("process.pid"), Some((*pid).into()), "{hook}: {line:?}");
            assert_eq!(line.text("thread.name"), Some("tcp-workload"), "{hook}: {line:?}");
        }
    }
}

/// What is open meanwhile is whose that holds it.
#[track_caller]
fn assert_holder(stage: &Stage, pair: &Pair, holder: &Puppet) {
    let lines = listed(&["--state", "ESTABLISHED"], [&stage.namespaces[0]]);
    let port = u64::from(pair.client.port());
    let line = lines.iter().find(|line| line.number("network.local.port") == Some(port)).expect("it is open");
    assert_eq!(line.number("process.pid"), Some(holder.pid().into()), "{line:?}");
    assert_eq!(line.text("tcpstates.owner.source"), Some("descriptor"), "{line:?}");
}

#[test]
fn a_connection_that_was_sent_to_another_process_ends_when_that_one_closes_it() {
    require(&[]);
    let mut stage = Stage::new(&[]);
    let mut owned = Vec::new();
    let mut other = beside(&stage, 0);
    // The first closes, or ends.
    for exits in [false, true] {
        let mut first = beside(&stage, 0);
        let pair = stage.open_by(&mut first);
        owned.push((pair.client, "client", first.pid()));
        first.give(&pair.near, &other);
        other.take("taken");
        if exits {
            first.exit();
        } else {
            first.close(&pair.near);
        }
        sleep(MOMENT);
        send(&mut other, "taken", &mut stage, &pair);
        assert_holder(&stage, &pair, &other);
        close(&mut other, "taken", &mut stage, &pair);
    }
    // The first ends without a close, and the other holds it no more: the last of both ends it.
    let mut first = beside(&stage, 0);
    let pair = stage.open_by(&mut first);
    owned.push((pair.client, "client", first.pid()));
    first.give(&pair.near, &other);
    other.take("taken");
    other.close("taken");
    sleep(MOMENT);
    send(&mut first, &pair.near, &mut stage, &pair);
    first.exit();
    stage.server.receive_to_end(&pair.far).expect("a FIN");
    stage.server.close(&pair.far);
    stage.expect(&pair, ("closed local", (10, 0, Some(0), 0)), ("closed peer", (0, 10, Some(0), 0)));
    judge(stage, &owned);
}

/// As by a server that accepts for its workers.
#[test]
fn an_accepted_connection_that_was_sent_to_a_worker_is_the_listeners_process() {
    require(&[]);
    let mut stage = Stage::new(&[]);
    let mut worker = beside(&stage, 1);
    let server = stage.server.pid();
    let mut owned = Vec::new();
    // The worker lets go in order, or without having read everything.
    for reads in [true, false] {
        let pair = stage.open();
        owned.push((pair.client, "client", stage.client.pid()));
        owned.push((pair.client, "server", server));
        stage.server.give(&pair.far, &worker);
        worker.take("taken");
        stage.server.close(&pair.far);
        sleep(MOMENT);
        worker.send("taken", 30);
        stage.client.receive(&pair.near, 30);
        stage.client.send(&pair.near, 5);
        if reads {
            worker.receive("taken", 5);
        } else {
            sleep(MOMENT);
        }
        worker.close("taken");
        sleep(MOMENT);
        stage.client.close(&pair.near);
        let (near, far, unread) = if reads {
            ("closed peer", "closed local", 0)
        } else {
            ("reset_by_peer peer", "reset_by_us local unread_data", 5)
        };
        stage.expect(&pair, (near, (5, 30, Some(0), 0)), (far, (30, 5, Some(unread), 0)));
    }
    judge(stage, &owned);
}

/// The parent is gone when the child closes: its process id is told all the same, since it connected.
#[test]
fn an_inherited_connection_ends_when_the_child_closes_it() {
    require(&[]);
    let mut stage = Stage::new(&[]);
    let mut process = beside(&stage, 0);
    let parent = process.pid();
    let pair = stage.open_by(&mut process);
    process.fork();
    assert_ne!(process.pid(), parent);
    sleep(MOMENT);
    send(&mut process, &pair.near, &mut stage, &pair);
    assert_holder(&stage, &pair, &process);
    close(&mut process, &pair.near, &mut stage, &pair);
    // What the child opens is the child's.
    let own = stage.open_by(&mut process);
    send(&mut process, &own.near, &mut stage, &own);
    close(&mut process, &own.near, &mut stage, &own);
    let owned = [(pair.client, "client", parent), (own.client, "client", process.pid())];
    judge(stage, &owned);
}
