//! The API by plain HTTP: kubectl takes a tenth of a second of a core for each answer, and what is waited for is asked for
//! a thousand times.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::cluster::place;
use crate::wait;

/// What takes a second takes longer on a machine that builds something meanwhile.
const PATIENCE: Duration = Duration::from_mins(1);

/// Talks to a `kubectl proxy`: whoever may open its socket is who started it.
#[derive(Clone, Debug)]
pub struct Api {
    socket: PathBuf,
}

impl Api {
    /// Where the proxy of these tests listens.
    pub(crate) fn new() -> Self {
        Self { socket: Path::new(place::STATE).join("api.socket") }
    }

    /// Waits until the proxy listens.
    pub(crate) fn await_proxy(&self) -> Result<()> {
        wait::until("kubectl proxy listens", PATIENCE, || {
            Ok(UnixStream::connect(&self.socket).map(drop).map_err(|error| error.to_string()))
        })
    }

    /// The proxy's arguments.
    pub(crate) fn proxy(&self) -> [String; 2] {
        ["proxy".to_owned(), format!("--unix-socket={}", self.socket.display())]
    }

    /// What is at a path, as text.
    pub fn text(&self, path: &str) -> Result<String> {
        let (code, body) = self.request("GET", path, "")?;
        ensure!(code == 200, "GET {path}: {code}: {}", body.trim_end());
        Ok(body)
    }

    /// An object, or a list of them.
    pub fn get(&self, path: &str) -> Result<Value> {
        serde_json::from_str(&self.text(path)?).with_context(|| format!("GET {path}: not JSON"))
    }

    /// An object, if there is one of this name.
    pub fn find(&self, path: &str) -> Result<Option<Value>> {
        match self.request("GET", path, "")? {
            (200, body) => serde_json::from_str(&body).with_context(|| format!("GET {path}: not JSON")),
            (404, _) => Ok(None),
            (code, body) => bail!("GET {path}: {code}: {}", body.trim_end()),
        }
    }

    /// Makes an object. kubectl would make five a second, if it is to make many.
    pub fn create(&self, object: &Value) -> Result<()> {
        self.created(object).map(drop)
    }

    /// The same; returns it as the server has it, with its uid.
    pub fn created(&self, object: &Value) -> Result<Value> {
        let path = collection(object)?;
        let (code, body) = self.request("POST", &path, &object.to_string())?;
        ensure!(code == 201, "POST {path}: {code}: {}", body.trim_end());
        serde_json::from_str(&body).with_context(|| format!("POST {path}: not JSON"))
    }

    /// Changes an object by a merge patch.
    pub fn merge(&self, path: &str, change: &Value) -> Result<()> {
        let (code, body) = self.request("PATCH", path, &change.to_string())?;
        ensure!(code == 200, "PATCH {path}: {code}: {}", body.trim_end());
        Ok(())
    }

    /// Deletes an object, without waiting until it is gone. One that is not there is deleted already.
    pub fn delete(&self, object: &Value) -> Result<()> {
        let name = object["metadata"]["name"].as_str().context("an object has a name")?;
        self.delete_path(&format!("{}/{name}", collection(object)?))
    }

    /// Deletes what is at a path: an object, or a list of them.
    pub fn delete_path(&self, path: &str) -> Result<()> {
        let (code, body) = self.request("DELETE", path, "")?;
        ensure!(matches!(code, 200 | 202 | 404), "DELETE {path}: {code}: {}", body.trim_end());
        Ok(())
    }

    /// The status and the body. A request of version 1.0 is answered by a body that ends with the connection.
    fn request(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        let mut stream = UnixStream::connect(&self.socket).context("connect to kubectl proxy")?;
        stream.set_read_timeout(Some(PATIENCE)).context("set kubectl proxy's deadline")?;
        // The proxy answers those alone who call it by this name.
        let kind = if method == "PATCH" { "merge-patch+json" } else { "json" };
        let head = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/{kind}");
        write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .context("write to kubectl proxy")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).with_context(|| format!("{method} {path}"))?;
        parse(&answer).with_context(|| format!("{method} {path}: not an answer: {answer:?}"))
    }
}

/// Where objects of its kind and namespace are. Of the kinds that the tests make, each one's plural has an s more.
fn collection(object: &Value) -> Result<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let version = text(&object["apiVersion"]).context("an object has a version")?;
    let kind = text(&object["kind"]).context("an object has a kind")?.to_lowercase();
    let prefix = if version.contains('/') { "apis" } else { "api" };
    let namespace = text(&object["metadata"]["namespace"]);
    let namespace = namespace.map_or_else(String::new, |namespace| format!("/namespaces/{namespace}"));
    Ok(format!("/{prefix}/{version}{namespace}/{kind}s"))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let code = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    Some((code.parse().ok()?, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_where_its_version_namespace_and_kind_say() {
        let of = |text: &str| collection(&serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(of(r#"{"apiVersion": "v1", "kind": "Node"}"#), "/api/v1/nodes");
        let trace = r#"{"apiVersion": "tcpstates.dev/v1alpha1", "kind": "TcpStateTrace", "metadata": {"namespace": "a"}}"#;
        assert_eq!(of(trace), "/apis/tcpstates.dev/v1alpha1/namespaces/a/tcpstatetraces");
    }

    #[test]
    fn an_answer_is_its_status_and_its_body() {
        let answer = "HTTP/1.0 404 Not Found\r\nContent-Type: application/json\r\n\r\n{}\r\n\r\n";
        assert_eq!(parse(answer), Some((404, "{}\r\n\r\n".to_owned())));
        assert_eq!(parse("not found"), None);
    }
}
