//! Where the figures come from: without it none can be compared with another's.

use std::fs;
use std::process::Command;

use serde::Serialize;

/// The machine, and the versions of what was measured on it.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// As /proc/cpuinfo calls it.
    pub cpu: String,
    /// CPUs that are online.
    pub cpus: usize,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// `uname -r`.
    pub kernel: String,
    /// Congestion control: it decides what a connection costs.
    pub congestion_control: String,
    /// What was measured, and its version.
    pub versions: Vec<(String, String)>,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
        let kilobytes = memory.trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
        Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: kilobytes * 1024,
            kernel: line("/proc/sys/kernel/osrelease"),
            congestion_control: line("/proc/sys/net/ipv4/tcp_congestion_control"),
            versions: versions(),
        }
    }
}

fn line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The first `name : value` of a file.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let (_, value) =
        text.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

fn versions() -> Vec<(String, String)> {
    let commands: [(&str, &str, &[&str]); 5] = [
        ("kube-tcpstates", "git", &["describe", "--always", "--dirty"]),
        ("bpftrace", "bpftrace", &["--version"]),
        ("libbpf-tools", "dpkg-query", &["--show", "--showformat=${Version}", "libbpf-tools"]),
        ("iproute2", "dpkg-query", &["--show", "--showformat=${Version}", "iproute2"]),
        ("linux-perf", "dpkg-query", &["--show", "--showformat=${Version}", "linux-perf"]),
    ];
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        let said = String::from_utf8_lossy(&output.stdout);
        // Some say their name first.
        let version = said.trim().trim_start_matches(program).trim_start();
        output.status.success().then(|| version.to_owned())
    };
    let unknown = || "unknown".to_owned();
    commands
        .map(|(name, program, arguments)| (name.to_owned(), said(program, arguments).unwrap_or_else(unknown)))
        .into()
}
