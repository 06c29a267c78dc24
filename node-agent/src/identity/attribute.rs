//! Which evidence names a socket's owner: its own cgroup, else its task, else a namespace that is private to somebody.
//! Pure: whoever calls has done the look-ups.

use std::sync::Arc;

use kube_tcpstates_events::{AttributionSource as Source, AttributionStatus as Status};

use super::model::Identity;
use super::netns::Found;

/// The owner of a socket, as far as it is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribution {
    /// Absent for `Unknown`, and for a host of which no slice or unit is known.
    pub identity: Option<Arc<Identity>>,
    /// What named it.
    pub source: Source,
    /// How it went.
    pub status: Status,
}

/// The socket's own cgroup.
#[derive(Clone, Copy, Debug)]
pub enum SocketCgroup<'a> {
    /// It could not be read (no BTF, id 0).
    Unread,
    /// Its id is read; neither index nor look-up by id knows it.
    Unindexed,
    /// Known.
    Known(&'a Arc<Identity>),
}

/// All there is about one socket.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The socket's own cgroup.
    pub cgroup: SocketCgroup<'a>,
    /// The cgroup v1 of the task that connected or listened, as the kernel had it then. Absent where it was not read.
    pub task_cgroup: Option<&'a Arc<Identity>>,
    /// The cgroup of the owner's task, as /proc has it. Absent where there is no owner, where it is gone, and where it was
    /// not asked for.
    pub task: Option<&'a Arc<Identity>>,
    /// What its namespace says. `Found::Unknown` where it was not asked.
    pub netns: &'a Found,
    /// All processes of the host are in the unified hierarchy (cgroup v2 alone, not hybrid, not v1), so the root means
    /// the host.
    pub unified: bool,
}

/// Decides.
pub fn attribute(evidence: Evidence<'_>) -> Attribution {
    let Evidence { cgroup, task_cgroup, task, netns, unified } = evidence;
    let own = match cgroup {
        SocketCgroup::Known(identity) if !identity.is_root() => Some(identity),
        _ => None,
    };
    // In a hybrid layout a runtime that only knows cgroup v1 leaves its containers' processes in the unified group of
    // its own unit: there a host's unit is the last thing to believe.
    if let Some(identity) = own.filter(|identity| unified || identity.is_contained()) {
        return named(identity, Source::SocketCgroup);
    }
    let tasks = || [(task_cgroup, Source::TaskCgroup), (task, Source::Task)].into_iter();
    let told = |test: fn(&Identity) -> bool| {
        tasks().find_map(|(told, source)| Some((told.filter(|identity| test(identity))?, source)))
    };
    if let Some((identity, source)) = told(Identity::is_contained) {
        return named(identity, source);
    }
    // Whose task is known, and in no container, it is the host's in whatever namespace: a runtime forwards a port from
    // within a pod's.
    if let Some((_, source)) = told(|_| true) {
        let by_task = || told(|identity| !identity.is_root());
        let unit = own.map(|own| (own, Source::SocketCgroup)).or_else(by_task);
        let own_root = unified && matches!(cgroup, SocketCgroup::Known(_));
        let source = if own_root { Source::SocketCgroup } else { source };
        return match unit {
            Some((identity, source)) => named(identity, source),
            None => Attribution { identity: None, source, status: Status::Host },
        };
    }
    if let Found::Private(identity) = netns {
        return named(identity, Source::Netns);
    }
    if let Some(identity) = own {
        return named(identity, Source::SocketCgroup);
    }
    match cgroup {
        // The root, and nobody claims the socket: the kernel's own, or a process outside every group. Where cgroup v1
        // is in use everybody's socket is the root's, so only the namespace can tell the host.
        SocketCgroup::Known(_) if unified || *netns == Found::Host => {
            let source = if unified { Source::SocketCgroup } else { Source::Netns };
            Attribution { identity: None, source, status: Status::Host }
        }
        _ => Attribution { identity: None, source: Source::None, status: Status::Unknown },
    }
}

fn named(identity: &Arc<Identity>, source: Source) -> Attribution {
    let status = if identity.is_contained() { Status::Resolved } else { Status::Host };
    Attribution { identity: Some(Arc::clone(identity)), source, status }
}

#[cfg(test)]
mod tests {
    use super::{Attribution, Evidence, Found, Identity, SocketCgroup, Source, Status, attribute};
    use std::sync::Arc;

    fn mk(path: &str) -> Arc<Identity> {
        Arc::new(Identity::from_path(path))
    }

    fn pod(name: &str) -> Arc<Identity> {
        mk(&format!("/kubepods/pod{name}"))
    }

