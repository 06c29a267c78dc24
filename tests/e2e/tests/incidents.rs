//! The incidents of docs/incidents.md, made by real pods and real rules of nftables. Each is answered by the one command
//! of that page; what it must say was written down first.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates_e2e_tests::agent::Agents;
use kube_tcpstates_e2e_tests::cluster::node::Identity;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::process::in_network_of;
use kube_tcpstates_e2e_tests::scene::{Scene, Server, arguments, pod, pod_spec};
use kube_tcpstates_e2e_tests::wait;
use kube_tcpstates_e2e_workload::log::Entry;
use serde_json::{Value, json};

use crate::plugin::{Said, said};

pub(crate) const TESTS: crate::Tests = &[("each_incident_is_answered_by_one_command", incidents)];

const HERE: &str = "--namespace=incidents";
/// Until a pod is there and its first packets were dropped.
const PATIENCE: Duration = Duration::from_mins(1);
/// What the Service's address would be, where kube-proxy made the rules.
const SERVICE: &str = "10.99.0.1";
/// The NAT in front of the store forgets what was silent for so long, and the worker is silent for longer.
const FORGETS_S: u64 = 30;
const IDLE_MS: u64 = 35_000;
/// Of the backend that thinks longest.
const THINKS_MS: u64 = 300;
const LEAKED: usize = 50;
/// Local ports of the pod that runs out of them.
const PORTS: &str = "40000 40019";
const FLOOD: u64 = 10_000;
/// The incidents go on for so long while all of them are traced at once: the worker is reset meanwhile.
const WATCHED: Duration = Duration::from_mins(1);
/// From the first SYN that is dropped. It takes seconds; how long it took is printed.
const TOLD_WITHIN: Duration = Duration::from_secs(50);
/// Whether the firewall of a pod has dropped a packet.
const FIREWALL_DROPS: &str = "nft list chain ip filter input | grep -q 'counter packets [1-9]'";
/// Whether a listener of a pod has dropped a SYN: of two lines the first has the names and the second the numbers.
const LISTENER_DROPS: &str = r#"awk '$1 == "TcpExt:" { if (!at) for (at = NF; $at != "ListenDrops"; at--); else dropped = $at > 0 }
    END { exit !dropped }' /proc/net/netstat"#;
/// Until the trace of the flood is attached.
const BEFORE_FLOOD: &str = "--sleep-before-ms=20000";

fn incidents(cluster: &Cluster) -> Result<()> {
    let _agents = Agents::install(cluster)?;
    let scene = &Scene::new(cluster, "incidents")?;
    let command = |arguments: &[&str]| {
        let said = said(cluster.kubectl(), &[arguments, &[HERE]].concat())?;
        ensure!(said.code == Some(0), "{said:?}");
        Ok(said)
    };
    servers(scene)?;
    dropped(scene, command)?;
    clients(scene)?;
    // One user may read so many at once.
    let lanes: [&[Question]; 3] = [
        &[(&["trace", "pod/flood", "--mode=summary", "--for=1m", "-o=json"], flooded)],
        &[
            (&["trace", "pod/orders", "--failures", "--for=8s"], refused),
            (&["list", "pod/leaker", "--state=CLOSE_WAIT"], leaked),
            (&["trace", "pod/exhausted", "--failures", "--for=8s"], exhausted),
            (&["trace", "-l=app=backend", "--for=8s"], slow),
            (&["trace", "-l=app=backend", "--mode=summary", "--peer-names", "--for=15s"], talked),
        ],
        // Twice as long as the worker is silent, and a little.
        &[(&["trace", "pod/worker", "--failures", "--for=75s", "-o=wide"], forgotten)],
    ];
    thread::scope(|scope| {
        let answer =
            |(question, judge): &Question| judge(&command(question)?).with_context(|| question.join(" "));
        let lanes = lanes.map(|lane| scope.spawn(move || lane.iter().try_for_each(answer)));
        lanes.into_iter().try_for_each(|lane| lane.join().expect("it does not panic"))
    })?;
    let log = scene.finished("flood")?;
    ensure!(matches!(log.last(), Some(Entry::Done { connections: FLOOD })), "{:?}", log.last());
    shown_to_others(scene, command)
}

