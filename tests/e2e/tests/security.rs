//! The pods run with the security context that is specified: as the API server has it and as the kernel has it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use kube_tcpstates_e2e_tests::agent::Agents;
use kube_tcpstates_e2e_tests::agent_pod::AgentPod;
use kube_tcpstates_e2e_tests::cluster::{Cluster, NODE_A, NODE_B};
use serde_json::{Value, json};

pub(crate) const TESTS: crate::Tests =
    &[("the_agents_run_with_the_specified_security_context_and_no_more", security_context)];

/// Numbers of `include/uapi/linux/capability.h`.
const DAC_READ_SEARCH: u64 = 2;
const PERFMON: u64 = 38;
const BPF: u64 = 39;

fn security_context(cluster: &Cluster) -> Result<()> {
    Agents::install(cluster)?;
    for node in [NODE_A, NODE_B] {
        let pod = AgentPod::of_node(cluster, node)?;
        check_spec(&pod.object["spec"]);
        check_process(pod.process()?)?;
    }
    Ok(())
}

fn check_spec(spec: &Value) {
    let containers = spec["containers"].as_array().map_or(0, Vec::len);
    assert_eq!((containers, &spec["initContainers"]), (1, &Value::Null), "one container");
    let container = &spec["containers"][0];
    let specified = json!({
        "runAsUser": 0,
        "privileged": false,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"], "add": ["BPF", "PERFMON", "DAC_READ_SEARCH"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    assert_eq!(container["securityContext"], specified);
    assert_eq!(spec["securityContext"], json!({}), "nothing else for the pod as a whole");
    for namespace in ["hostPID", "hostNetwork", "hostIPC", "shareProcessNamespace"] {
        assert_ne!(spec[namespace], true, "{namespace}");
    }
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    let paths: Vec<_> = volumes.filter_map(|volume| volume["hostPath"]["path"].as_str()).collect();
    assert_eq!(paths, ["/sys/fs/cgroup"], "of the node it sees no more");
}

fn check_process(id: u32) -> Result<()> {
    let process = PathBuf::from("/proc").join(id.to_string());
    let read = |name: &str| {
        fs::read_to_string(process.join(name)).with_context(|| format!("read {name} of process {id}"))
    };
    let status = read("status")?;
    let field = |name: &str| -> String {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let capabilities = format!("{:016x}", 1 << BPF | 1 << PERFMON | 1_u64 << DAC_READ_SEARCH);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(field(set), capabilities, "{set}");
    }
    assert_eq!(field("CapAmb"), format!("{:016x}", 0));
    assert_eq!(
        (field("Uid"), field("NoNewPrivs"), field("Seccomp")),
        ("0 0 0 0".to_owned(), "1".to_owned(), "2".to_owned())
    );

    let mounts = read("mountinfo")?;
    let writable: Vec<_> = mounts.lines().filter_map(writable_mount).filter(|path| !is_usual(path)).collect();
    assert!(writable.is_empty(), "{writable:?} can be written to:\n{mounts}");
    let host = mounts.lines().filter_map(mount).find(|(path, _)| *path == "/host/sys/fs/cgroup");
    let is_read_only = host.is_some_and(|(_, options)| options.split(',').any(|option| option == "ro"));
    assert!(is_read_only, "the host's cgroups are there, read-only:\n{mounts}");

    for namespace in ["pid", "net", "ipc", "uts", "mnt"] {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{namespace}"));
        assert_ne!(of(&id.to_string())?, of("self")?, "the {namespace} namespace is the machine's");
    }
    Ok(())
}

/// Path and options of a line of mountinfo (proc(5)): the fifth and the sixth word.
fn mount(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split(' ').skip(4);
    Some((words.next()?, words.next()?))
}

fn writable_mount(line: &str) -> Option<&str> {
    let (path, options) = mount(line)?;
    options.split(',').any(|option| option == "rw").then_some(path)
}

/// What every container may write to on this runtime. The hierarchies of a hybrid or version 1 layout are mounts of
/// their own below the host's /sys/fs/cgroup, and `readOnly` is not for those below: that takes `recursiveReadOnly`
/// (Kubernetes 1.30). With cgroup2 alone there is one mount, and it is read-only.
fn is_usual(path: &str) -> bool {
    const USUAL: [&str; 10] = [
        "/proc",
        "/proc/keys",
        "/proc/timer_list",
        "/dev",
        "/dev/shm",
        "/dev/mqueue",
        "/dev/pts",
        "/dev/termination-log",
        "/etc/hosts",
        "/sys/fs/cgroup",
    ];
    USUAL.contains(&path) || path.starts_with("/host/sys/fs/cgroup/")
}
