//! Findings about the kernel and the process's limits.

use std::{fs, path::Path};

use super::Finding;
use crate::kernel::{Hook, kernel_release, kernel_version};

const BTF: &str = "/sys/kernel/btf/vmlinux";
/// The oldest kernel that the tests have seen, and the first that runs programs when asked to (`BPF_PROG_TEST_RUN` of raw
/// tracepoints), by which what is open is found.
const OLDEST: (u32, u32) = (5, 10);

pub(super) fn kernel() -> Finding {
    of_release(&kernel_release())
}

fn of_release(release: &str) -> Finding {
    let ok = kernel_version(release).is_none_or(|version| version >= OLDEST);
    let detail = format!("{release}; 5.10 is the oldest that can be traced");
    Finding { name: "kernel", ok, required: true, detail }
}

pub(super) fn btf(hook: Option<Hook>) -> Finding {
    let ok = fs::File::open(BTF).is_ok();
    let detail = if ok {
        format!("{BTF}: hook tp_btf, the socket's own cgroup")
    } else {
        format!("{BTF} is not readable (CONFIG_DEBUG_INFO_BTF): only the classic tracepoint, without cgroups")
    };
    Finding { name: "btf", ok, required: !matches!(hook, None | Some(Hook::Tracepoint)), detail }
}

pub(super) fn tracefs(hook: Option<Hook>) -> Finding {
    let roots = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
    let found =
        roots.iter().find(|root| Path::new(root).join("events/sock/inet_sock_set_state/format").exists());
    let detail = match found {
        Some(root) => format!("{root}: the classic tracepoint can be used"),
        None => "not mounted or not readable: only the classic tracepoint needs it".to_owned(),
    };
    Finding { name: "tracefs", ok: found.is_some(), required: hook == Some(Hook::Tracepoint), detail }
}

pub(super) fn lockdown() -> Finding {
    let text = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let mode =
        text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("none", |(mode, _)| mode);
    Finding {
        name: "lockdown",
        ok: mode != "confidentiality",
        required: false,
        detail: format!("{mode}; confidentiality forbids programs to read kernel memory"),
    }
}

pub(super) fn memlock() -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let old = kernel_version(&kernel_release()).is_some_and(|version| version < (5, 11));
    let shown = limit.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{bytes} bytes"));
    Finding {
        name: "memlock",
        ok: !old || limit.is_none_or(|bytes| bytes >= 64 << 20),
        required: false,
        detail: format!(
            "RLIMIT_MEMLOCK {shown}; before 5.11 it bounds eBPF maps (raise it: CAP_SYS_RESOURCE)"
        ),
    }
}

pub(super) fn seccomp() -> Finding {
    let mode = procfs::process::Process::myself()
        .and_then(|process| process.status())
        .ok()
        .and_then(|status| status.seccomp);
    let filtered = mode == Some(2);
    Finding {
        name: "seccomp",
        ok: true,
        required: false,
        detail: if filtered {
            "a filter is in force: if loading is refused below, it must allow bpf(2)".to_owned()
        } else {
            "no filter".to_owned()
        },
    }
}

pub(super) fn selinux() -> Finding {
    let label = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    let (ok, detail) = confined(label.trim_end_matches(['\0', '\n']));
    Finding { name: "selinux", ok, required: false, detail }
}

/// What the label of a process says. Whether `SELinux` is enforcing is not to be seen in a container, and the label alone
/// denies nothing where it is not.
fn confined(label: &str) -> (bool, String) {
    let words: Vec<&str> = label.split(':').collect();
    // AppArmor's profiles stand in the same file, and have no colons of this kind.
    let &[_, role, kind, ..] = &words[..] else { return (true, "no label".to_owned()) };
    if !role.ends_with("_r") || !kind.starts_with("container_") {
        return (true, format!("{kind}: none of those that containers are confined to"));
    }
    let detail = format!(
        "{kind} may not use bpf(2) where SELinux is enforcing: if loading is refused below with EACCES, this is why; run as \
         spc_t (overlay selinux)"
    );
    (false, detail)
}

pub(super) fn journal() -> Finding {
    let ok = Path::new(crate::outlet::JOURNAL_SOCKET).exists();
    Finding {
        name: "journal",
        ok,
        required: false,
        detail: format!("{}, for -Y", crate::outlet::JOURNAL_SOCKET),
    }
}

#[cfg(test)]
mod tests {
    use super::{confined, of_release};

    #[test]
    fn kernels_before_the_oldest_that_was_seen_are_told_so() {
        for (release, ok) in
            [("5.9.16", false), ("5.10.0-32-cloud-amd64", true), ("7.2.1", true), ("?", true)]
        {
            let finding = of_release(release);
            assert!(finding.ok == ok && finding.detail.contains("5.10 is the oldest"), "{finding:?}");
        }
    }

    #[test]
    fn a_label_that_denies_bpf_is_named_and_no_other() {
        let (ok, detail) = confined("system_u:system_r:container_t:s0:c12,c34");
        assert!(
            !ok && detail.starts_with("container_t may not use bpf(2)") && detail.contains("spc_t"),
            "{detail}"
        );
        for label in [
            "system_u:system_r:spc_t:s0",
            "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023",
            "cri-containerd.apparmor.d (enforce)",
            "unconfined",
            "",
        ] {
            assert!(confined(label).0, "{label}");
        }
    }
}
