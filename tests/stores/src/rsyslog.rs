//! rsyslogd with the configuration that deploy/rsyslog/ gives to users, but for where it reads and where it sends.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const CONFIGURATION: &str = include_str!("../../../deploy/rsyslog/60-kube-tcpstates.conf");
const PATIENCE: Duration = Duration::from_secs(20);

/// A running rsyslogd; ended on drop.
#[derive(Debug)]
pub struct Rsyslog {
    child: Child,
    /// Gone when it was stopped.
    folder: Option<TempDir>,
}

impl Rsyslog {
    /// Reads the logs below `pods`, sends to `to`.
    #[track_caller]
    pub fn start(pods: &Path, to: SocketAddr) -> Self {
        Self::start_in(tempfile::tempdir().expect("make a folder"), pods, to)
    }

    /// Goes on where the one that had this folder ended.
    #[track_caller]
    pub fn start_in(folder: TempDir, pods: &Path, to: SocketAddr) -> Self {
        let place = folder.path().display();
        let own = replaced(
            CONFIGURATION,
            &[
                ("/var/log/pods/", &format!("{}/", pods.display())),
                ("http://elasticsearch.logging:9200", &format!("http://{to}/insert/elasticsearch")),
                ("/var/spool/rsyslog", &place.to_string()),
            ],
        );
        let whole = format!("global(workDirectory=\"{place}\")\n{own}");
        let file = folder.path().join("rsyslog.conf");
        fs::write(&file, whole).expect("write the configuration");
        let log = File::create(folder.path().join("log")).expect("make its log");
        let log_too = log.try_clone().expect("its log, again");
        let child = Command::new("rsyslogd")
            .arg("-n")
            .arg("-f")
            .arg(&file)
            .arg("-i")
            .arg(folder.path().join("pid"))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .spawn()
            .expect("start rsyslogd");
        Self { child, folder: Some(folder) }
    }

    /// What it said of itself.
    pub fn log(&self) -> String {
        let log = self.folder.as_ref().map(|folder| folder.path().join("log"));
        log.and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default()
    }

    /// Ends it as its service does; the folder has what it knows: how far it read, and what still waits.
    pub fn stop(mut self) -> TempDir {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::TERM).expect("end rsyslogd");
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("wait for rsyslogd").is_none() {
            assert!(Instant::now() < deadline, "rsyslogd does not end: {}", self.log());
            sleep(Duration::from_millis(20));
        }
        self.folder.take().expect("it is there until now")
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        // Both fail only when it has ended and been waited for already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Each of them must be there, or the test would run something else.
#[track_caller]
fn replaced(text: &str, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the configuration does not say `{from}`");
        text.replace(from, to)
    })
}
