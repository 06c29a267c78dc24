//! Many objects at a time: kubectl takes tens of milliseconds for each, and these are thousands.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::cluster::place;
use crate::kubectl::Kubectl;
use crate::wait;

/// Requests under way at a time.
const THREADS: usize = 8;

/// `kubectl proxy` on a socket: whoever may open it is the administrator. Ends when it is dropped.
#[derive(Debug)]
pub struct Flood {
    proxy: Child,
    socket: PathBuf,
}

impl Flood {
    /// Opens the way.
    pub fn open(kubectl: &Kubectl) -> Result<Self> {
        let socket = Path::new(place::STATE).join("api.socket");
        let mut command = kubectl.command(&["proxy", &format!("--unix-socket={}", socket.display())]);
        let proxy =
            command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("start kubectl proxy")?;
        let flood = Self { proxy, socket };
        wait::until("kubectl proxy listens", Duration::from_secs(20), || {
            Ok(UnixStream::connect(&flood.socket).map(drop).map_err(|error| error.to_string()))
        })?;
        Ok(flood)
    }

    /// Posts to `path` what `object` makes of every number below `count`.
    pub fn post(&self, path: &str, count: usize, object: impl Fn(usize) -> String + Sync) -> Result<()> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                self.request(path, &object(number))?;
            }
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(outcome) => outcome,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }

    fn request(&self, path: &str, body: &str) -> Result<()> {
        let mut stream = UnixStream::connect(&self.socket).context("connect to kubectl proxy")?;
        // The proxy answers those alone who call it by this name.
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json"
        );
        write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .context("write to kubectl proxy")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("read from kubectl proxy")?;
        ensure!(answer.starts_with("HTTP/1.1 201"), "POST {path}: {answer}");
        Ok(())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        if let Err(error) = self.proxy.kill().and_then(|()| self.proxy.wait()) {
            eprintln!("cannot end kubectl proxy: {error}");
        }
        // It was killed and leaves its socket, in the way of the next one.
        if let Err(error) = fs::remove_file(&self.socket) {
            eprintln!("cannot remove {}: {error}", self.socket.display());
        }
    }
}