/// One page of all of it, for who was not there.
fn shown_to_others(scene: &Scene<'_>, command: impl Fn(&[&str]) -> Result<Said>) -> Result<()> {
    scene.create(json!({
        "apiVersion": "tcpstates.dev/v1alpha1", "kind": "TcpStateTrace", "metadata": {"name": "everything"},
        "spec": {"podSelector": {}, "mode": "Connections", "peerNames": true, "openSockets": {"every": "30s"}},
    }))?;
    thread::sleep(WATCHED);
    let page = command(&["report", "everything"])?.out;
    for told in ["incidents/pod/orders", "refused", "no_local_port", "reset_by_peer", "CLOSE_WAIT"] {
        ensure!(page.contains(told), "{told} is not on the page: {page}");
    }
    Ok(())
}

/// A command, and what must be in its answer.
type Question = (&'static [&'static str], fn(&Said) -> Result<()>);

fn servers(scene: &Scene<'_>) -> Result<()> {
    make(scene, "deaf", NODE_B, &["deaf", "--port=8080", "--backlog=2"])?;
    make(scene, "leaker", NODE_A, &["leak", &format!("--count={LEAKED}")])?;
    for (name, delay) in [("backend-0", 0), ("backend-1", 0), ("backend-2", THINKS_MS)] {
        let spec = words(&["server", "--port=80", &format!("--delay-ms={delay}")]);
        scene.create(pod(name, &json!({"app": "backend"}), &pod_spec(Some(NODE_A), &spec)))?;
    }
    let store = scene.server("store", &json!({"app": "store"}), NODE_B, &[8080])?;
    // A load balancer that forgets, and a firewall that answers nothing.
    let rules = "table ip nat { chain prerouting { type nat hook prerouting priority dstnat;
            tcp dport 81 redirect to :8080
        }
        }
        table ip filter { chain input { type filter hook input priority 0;
            tcp dport 82 counter drop
        }
        }";
    let object = scene.pod(&store.name)?;
    in_network_of(&object, &["nft", "--file", "-"], rules)?;
    for (setting, value) in [("tcp_timeout_established", FORGETS_S), ("tcp_loose", 0)] {
        write(&object, &format!("netfilter/nf_conntrack_{setting}"), &value.to_string())?;
    }
    Ok(())
}

/// Who hangs is on the list soon after a SYN was dropped, by a firewall or for want of room.
fn dropped(scene: &Scene<'_>, command: impl Fn(&[&str]) -> Result<Said>) -> Result<()> {
    let (store, deaf) = (scene.pod("store")?, scene.await_ready("deaf")?);
    let target = |pod: &Value, port: u16| -> Result<String> {
        Ok(format!("--target={}:{port}", pod["status"]["podIP"].as_str().context("it has an address")?))
    };
    let visit: &[&str] = &["visit", &target(&store, 82)?];
    let hold: &[&str] = &["hold", &target(&deaf, 8080)?, "--count=20"];
    let hangs: Question = (&["list", "pod/blocked", "--state=SYN_SENT"], blocked);
    let is_full: Question = (&["list", "pod/deaf", "--state=LISTEN"], overflown);
    for (client, flags, (pod, drops), (question, judge)) in [
        ("blocked", visit, (&store, FIREWALL_DROPS), hangs),
        ("queued", hold, (&deaf, LISTENER_DROPS), is_full),
    ] {
        // Nothing was dropped until then.
        let mut begin = Instant::now();
        make(scene, client, NODE_A, flags)?;
        wait::until(&format!("a SYN of {client} is dropped"), PATIENCE, || {
            let now = Instant::now();
            let is_dropped = in_network_of(pod, &["sh", "-c", drops], "");
            Ok(is_dropped.map_err(|error| {
                begin = now;
                format!("{error:#}")
            }))
        })?;
        wait::until(&format!("{client} is told of"), TOLD_WITHIN, || {
            Ok(judge(&command(question)?).map_err(|error| format!("{error:#}")))
        })?;
        eprintln!("{client}: told {:.1} s after the first SYN was dropped", begin.elapsed().as_secs_f64());
        ensure!(begin.elapsed() < TOLD_WITHIN, "{client}: told after {:?}", begin.elapsed());
    }
    Ok(())
}

