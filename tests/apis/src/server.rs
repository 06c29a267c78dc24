//! etcd and the API server above it, on free ports of loopback, in a folder of their own.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use ureq::http::{Method, Request};

use crate::kubectl::{Kubectl, SID};
use crate::{program, root};

/// What is ready in a second may take longer on a machine that builds something meanwhile.
const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(50);

/// As kubectl asks for all resources at once.
const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const DESCRIPTION: &str = "/openapi/v3/apis/tcpstates.dev/v1alpha1";
const JSON: (&str, &str) = ("content-type", "application/json");
/// What our definitions define.
const PLURALS: [&str; 3] = ["clustertcpstatetraces", "tcpstatenodes", "tcpstatetraces"];

/// A running server without any definition; ended on drop.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    address: String,
    children: [Running; 2],
}

/// A process that ends with its owner.
#[derive(Debug)]
struct Running(Child);

/// What the server says to a request.
#[derive(Debug)]
pub struct Answer {
    /// 200, 201, 403 ...
    pub code: u16,
    /// An object, or a Status.
    pub body: Value,
}

impl Server {
    /// An empty server that answers.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let etcd = format!("http://{}", free_address()?);
        let children = [start_etcd(&folder, &etcd)?, start_server(&folder, &etcd)?];
        let mut server = Self { address: String::new(), folder, children };
        let address = server.children[1].0.stdout.take().context("the server's stdout")?;
        BufReader::new(address).read_line(&mut server.address).context("read the server's address")?;
        server.address.truncate(server.address.trim_end().len());
        ensure!(!server.address.is_empty(), "the API server ended: {}", server.log());
        let deadline = Instant::now() + PATIENCE;
        while !server.get("/readyz", &[]).is_ok_and(|answer| answer.code == 200) {
            ensure!(Instant::now() < deadline, "the API server is not ready: {}", server.log());
            sleep(PAUSE);
        }
        Ok(server)
    }

    /// A server that knows our definitions.
    pub fn with_definitions() -> Result<Self> {
        let server = Self::start()?;
        server.kubectl(SID)?.well(&["apply", "--filename=crds/yaml"])?;
        server.await_definitions()?;
        Ok(server)
    }

    /// Waits until every definition is served: listed and described too, which comes a moment later.
    pub fn await_definitions(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for (path, accept) in [("/apis", DISCOVERY), (DESCRIPTION, JSON.1)] {
            while !names_all(&self.get(path, &[("accept", accept)])?.body.to_string()) {
                ensure!(Instant::now() < deadline, "{path} lacks one of {PLURALS:?}: {}", self.conditions()?);
                sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// A kubectl that asks this server: [`SID`] or `TRIXIE`.
    pub fn kubectl(&self, release: &str) -> Result<Kubectl> {
        Kubectl::new(release, &self.address, self.folder.path())
    }

    /// What is at a path of the API. Headers say on whose behalf one asks, and how.
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        self.ask(Method::GET, path, headers, &Value::Null)
    }

    /// What comes of making an object.
    pub fn make(&self, path: &str, headers: &[(&str, &str)], object: &Value) -> Result<Answer> {
        self.ask(Method::POST, path, &[headers, &[JSON]].concat(), object)
    }

    /// What comes of putting one in the place of what is there.
    pub fn replace(&self, path: &str, headers: &[(&str, &str)], object: &Value) -> Result<Answer> {
        self.ask(Method::PUT, path, &[headers, &[JSON]].concat(), object)
    }

    /// What comes of merging some of one into it.
    pub fn merge(&self, path: &str, object: &Value) -> Result<Answer> {
        self.ask(Method::PATCH, path, &[("content-type", "application/merge-patch+json")], object)
    }

    fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &Value) -> Result<Answer> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.run(request.body(body)?).with_context(|| format!("ask {path}"))?;
        let text = answer.body_mut().read_to_string().context("read the answer")?;
        // Whether it is ready, it says in words.
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { code: answer.status().as_u16(), body })
    }

    /// What the server says of each definition.
    fn conditions(&self) -> Result<String> {
        let list = self.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &[])?.body;
        let conditions = |one: &Value| one["status"]["conditions"].to_string();
        Ok(list["items"].as_array().into_iter().flatten().map(conditions).collect::<Vec<_>>().join("\n"))
    }

    /// What both programs said last.
    fn log(&self) -> String {
        let last = |name: &str| {
            let text = std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
            text.lines().rev().take(5).collect::<Vec<_>>().join("\n")
        };
        format!("{}\netcd: {}", last("server.log"), last("etcd.log"))
    }
}

impl Answer {
    /// The object that was made.
    #[track_caller]
    pub fn made(self) -> Result<Value> {
        ensure!(matches!(self.code, 200 | 201), "{}: {}", self.code, self.body["message"]);
        Ok(self.body)
    }

    /// Each cause why an object is refused: the field and the words.
    pub fn causes(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let causes = self.body["details"]["causes"].as_array().into_iter().flatten();
        causes.map(|cause| (text(&cause["field"]), text(&cause["message"]))).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended and been waited for already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start_etcd(folder: &TempDir, address: &str) -> Result<Running> {
    let mut etcd = program("etcd")?;
    etcd.arg(format!("--data-dir={}", folder.path().join("etcd").display()));
    etcd.arg(format!("--listen-client-urls={address}")).arg(format!("--advertise-client-urls={address}"));
    etcd.arg(format!("--listen-peer-urls=http://{}", free_address()?));
    // Nothing outlives the test.
    start(folder, etcd.arg("--unsafe-no-fsync"), "etcd.log")
}

fn start_server(folder: &TempDir, etcd: &str) -> Result<Running> {
    let mut server = program("crd-server")?;
    server.arg(format!("--etcd={etcd}"));
    let policies = root().join("manifests/policies/own-report.yaml");
    server.arg(format!("--policies={}", policies.display())).stdout(Stdio::piped());
    start(folder, &mut server, "server.log")
}

fn start(folder: &TempDir, command: &mut Command, log: &str) -> Result<Running> {
    let log = File::create(folder.path().join(log)).context("make a log")?;
    let child = command.stdin(Stdio::null()).stderr(log).spawn();
    child.map(Running).with_context(|| format!("start {}", command.get_program().display()))
}

/// Whether a text has each of the plurals as a name, or as the end of a path.
fn names_all(text: &str) -> bool {
    PLURALS
        .iter()
        .all(|plural| ["\"", "/"].iter().any(|before| text.contains(&format!("{before}{plural}\""))))
}

/// An address of loopback that nobody has; somebody may take it at any time.
fn free_address() -> Result<SocketAddr> {
    let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) else { bail!("bind to a free port") };
    listener.local_addr().context("a listener has an address")
}
