//! `VictoriaLogs` in a folder of its own, on a free port of loopback.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Longest time that what was sent may take to be found.
const PATIENCE: Duration = Duration::from_secs(40);

/// A running store; ended on drop.
#[derive(Debug)]
pub struct Store {
    child: Child,
    folder: TempDir,
    address: SocketAddr,
}

/// A row of an answer: fields by name. The store gives every value as text.
pub type Row = BTreeMap<String, String>;

impl Store {
    /// An empty store that answers.
    #[track_caller]
    pub fn start() -> Self {
        let program =
            std::env::var_os("VICTORIA_LOGS_BIN").expect("VICTORIA_LOGS_BIN: `./x test stores` sets it");
        let folder = tempfile::tempdir().expect("make a folder");
        let address = free_address();
        let log = File::create(folder.path().join("log")).expect("make its log");
        let child = Command::new(program)
            .arg(format!("-storageDataPath={}", folder.path().join("data").display()))
            .arg(format!("-httpListenAddr={address}"))
            .args(["-memory.allowedBytes=256MiB", "-search.maxQueryDuration=20s"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start VictoriaLogs");
        let store = Self { child, folder, address };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "VictoriaLogs does not listen: {}", store.log());
            sleep(Duration::from_millis(20));
        }
        store
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The answer to a query of `LogsQL`.
    #[track_caller]
    pub fn ask(&self, query: &str) -> Vec<Row> {
        let url = format!("http://{}/select/logsql/query", self.address);
        let answer = ureq::post(&url).send_form([("query", query)]);
        let mut answer = answer.unwrap_or_else(|error| panic!("{query}: {error}: {}", self.log()));
        let text = answer.body_mut().read_to_string().expect("read the answer");
        text.lines().map(|line| row(&serde_json::from_str(line).expect("a row is JSON"))).collect()
    }

    /// Every row of a run, once there are so many that all who were sent can be there.
    #[track_caller]
    pub fn rows_of(&self, run: &str, at_least: usize) -> Vec<Row> {
        self.until(&format!("tcpstates.run:={run} | limit 100000"), at_least)
    }

    /// The answer to a query once it has so many rows, a moment later: what comes twice is then there.
    #[track_caller]
    pub fn until(&self, query: &str, at_least: usize) -> Vec<Row> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let rows = self.ask(query);
            if rows.len() >= at_least {
                sleep(Duration::from_secs(1));
                return self.ask(query);
            }
            assert!(
                Instant::now() < deadline,
                "{} of {at_least} rows of {query}: {}",
                rows.len(),
                self.log()
            );
            sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Both fail only when it has ended and been waited for already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An address of loopback that nobody has; somebody may take it at any time.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind to a free port");
    listener.local_addr().expect("a listener has an address")
}

fn row(value: &Value) -> Row {
    let fields = value.as_object().expect("a row is an object");
    fields.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

/// A time to the nanosecond: the store writes no zeros at its end.
pub fn time(text: Option<&String>) -> jiff::Timestamp {
    text.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{text:?} is no time"))
}

/// The members of a line under their paths, as the store writes values: what a row must have.
pub fn flattened(line: &Value) -> Row {
    let mut into = Row::new();
    flatten(&mut into, String::new(), line);
    into
}

fn flatten(into: &mut Row, path: String, value: &Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(into, path, member);
            }
        }
        Value::String(text) => drop(into.insert(path, text.clone())),
        other => drop(into.insert(path, other.to_string())),
    }
}

/// The numbers of rows, in order: each must be there once.
#[track_caller]
pub fn assert_each_once(rows: &[Row], numbers: impl IntoIterator<Item = u64>) {
    let mut have: Vec<u64> = rows
        .iter()
        .filter_map(|row| row.get("tcpstates.seq"))
        .map(|seq| seq.parse().expect("a number"))
        .collect();
    have.sort_unstable();
    assert_eq!(have, numbers.into_iter().collect::<Vec<_>>(), "numbers in the store");
}
