//! The lines API of one operator, asked as kube-apiserver asks it: at its pod, in the name of somebody.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result};

use crate::cluster::Cluster;

/// The API server's own certificate.
pub const API_SERVER: &str = "front-proxy";

/// The whole answer to a GET in the name of the administrator `admin`; empty when the connection is refused. `who`: a
/// certificate of the cluster's to show.
pub fn ask(cluster: &Cluster, address: &str, path: &str, who: Option<&str>) -> Result<String> {
    let output = start(cluster, address, path, who)?.wait_with_output().context("wait for openssl")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An answer that goes on until this is dropped.
#[derive(Debug)]
pub struct Answer(Child);

impl Answer {
    /// Asks as the API server, and waits for the first line of the answer.
    pub fn begin(cluster: &Cluster, address: &str, path: &str) -> Result<(Self, String)> {
        let mut answer = Self(start(cluster, address, path, Some(API_SERVER))?);
        let mut first = String::new();
        let output = answer.0.stdout.as_mut().context("openssl's output")?;
        BufReader::new(output).read_line(&mut first).context("read an answer")?;
        Ok((answer, first.trim_end().to_owned()))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(cluster: &Cluster, address: &str, path: &str, who: Option<&str>) -> Result<Child> {
    let mut openssl = cluster.nodes()[0].command("openssl");
    // It goes on when there is no more to send.
    openssl.args(["s_client", "-quiet", "-connect", &format!("{address}:9443")]);
    if let Some(who) = who {
        openssl.arg("-cert").arg(cluster.pki().file(&format!("{who}.crt")));
        openssl.arg("-key").arg(cluster.pki().file(&format!("{who}.key")));
    }
    let mut openssl = openssl
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("start openssl")?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: lines\r\nX-Remote-User: admin\r\nX-Remote-Group: system:masters\r\n\
         Connection: close\r\n\r\n"
    );
    let mut input = openssl.stdin.take().context("openssl's stdin")?;
    // A connection that is refused may be gone by then.
    let _ = input.write_all(request.as_bytes());
    Ok(openssl)
}