fn clients(scene: &Scene<'_>) -> Result<()> {
    let store = scene.pod("store")?["status"]["podIP"].as_str().context("it has an address")?.to_owned();
    let to = |address: &str, port: u16| format!("--target={address}:{port}");
    make(scene, "worker", NODE_A, &["visit", &to(&store, 81), &format!("--idle-ms={IDLE_MS}")])?;
    let server = Server { name: "store".to_owned(), address: store.parse()?, ports: vec![8080] };
    let orders =
        [&words(&["--pace-ms=300"])[..], &arguments([&server], &["refused", "client-close"], 100_000)?];
    scene.client("orders", &json!({"app": "orders"}), NODE_A, &orders.concat())?;
    // Until there are fewer ports for it.
    let hold = ["hold", &to(&store, 8080), "--count=100", "--sleep-before-ms=15000"];
    make(scene, "exhausted", NODE_B, &hold)?;
    let few = scene.await_ready("exhausted")?;
    write(&few, "ipv4/ip_local_port_range", PORTS)?;
    let ports = json!([{"port": 80}]);
    scene.create(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "frontend"},
        "spec": {"clusterIP": "None", "selector": {"app": "frontend"}, "ports": ports},
    }))?;
    make(scene, "frontend", NODE_B, &["visit", &to(SERVICE, 80)])?;
    scene.finished("leaker")?;
    let mut backends = Vec::new();
    for name in ["backend-0", "backend-1", "backend-2"] {
        let backend = scene.await_ready(name)?;
        backends.push(backend["status"]["podIP"].as_str().context("it has an address")?.to_owned());
    }
    let [first, second, third] = <[String; 3]>::try_from(backends).ok().context("three")?;
    let rules = format!(
        "table ip nat {{ chain output {{ type nat hook output priority -100;
            ip daddr {SERVICE} dnat to numgen inc mod 3 map {{ 0 : {first}, 1 : {second}, 2 : {third} }}
        }}
        }}"
    );
    in_network_of(&scene.await_ready("frontend")?, &["nft", "--file", "-"], &rules)?;
    let server = scene.server("sink", &json!({"app": "sink"}), NODE_B, &[8080])?;
    let flood = [&words(&[BEFORE_FLOOD])[..], &arguments([&server], &["client-close"], FLOOD)?].concat();
    scene.client("flood", &json!({"app": "flood"}), NODE_A, &flood)?;
    scene.await_ready("flood").map(drop)
}

fn make(scene: &Scene<'_>, name: &str, node: Identity, command: &[&str]) -> Result<()> {
    scene.create(pod(name, &json!({"app": name}), &pod_spec(Some(node), &words(command))))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A setting of a pod's network.
fn write(pod: &Value, setting: &str, value: &str) -> Result<()> {
    in_network_of(pod, &["sh", "-c", &format!("cat > /proc/sys/net/{setting}")], value)
}

/// The rows of a table that hold all of these words.
fn rows<'a>(said: &'a Said, words: &[&str]) -> Vec<Vec<&'a str>> {
    let rows = said.out.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| words.iter().all(|word| row.contains(word))).collect()
}

/// Every other of its connections.
fn refused(said: &Said) -> Result<()> {
    let count = rows(said, &["orders", "client", "refused"]).len();
    ensure!(count >= 5 && count + 1 == said.out.lines().count(), "{said:?}");
    Ok(())
}

