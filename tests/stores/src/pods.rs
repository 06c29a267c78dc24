//! Log files as a kubelet has them: `/var/log/pods/NAMESPACE_POD_UID/CONTAINER/N.log`, each line with the runtime's words
//! in front (CRI: time, stream, `F`, or `P` for a piece that goes on in the next line).

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

const TIME: &str = "2026-11-27T16:30:00.123456789Z";

/// The folder of pods' logs, with the agent's in it.
#[derive(Debug)]
pub struct Pods {
    folder: TempDir,
    container: PathBuf,
    log: File,
    rotated: u32,
}

impl Pods {
    /// An agent that has written nothing yet.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("make a folder");
        let pod = "kube-tcpstates_kube-tcpstates-agent-x7k2p_7d0f6a41-2c9b-4e86-b1f3-5a6b7c8d9e0f";
        let container = folder.path().join(pod).join("agent");
        fs::create_dir_all(&container).expect("make the container's folder");
        let log = create(&container.join("0.log"));
        Self { folder, container, log, rotated: 0 }
    }

    /// In the place of `/var/log/pods`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A line of the container, whole.
    pub fn write(&mut self, line: &[u8]) {
        self.append("stdout F", line);
    }

    /// The same in two pieces, as runtimes cut what is longer than 16 KiB.
    pub fn write_in_pieces(&mut self, line: &[u8]) {
        let (first, rest) = line.split_at(line.len() / 2);
        self.append("stdout P", first);
        self.append("stdout F", rest);
    }

    /// What a process says on stderr, which is no line.
    pub fn complain(&mut self, text: &str) {
        self.append("stderr F", text.as_bytes());
    }

    /// The kubelet moves the file aside, and the runtime begins another.
    pub fn rotate(&mut self) {
        self.rotated += 1;
        let aside = format!("0.log.20261127-1630{:02}", self.rotated);
        fs::rename(self.container.join("0.log"), self.container.join(aside)).expect("move the log aside");
        self.log = create(&self.container.join("0.log"));
    }

    fn append(&mut self, words: &str, text: &[u8]) {
        let mut line = format!("{TIME} {words} ").into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        self.log.write_all(&line).expect("write the log");
    }
}

impl Default for Pods {
    fn default() -> Self {
        Self::new()
    }
}

fn create(path: &Path) -> File {
    OpenOptions::new().create_new(true).append(true).open(path).expect("make a log file")
}
