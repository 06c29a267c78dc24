//! What `/proc` says about the tracer under test, and the errors of asking.

use std::fs;
use std::path::PathBuf;

/// A process looked at from outside.
#[derive(Clone, Copy, Debug)]
pub struct Process(pub u32);

impl Process {
    /// Resident memory in bytes.
    pub fn resident(self) -> u64 {
        self.status(&self.folder().join("status"), "VmRSS:") * 1024
    }

    /// Times that any of its threads went to sleep by itself: one for each time it had been woken.
    pub fn sleeps(self) -> u64 {
        let tasks = fs::read_dir(self.folder().join("task")).expect("the process is there");
        tasks.flatten().map(|task| self.status(&task.path().join("status"), "voluntary_ctxt_switches:")).sum()
    }

    /// CPU time of all its threads, in ticks of 10 ms.
    pub fn ticks(self) -> u64 {
        let stat = fs::read_to_string(self.folder().join("stat")).expect("the process is there");
        // The name may hold anything; behind it are the third field and those after it (proc_pid_stat(5)).
        let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
        fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }

    fn folder(self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.0))
    }

    fn status(self, path: &std::path::Path, key: &str) -> u64 {
        let text =
            fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
        let value = text.lines().find_map(|line| line.strip_prefix(key)).and_then(|rest| {
            let number = rest.split_whitespace().next()?;
            number.parse().ok()
        });
        value.unwrap_or_else(|| panic!("{} of process {} has no {key}", path.display(), self.0))
    }
}

/// A counter of the network namespace that a process is in: the group that begins its lines in `net/netstat` or
/// `net/snmp`, and its name there.
pub fn netstat(pid: u32, group: &str, name: &str) -> u64 {
    let read = |file| fs::read_to_string(format!("/proc/{pid}/net/{file}")).expect("the process runs");
    let text = ["netstat", "snmp"].map(read).concat();
    let mut rows = text.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(": "));
    let (names, values) = (rows.next().unwrap_or_default(), rows.next().unwrap_or_default());
    let found = names.split(' ').zip(values.split(' ')).find(|(known, _)| *known == name);
    let value = found.and_then(|(_, value)| value.parse().ok());
    value.unwrap_or_else(|| panic!("no {group} {name} in {text}"))
}
