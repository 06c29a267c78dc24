//! A hundred thousand lines of a trace, followed by a tenant while the kubelets begin a new file every ten seconds and each
//! agent is killed once: nothing of anybody else comes, nothing twice, and what did not come is told where it is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates_e2e_tests::agent::{Agents, NAMESPACE};
use kube_tcpstates_e2e_tests::agent_pod::AgentPod;
use kube_tcpstates_e2e_tests::cluster::node::Node;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use kube_tcpstates_e2e_tests::kubectl::Kubectl;
use kube_tcpstates_e2e_tests::line::Line;
use kube_tcpstates_e2e_tests::scene::Scene;
use kube_tcpstates_e2e_tests::wait;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::lines::{install, path, tenant, trace};

pub(crate) const TESTS: crate::Tests = &[(
    "of_100000_lines_over_rotations_and_restarts_none_is_anothers_and_what_is_missing_is_told",
    many_lines,
)];

const LINES: usize = 100_000;
/// When which agent is killed.
const KILLED: [(usize, usize); 2] = [(25_000, 1), (60_000, 0)];
const PATIENCE: Duration = Duration::from_mins(5);
const OURS: &str = "many-ours";
const THEIRS: &str = "many-theirs";
/// Lines of the trace, in the files that the nodes keep.
const MENTION: &str = "\"many-ours/clients\"";

/// What came of one run of an agent, in order.
enum Item {
    Line(u64),
    /// So many lines did not come.
    Gap(u64),
}

/// What a reader has got. Of the lines only the numbers are kept.
#[derive(Default)]
struct Got {
    lines: usize,
    runs: BTreeMap<String, Vec<Item>>,
    unfinished: BTreeSet<String>,
    notices: Vec<Value>,
    foreign: Vec<String>,
    end: Option<String>,
}

impl Got {
    fn take(&mut self, text: &str) -> Result<()> {
        let [line] = &Line::parse_all(text)?[..] else { return Ok(()) };
        let run = line.text("tcpstates.run").unwrap_or_default().to_owned();
        if line.is("transition") {
            let is_ours = line.get("tcpstates.traces") == Some(&json!(["many-ours/clients"]))
                && line.text("k8s.namespace.name") == Some(OURS)
                && !text.contains(THEIRS);
            if !is_ours {
                self.foreign.push(text.to_owned());
            }
            self.lines += 1;
            let seq = line.number("tcpstates.seq").context("a line has a number")?;
            self.runs.entry(run).or_default().push(Item::Line(seq));
            return Ok(());
        }
        match line.text("tcpstates.reason") {
            Some("gap") => {
                let lines = line.number("tcpstates.lines").context("a gap has a size")?;
                self.runs.entry(run).or_default().push(Item::Gap(lines));
            }
            Some("unfinished") => drop(self.unfinished.insert(run)),
            reason if line.is("end") => self.end = reason.map(str::to_owned),
            _ => {}
        }
        self.notices.push(line.0.clone());
        Ok(())
    }
}

/// kubectl at work.
struct Reader {
    kubectl: Child,
    lines: Receiver<String>,
    got: Got,
}

impl Reader {
    fn start(kubectl: &Kubectl, path: &str) -> Result<Self> {
        let mut command = kubectl.command(&["get", "--raw", path]);
        let mut kubectl = command.stderr(Stdio::inherit()).spawn().context("start kubectl")?;
        let output = kubectl.stdout.take().context("kubectl's output")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Ok(Self { kubectl, lines, got: Got::default() })
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Got) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&self.got) {
            let left = deadline.saturating_duration_since(Instant::now());
            let text = self.lines.recv_timeout(left);
            let text = text.with_context(|| format!("{what}: {} lines came", self.got.lines))?;
            self.got.take(&text)?;
        }
        Ok(())
    }

    /// Whatever comes until nothing has come for so long.
    fn drain(&mut self, quiet: Duration) -> Result<()> {
        loop {
            match self.lines.recv_timeout(quiet) {
                Ok(text) => self.got.take(&text)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("kubectl has ended: {:?}", self.got.end),
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.kubectl.kill());
        drop(self.kubectl.wait());
    }
}

