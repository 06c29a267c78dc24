//! Whose sockets a trace takes.

use std::collections::BTreeSet;

use kube_tcpstates_crds::LabelSelector;

use super::Container;
use crate::identity::Identity;
use crate::roster::PodInfo;

/// By what a trace selects owners.
#[derive(Clone, Debug, PartialEq)]
pub enum Scope {
    /// Pods, by what the cluster says of them.
    Pods(PodScope),
    /// Containers and pods by their ids alone, which their cgroup paths tell: no cluster is asked.
    Ids(IdScope),
}

/// `podSelector`, `namespaceSelector` and `containers`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodScope {
    /// Which pods, within `namespaces`.
    pub pods: LabelSelector,
    /// Names of the namespaces whose pods it may show: its own, or those that its selector selects now.
    pub namespaces: BTreeSet<String>,
    /// Names of containers; empty is all.
    pub containers: BTreeSet<String>,
    /// A cluster trace whose selectors are all empty: it takes what nobody can name, too.
    pub everything: bool,
}

impl PodScope {
    /// Whether it selects a pod, some container of it at least.
    pub fn selects(&self, pod: &PodInfo) -> bool {
        self.namespaces.contains(&pod.namespace) && self.pods.matches(&pod.labels)
    }

    /// Whether it selects a container of a pod that it selects; `None` while nobody can say.
    pub(super) fn takes(&self, container: Container<'_>) -> Option<bool> {
        if self.containers.is_empty() {
            return Some(true);
        }
        match container {
            Container::Named(name) => Some(self.containers.contains(name)),
            Container::Pending => None,
            Container::Nameless => Some(false),
        }
    }
}

/// `--container` and `--pod-uid`. Both given, both must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdScope {
    /// A container id, or the beginning of one.
    pub container: Option<String>,
    /// A pod's UID; of a static pod its config hash.
    pub pod_uid: Option<String>,
}

impl IdScope {
    /// Whether anything is asked for.
    pub const fn is_active(&self) -> bool {
        self.container.is_some() || self.pod_uid.is_some()
    }

    /// Whether the owner is one asked for. With nothing asked for, everybody is. What runs in a container inside the
    /// one asked for belongs to it too: a container must not get out of sight by making cgroups of its own.
    pub fn takes(&self, identity: &Identity) -> bool {
        let container = self.container.as_deref().is_none_or(|wanted| {
            identity.containers.iter().any(|container| container.id.starts_with(wanted))
        });
        let pod = self
            .pod_uid
            .as_deref()
            .is_none_or(|wanted| identity.pods.iter().any(|pod| pod.uid.eq_ignore_ascii_case(wanted)));
        container && pod
    }
}

#[cfg(test)]
mod tests {
    use super::IdScope;
    use crate::identity::Identity;

    const UID: &str = "6f9d1c2e-0b1a-4c3d-8e5f-0123456789ab";

    fn identity() -> Identity {
        Identity::from_path(&format!("/kubepods/burstable/pod{UID}/{}", "ab12".repeat(16)))
    }

    fn takes(container: Option<&str>, pod_uid: Option<&str>) -> bool {
        let text = |text: Option<&str>| text.map(str::to_owned);
        IdScope { container: text(container), pod_uid: text(pod_uid) }.takes(&identity())
    }

    #[test]
    fn what_runs_inside_the_container_asked_for_is_taken() {
        let inner = format!("/kubepods/pod{UID}/{}/docker/{}", "ab".repeat(32), "cd".repeat(32));
        let inner = Identity::from_path(&inner);
        for container in ["ab", "cd"] {
            let scope = IdScope { container: Some(container.repeat(32)), pod_uid: Some(UID.to_owned()) };
            assert!(scope.takes(&inner), "{container}");
        }
    }

    #[test]
    fn both_conditions_must_fit_and_none_takes_all() {
        assert!(takes(None, None));
        assert!(takes(Some("ab12ab12"), Some(UID)));
        assert!(!takes(Some("b12"), None));
        assert!(!takes(Some("ab12"), Some("other")));
        assert!(
            !IdScope { container: Some("ab".into()), pod_uid: None }
                .takes(&Identity::from_path("/system.slice/a.service"))
        );
    }
}