/// Silent for as long as the worker was, and reset when it spoke. The first is older than its trace.
fn forgotten(said: &Said) -> Result<()> {
    let header: Vec<_> = said.out.lines().next().context("a header")?.split_whitespace().collect();
    let at = |name: &str| header.iter().position(|column| *column == name).context("a column");
    let rows = rows(said, &["incidents/worker", "reset_by_peer"]);
    ensure!(rows.len() >= 2, "{said:?}");
    ensure!(rows[0].iter().any(|word| word.starts_with('>')), "{said:?}");
    for row in rows {
        let silent = row[at("SILENT-MS")?];
        let silent: f64 = silent.parse().with_context(|| format!("{silent} of {row:?}"))?;
        let silence = Duration::from_secs_f64(silent / 1_000.0);
        let least = Duration::from_millis(IDLE_MS - 100);
        ensure!((least..least + Duration::from_millis(600)).contains(&silence), "{silent}: {said:?}");
    }
    Ok(())
}

/// While the connect goes on.
fn blocked(said: &Said) -> Result<()> {
    ensure!(rows(said, &["SYN_SENT", "blocked"]).len() == 1, "{said:?}");
    Ok(())
}

/// One of three behind the address that all clients use.
fn slow(said: &Said) -> Result<()> {
    for (name, is_slow) in [("backend-0", false), ("backend-1", false), ("backend-2", true)] {
        let times = rows(said, &[name, "server", "closed"]).into_iter().map(|row| row[row.len() - 2]);
        let times = times.map(str::parse::<f64>).collect::<Result<Vec<_>, _>>()?;
        ensure!(times.len() >= 3, "{name}: {said:?}");
        let slow = times.iter().filter(|ms| **ms >= 300.0).count();
        ensure!(slow == if is_slow { times.len() } else { 0 }, "{name}: {said:?}");
    }
    Ok(())
}

/// All of them, though they are older than the trace: nobody knows how long they are in the state, but since when nothing has
/// come.
fn leaked(said: &Said) -> Result<()> {
    let rows = rows(said, &["CLOSE_WAIT", "leaker"]);
    let is_unknown = |age: &str| age == "-" || age.starts_with('>');
    let is_seconds = |idle: &str| idle.ends_with('s') && !idle.ends_with("ms");
    ensure!(rows.len() == LEAKED, "{said:?}");
    ensure!(rows.iter().all(|row| is_unknown(row[1]) && is_seconds(row[2])), "{said:?}");
    Ok(())
}

/// One more waits than the limit says (`sk_acceptq_is_full`, include/net/sock.h), and SYNs are dropped.
fn overflown(said: &Said) -> Result<()> {
    let rows = rows(said, &["LISTEN", "deaf"]);
    let [row] = &rows[..] else { anyhow::bail!("{said:?}") };
    ensure!(row[1..3] == ["3", "2"] && row[3].parse::<u64>()? > 0, "{said:?}");
    Ok(())
}

fn exhausted(said: &Said) -> Result<()> {
    ensure!(rows(said, &["exhausted", "client", "no_local_port"]).len() >= 3, "{said:?}");
    Ok(())
}

/// By the name of the Service that has the client's address: the server's node does not run it.
fn talked(said: &Said) -> Result<()> {
    let rows = rows(said, &["server"]);
    let of = |backend: &str| rows.iter().any(|row| row[1] == backend && row[3].contains("frontend"));
    ensure!(["backend-0", "backend-1", "backend-2"].into_iter().all(of), "{said:?}");
    Ok(())
}

/// Some lines for thousands of connections, and not one connection too few or too many.
fn flooded(said: &Said) -> Result<()> {
    let lines: Vec<Value> = said.out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let own = lines.iter().map(|line| &line["tcpstates"]);
    let told: u64 = own.filter_map(|own| own["summary"]["by_outcome"]["closed"].as_u64()).sum();
    ensure!(told == FLOOD && lines.len() < 100, "{told} in {} lines: {}", lines.len(), said.errors);
    Ok(())
}