/// While it lives, the kubelets begin a new file for whatever log has this many bytes. Afterwards the agents are others, so
/// that no file of theirs was rotated.
struct Rotating<'a>(&'a Cluster);

impl<'a> Rotating<'a> {
    fn start(cluster: &'a Cluster) -> Result<Self> {
        let rotating = Self(cluster);
        let mut nodes = cluster.nodes().iter();
        nodes.try_for_each(|node| node.restart_kubelet(cluster.pki(), Some("1Mi")))?;
        Ok(rotating)
    }

    fn end(&self) -> Result<()> {
        let Self(cluster) = self;
        cluster.nodes().iter().try_for_each(|node| node.restart_kubelet(cluster.pki(), None))?;
        let selector = "--selector=app.kubernetes.io/component=agent";
        cluster.kubectl().run(&["delete", "pods", "--namespace", NAMESPACE, selector])?;
        Agents::install(cluster).map(drop)
    }
}

impl Drop for Rotating<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

fn many_lines(cluster: &Cluster) -> Result<()> {
    install(cluster)?;
    let (ours, theirs) = (Scene::new(cluster, OURS)?, Scene::new(cluster, THEIRS)?);
    let tenant = tenant(cluster, &ours)?;
    trace(&tenant, OURS, "clients")?;
    trace(cluster.kubectl(), THEIRS, "clients")?;
    let _rotating = Rotating::start(cluster)?;
    let server = ours.server("server", &json!({"app": "server"}), NODE_A, &[8080])?;
    let mut reader = wait::until("the lines can be read", Duration::from_mins(1), || {
        let mut reader = Reader::start(&tenant, &path(OURS, "clients", "log?follow=true"))?;
        thread::sleep(Duration::from_secs(1));
        // The kubelets have just been started.
        Ok(if reader.kubectl.try_wait()?.is_none() {
            Ok(reader)
        } else {
            Err("kubectl has ended".to_owned())
        })
    })?;
    for scene in [&ours, &theirs] {
        for (name, node) in [("client-a", NODE_A), ("client-b", NODE_B)] {
            let flags: Vec<_> = server.targets().map(|target| format!("--target={target}")).collect();
            let flags = [&flags[..], &["--pace-ms=6".to_owned()]].concat();
            scene.client(name, &json!({"app": "client"}), node, &flags)?;
        }
    }
    let start = Instant::now();
    for (lines, node) in KILLED {
        reader.until("lines", |got| got.lines > lines)?;
        eprintln!("{lines} lines after {:.0} s", start.elapsed().as_secs_f64());
        AgentPod::of_node(cluster, cluster.nodes()[node].identity())?.signal(Signal::KILL)?;
    }
    reader.until("lines", |got| got.lines > LINES)?;
    let took = start.elapsed();
    for namespace in [OURS, THEIRS] {
        let clients = ["delete", "pods", "--selector=app=client", "--wait=false", "--namespace", namespace];
        cluster.kubectl().run(&clients)?;
    }
    reader.drain(Duration::from_secs(8))?;
    tenant.run(&["delete", "tcpstatetrace", "clients", "--namespace", OURS])?;
    reader.until("its end", |got| got.end.is_some())?;
    assert_eq!(reader.got.end.as_deref(), Some("deleted"));
    judge(cluster, &reader.got, took)
}