    const NOTHING: Evidence<'_> = Evidence {
        cgroup: SocketCgroup::Unread,
        task_cgroup: None,
        task: None,
        netns: &Found::Unknown,
        unified: true,
    };

    fn check(evidence: Evidence<'_>, path: Option<&str>, source: Source, status: Status) {
        let Attribution { identity, source: by, status: how } = attribute(evidence);
        assert_eq!(
            (identity.as_ref().map(|identity| identity.path.as_str()), by, how),
            (path, source, status)
        );
    }

    #[test]
    fn the_sockets_own_cgroup_comes_first() {
        let (socket, task, netns) = (pod("socket"), pod("task"), Found::Private(pod("netns")));
        let all =
            Evidence { cgroup: SocketCgroup::Known(&socket), netns: &netns, task: Some(&task), ..NOTHING };
        check(all, Some("/kubepods/podsocket"), Source::SocketCgroup, Status::Resolved);
    }

    #[test]
    fn a_host_service_is_the_hosts_and_not_whoever_shares_its_namespace() {
        let (socket, netns) = (mk("/system.slice/sshd.service"), Found::Private(pod("netns")));
        let evidence = Evidence { cgroup: SocketCgroup::Known(&socket), netns: &netns, ..NOTHING };
        check(evidence, Some("/system.slice/sshd.service"), Source::SocketCgroup, Status::Host);
    }

    #[test]
    fn a_cgroup_that_says_nothing_leaves_it_to_the_task_then_to_the_namespace() {
        let (root, told, task, netns) = (mk("/"), pod("told"), pod("task"), Found::Private(pod("netns")));
        for cgroup in [SocketCgroup::Known(&root), SocketCgroup::Unread, SocketCgroup::Unindexed] {
            let evidence = Evidence { cgroup, netns: &netns, ..NOTHING };
            check(evidence, Some("/kubepods/podnetns"), Source::Netns, Status::Resolved);
            for silent in [None, Some(&root)] {
                let evidence = Evidence { task_cgroup: silent, task: Some(&task), ..evidence };
                check(evidence, Some("/kubepods/podtask"), Source::Task, Status::Resolved);
            }
            let evidence = Evidence { task_cgroup: Some(&told), task: Some(&task), ..evidence };
            check(evidence, Some("/kubepods/podtold"), Source::TaskCgroup, Status::Resolved);
        }
    }

    #[test]
    fn a_task_of_the_host_inside_a_pods_namespace_is_the_hosts() {
        let (root, unit, netns) =
            (mk("/"), mk("/system.slice/containerd.service"), Found::Private(pod("netns")));
        let hybrid =
            Evidence { cgroup: SocketCgroup::Known(&root), netns: &netns, unified: false, ..NOTHING };
        let task_cgroup = Evidence { task_cgroup: Some(&unit), ..hybrid };
        check(task_cgroup, Some(&unit.path), Source::TaskCgroup, Status::Host);
        check(Evidence { task: Some(&unit), ..hybrid }, Some(&unit.path), Source::Task, Status::Host);
        check(Evidence { task_cgroup: Some(&root), ..hybrid }, None, Source::TaskCgroup, Status::Host);
        let of_unit = Evidence { cgroup: SocketCgroup::Known(&unit), ..hybrid };
        check(
            Evidence { task_cgroup: Some(&root), ..of_unit },
            Some(&unit.path),
            Source::SocketCgroup,
            Status::Host,
        );
    }

    #[test]
    fn beside_cgroup_v1_a_host_unit_yields_to_a_container_but_to_nothing_else() {
        let (socket, task, netns) =
            (mk("/system.slice/containerd.service"), pod("task"), Found::Private(pod("netns")));
        let unit = mk("/system.slice/sshd.service");
        let hybrid = Evidence { cgroup: SocketCgroup::Known(&socket), unified: false, ..NOTHING };
        check(
            Evidence { netns: &netns, ..hybrid },
            Some("/kubepods/podnetns"),
            Source::Netns,
            Status::Resolved,
        );
        for (evidence, source) in [
            (Evidence { task_cgroup: Some(&task), ..hybrid }, Source::TaskCgroup),
            (Evidence { task: Some(&task), ..hybrid }, Source::Task),
        ] {
            check(evidence, Some("/kubepods/podtask"), source, Status::Resolved);
        }
        check(
            Evidence { task: Some(&unit), ..hybrid },
            Some(&socket.path),
            Source::SocketCgroup,
            Status::Host,
        );
    }

    #[test]
    fn a_task_of_the_host_is_named_by_its_unit() {
        let task = mk("/system.slice/sshd.service");
        let evidence = Evidence { task: Some(&task), ..NOTHING };
        check(evidence, Some("/system.slice/sshd.service"), Source::Task, Status::Host);
    }

    #[test]
    fn the_root_is_the_host_when_nobody_claims_the_socket() {
        let root = mk("/");
        let evidence = Evidence { cgroup: SocketCgroup::Known(&root), task: Some(&root), ..NOTHING };
        check(evidence, None, Source::SocketCgroup, Status::Host);
        let evidence = Evidence { netns: &Found::Host, unified: false, ..evidence };
        check(evidence, None, Source::Task, Status::Host);
        check(Evidence { task: None, ..evidence }, None, Source::Netns, Status::Host);
    }

    #[test]
    fn with_cgroup_v1_the_root_in_a_foreign_namespace_is_not_taken_for_the_host() {
        let root = mk("/");
        for netns in [Found::Shared, Found::Stale, Found::Unknown] {
            let evidence =
                Evidence { cgroup: SocketCgroup::Known(&root), netns: &netns, unified: false, ..NOTHING };
            check(evidence, None, Source::None, Status::Unknown);
        }
    }

    #[test]
    fn nothing_known_is_unknown_also_in_the_hosts_namespace() {
        for cgroup in [SocketCgroup::Unread, SocketCgroup::Unindexed] {
            let evidence = Evidence { cgroup, netns: &Found::Host, ..NOTHING };
            check(evidence, None, Source::None, Status::Unknown);
        }
    }
}
