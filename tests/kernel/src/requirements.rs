//! What a test needs of the machine. A test that cannot run fails and says why: a skipped test reads like a
//! passed one.

use std::fs;
use std::path::Path;

use crate::cgroup;

/// One thing a machine must have.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// User id 0 with `CAP_SYS_ADMIN`: namespaces and cgroups are made.
    Root,
    /// The kernel describes its types.
    Btf,
    /// A cgroup2 hierarchy is mounted, alone or beside v1.
    Cgroup2,
    /// A program in `PATH`.
    Program(&'static str),
}

/// What every test with traffic needs.
pub const USUAL: &[Need] = &[Need::Root, Need::Btf, Need::Cgroup2, Need::Program("ip")];

/// Fails the test unless the machine has all of [`USUAL`] and `more`; takes away what killed runs left behind.
#[track_caller]
pub fn require(more: &[Need]) {
    let missing: Vec<String> = USUAL.iter().chain(more).filter_map(|need| need.missing()).collect();
    assert!(missing.is_empty(), "this test cannot run here: {}", missing.join("; "));
    cgroup::sweep();
    crate::netns::sweep();
}

/// A kernel with kprobes has this.
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe";

/// Whether this machine is emulated (`./x test kernels`): some twenty times slower.
pub fn is_emulated() -> bool {
    std::env::var_os("KUBE_TCPSTATES_EMULATED").is_some()
}

/// The hooks that this kernel can have.
pub fn hooks() -> Vec<&'static str> {
    let mut hooks = vec!["tp_btf", "raw_tp", "tracepoint"];
    if Path::new(KPROBES).exists() {
        hooks.push("kprobe");
    }
    hooks
}

impl Need {
    fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!rustix::process::geteuid().is_root()).then(|| "it must run as root".to_owned()),
            Self::Btf => {
                let path = "/sys/kernel/btf/vmlinux";
                (!Path::new(path).exists()).then(|| format!("the kernel has no BTF ({path})"))
            }
            Self::Cgroup2 => cgroup::mount().is_none().then(|| "no cgroup2 hierarchy is mounted".to_owned()),
            Self::Program(name) => (!in_path(name)).then(|| format!("the program `{name}` is not installed")),
        }
    }
}

fn in_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .any(|folder| fs::metadata(folder.join(name)).is_ok_and(|file| file.is_file()))
}

/// Whether the process that made something is gone, so that what it left may be taken away.
pub(crate) fn is_gone(pid: &str) -> bool {
    pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()
}
