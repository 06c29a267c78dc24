//! What a user reads: the agents' lines and what kubectl prints are what the documentation says.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Child;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context as _, Result};
use kube_tcpstates_e2e_tests::agent::Agents;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B, place};
use kube_tcpstates_e2e_tests::line::Line;
use kube_tcpstates_e2e_tests::scene::{Scene, arguments};
use kube_tcpstates_e2e_tests::wait;
use serde_json::json;

pub(crate) const TESTS: crate::Tests = &[
    ("every_line_that_the_documented_command_shows_is_valid_by_the_published_schema", logs),
    ("kubectl_prints_of_nodes_and_traces_what_the_documentation_shows", tables),
];

const PATIENCE: Duration = Duration::from_secs(30);
/// By each of two clients.
const REFUSED: usize = 20;

fn logs(cluster: &Cluster) -> Result<()> {
    let _agents = Agents::install(cluster)?;
    let scene = Scene::new(cluster, "shop")?;
    let example = place::given("KUBE_TCPSTATES_MANIFESTS")?.join("examples/refused-connects.yaml");
    cluster.kubectl().apply(&read(&example)?)?;
    let mut follower = Follower::start(cluster)?;
    let server = scene.server("server", &json!({"app": "server"}), NODE_A, &[8080])?;
    let mut flags = arguments([&server], &["refused", "client-close"], 2 * REFUSED as u64)?;
    // The programs are attached when the first pod appears that a trace selects.
    flags.push("--sleep-before-ms=1000".to_owned());
    for node in [NODE_A, NODE_B] {
        scene.client(node.name, &json!({"app": "client"}), node, &flags)?;
    }
    let lines = follower.until_there_are(2 * REFUSED, "shop/refused-connects")?;
    drop(follower);

    let validator = validator()?;
    let mut kinds: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let start = Instant::now();
    for line in &lines {
        let faults: Vec<String> = validator.iter_errors(&line.0).map(|fault| fault.to_string()).collect();
        assert_eq!(faults, [""; 0], "{}", line.0);
        // A log line has no node.
        let kind =
            (line.text("k8s.node.name").unwrap_or_default(), line.text("tcpstates.type").unwrap_or_default());
        *kinds.entry(kind).or_default() += 1;
    }
    eprintln!("{} lines in {} ms: {kinds:?}", lines.len(), start.elapsed().as_millis());
    for node in [NODE_A.name, NODE_B.name] {
        for kind in ["start", "connection"] {
            assert!(kinds.contains_key(&(node, kind)), "no line of type {kind} of {node}");
        }
    }
    Ok(())
}

/// The documented command, at work.
struct Follower {
    kubectl: Child,
    lines: mpsc::Receiver<String>,
}

impl Follower {
    fn start(cluster: &Cluster) -> Result<Self> {
        let document = document("install.md")?;
        let command =
            document.lines().map(str::trim).find(|line| line.starts_with("kubectl -n kube-tcpstates logs"));
        let command = command.context("docs/install.md tells no command that shows the lines")?;
        let arguments: Vec<_> = command.split_whitespace().skip(1).take_while(|word| *word != "|").collect();
        let mut kubectl = cluster.kubectl().command(&arguments).spawn().context("start kubectl")?;
        let output = kubectl.stdout.take().context("kubectl's output")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Ok(Self { kubectl, lines })
    }

    /// Every line up to so many of a trace.
    fn until_there_are(&mut self, count: usize, trace: &str) -> Result<Vec<Line>> {
        let deadline = Instant::now() + PATIENCE;
        let (mut lines, mut seen) = (Vec::new(), 0);
        while seen < count {
            let left = deadline.saturating_duration_since(Instant::now());
            let text =
                self.lines.recv_timeout(left).with_context(|| format!("{seen} lines of {trace} came"))?;
            let [line] = <[Line; 1]>::try_from(Line::parse_all(&text)?).ok().context("not one line")?;
            seen += usize::from(line.is_of(trace));
            lines.push(line);
        }
        Ok(lines)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It would follow for ever; one that has ended by itself is reaped all the same.
        drop(self.kubectl.kill());
        drop(self.kubectl.wait());
    }
}

fn validator() -> Result<jsonschema::Validator> {
    let schema =
        serde_json::from_str(&document("schema/events-v1.json")?).context("the schema is no JSON")?;
    jsonschema::validator_for(&schema).map_err(|error| anyhow::anyhow!("the schema is no schema: {error}"))
}

fn document(name: &str) -> Result<String> {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn tables(cluster: &Cluster) -> Result<()> {
    let _agents = Agents::install(cluster)?;
    let documented = document("resources.md")?;
    let expected = block_with(&documented, "NAME     VERSION")?;
    // An agent's first report may say that it is not Ready yet; the next comes ten seconds later.
    let shown = wait::until("kubectl shows the nodes of docs/resources.md", PATIENCE, || {
        // Just after the definitions were installed the server may not offer them yet.
        let shown = match cluster.kubectl().run(&["get", "tsn"]) {
            Ok(shown) => shown,
            Err(error) => return Ok(Err(error.to_string())),
        };
        Ok(if stable_rows(&shown) == stable_rows(expected) { Ok(shown) } else { Err(shown) })
    })?;
    for row in shown.lines().skip(1) {
        require_true(cluster, row)?;
    }

    // Where a line ends depends on kubectl, and so does what stands above the description.
    let shown = cluster.kubectl().run(&["explain", "tst.spec"])?;
    let shown = shown.split_once("DESCRIPTION:").context("it describes nothing")?.1;
    let expected = block_with(&documented, "DESCRIPTION:")?;
    let expected = expected.split_once("DESCRIPTION:").context("it describes nothing")?.1;
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(shown), words(expected), "docs/resources.md explains another trace than\n{shown}");
    Ok(())
}

/// The header, and of each node what is not of the moment or of the machine.
fn stable_rows(table: &str) -> Vec<Vec<&str>> {
    let mut rows: Vec<Vec<&str>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
    for row in rows.iter_mut().skip(1) {
        // KERNEL, TRACES, EVENTS, LOST, AGE.
        for volatile in [2, 4, 5, 6, 8] {
            if let Some(cell) = row.get_mut(volatile) {
                *cell = "...";
            }
        }
    }
    rows
}

/// What is left out of that is true of the node: NAME VERSION KERNEL HOOK TRACES EVENTS LOST READY AGE.
fn require_true(cluster: &Cluster, row: &str) -> Result<()> {
    let cells: Vec<_> = row.split_whitespace().collect();
    let [name, version, kernel, _, traces, events, lost, _, age] = cells[..] else {
        anyhow::bail!("not nine columns: {row}")
    };
    let node = cluster.kubectl().get(&format!("/api/v1/nodes/{name}"))?;
    assert_eq!(node["status"]["nodeInfo"]["kernelVersion"], kernel, "{row}");
    assert_eq!(version, env!("CARGO_PKG_VERSION"), "{row}");
    assert!([traces, events, lost].iter().all(|count| count.parse::<u64>().is_ok()), "{row}");
    assert!(age.starts_with(|first: char| first.is_ascii_digit()), "{row}");
    Ok(())
}

/// The fenced block that has this in it.
fn block_with<'a>(document: &'a str, text: &str) -> Result<&'a str> {
    let blocks = document.split("\n```").skip(1).step_by(2);
    let block = blocks
        .map(|block| block.split_once('\n').map_or("", |(_, rest)| rest))
        .find(|block| block.contains(text));
    block.with_context(|| format!("docs/resources.md has no block with {text:?}"))
}