fn judge(cluster: &Cluster, got: &Got, took: Duration) -> Result<()> {
    let (written, files) = written(cluster.nodes())?;
    let theirs = count(cluster.nodes(), "\"many-theirs/clients\"")?;
    let all: usize = written.values().map(BTreeSet::len).sum();
    eprintln!(
        "{} lines of {all} in {:.0} s, {:.0}/s; {theirs} of another namespace were written to the same {files} files",
        got.lines,
        took.as_secs_f64(),
        f64::from(u32::try_from(got.lines)?) / took.as_secs_f64()
    );
    got.notices.iter().for_each(|notice| eprintln!("{notice}"));
    assert!(got.foreign.is_empty(), "of another: {:?}", &got.foreign[..got.foreign.len().min(3)]);
    assert!(theirs > LINES / 2, "another namespace had {theirs} lines written");
    assert!(files >= 8, "{files} files: hardly anything was rotated");
    let came: BTreeSet<_> = got.runs.keys().collect();
    assert_eq!(came.len(), 4, "two agents, each killed once");
    let mut missing = 0;
    for (run, wanted) in &written {
        let items = got.runs.get(run).with_context(|| format!("nothing came of run {run}"))?;
        missing += judge_run(run, wanted, items, got.unfinished.contains(run))?;
    }
    eprintln!("{missing} lines are missing, each where a gap is told");
    ensure!(missing * 10 < all, "{missing} of {all} lines did not come");
    Ok(())
}

/// How many lines of a run did not come; an error if one of them is not told.
fn judge_run(run: &str, wanted: &BTreeSet<u64>, items: &[Item], is_unfinished: bool) -> Result<usize> {
    let (mut latest, mut told, mut missing, mut strange) = (0, 0, 0, 0);
    for item in items {
        match item {
            Item::Gap(lines) => told += lines,
            Item::Line(seq) => {
                ensure!(*seq > latest, "run {run}: {seq} came behind {latest}");
                if !wanted.contains(seq) {
                    // See above: what was written in two parts is no line of a file.
                    strange += 1;
                }
                let absent = wanted.range(latest + 1..*seq).count();
                ensure!(
                    absent as u64 <= told,
                    "run {run}: {absent} lines are missing between {latest} and {seq}, and {told} are told"
                );
                missing += absent;
                (latest, told) = (*seq, 0);
            }
        }
    }
    ensure!(strange <= 3, "run {run}: {strange} lines are in no file");
    let behind = wanted.range(latest + 1..).count();
    ensure!(behind == 0 || is_unfinished, "run {run}: {behind} lines behind {latest} did not come");
    Ok(missing + behind)
}

/// The numbers of the trace's lines by run, and how many files they are in.
fn written(nodes: &[Node]) -> Result<(BTreeMap<String, BTreeSet<u64>>, usize)> {
    let mut runs: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    let mut files = 0;
    each_file(nodes, |file, text| {
        files += 1;
        for line in text.lines().filter(|line| line.contains(MENTION)) {
            let of_line = || {
                let run = between(line, "\"run\":\"", "\"")?;
                Some((run.to_owned(), between(line, "\"seq\":", ",")?.parse().ok()?))
            };
            // One that was being written when the file was changed, or the agent killed, is in two parts.
            let Some((run, seq)) = of_line() else {
                eprintln!("{}: not a whole line: {line}", file.display());
                continue;
            };
            runs.entry(run).or_default().insert(seq);
        }
        Ok(())
    })?;
    Ok((runs, files))
}

fn count(nodes: &[Node], mention: &str) -> Result<usize> {
    let mut count = 0;
    each_file(nodes, |_, text| {
        count += text.lines().filter(|line| line.contains(mention)).count();
        Ok(())
    })?;
    Ok(count)
}

/// Each file of each agent's log, those among them that were rotated away and compressed.
fn each_file(nodes: &[Node], mut judge: impl FnMut(&Path, &str) -> Result<()>) -> Result<()> {
    for node in nodes {
        for pod in fs::read_dir(node.directory().join("log/pods")).context("list the logs of pods")?.flatten()
        {
            if !pod.file_name().to_string_lossy().starts_with("kube-tcpstates_kube-tcpstates-agent-") {
                continue;
            }
            for file in fs::read_dir(pod.path().join("agent")).context("list an agent's logs")?.flatten() {
                let output =
                    Command::new("gzip").arg("-dcf").arg(file.path()).output().context("start gzip")?;
                ensure!(output.status.success(), "gzip {}", file.path().display());
                judge(&file.path(), &String::from_utf8_lossy(&output.stdout))?;
            }
        }
    }
    Ok(())
}

fn between<'a>(text: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(behind).map(|(found, _)| found)
}
