//! Owners by the names that lines show, each put together once: an outlet renders it once, by its number.

use std::{collections::HashMap, sync::Arc};

use kube_tcpstates_common::rule::TraceSet;

use super::standing::Standing;
use crate::{
    identity::{self, Identity},
    names::{Numbered, Owner},
    roster::PodInfo,
};

/// Descriptions kept of each sort. Above this they are all dropped, and made again as they are needed.
const KEPT: usize = 16_384;

/// Where this runs, for every line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// Name of the cluster.
    pub cluster: Option<String>,
    /// Name of the node.
    pub node: Option<String>,
    /// The one pod that everything is about: whoever traces beside it sees its network namespace alone, and need not find
    /// out whose a socket is.
    pub pod: Option<Arc<PodInfo>>,
}

/// Describes owners.
pub(super) struct Describer {
    whereabouts: Whereabouts,
    by_path: HashMap<String, Arc<Numbered<Owner>>>,
    /// Of those without a path (a pod that has no directory of its own), by all that is known.
    pathless: HashMap<Owner, Arc<Numbered<Owner>>>,
    /// With the pod labels that some traces ask for, by the number of the description without.
    labelled: HashMap<(u64, TraceSet), Arc<Numbered<Owner>>>,
}

impl Describer {
    pub(super) fn new(whereabouts: Whereabouts) -> Self {
        Self { whereabouts, by_path: HashMap::new(), pathless: HashMap::new(), labelled: HashMap::new() }
    }

    /// The one pod that everything is about.
    pub(super) fn only_pod(&self) -> Option<&Arc<PodInfo>> {
        self.whereabouts.pod.as_ref()
    }

    /// Pods may be other than they were.
    pub(super) fn clear(&mut self) {
        self.by_path.clear();
        self.pathless.clear();
        self.labelled.clear();
    }

    /// What lines show of an identity.
    pub(super) fn of(&mut self, identity: &Identity, standing: &Standing) -> Arc<Numbered<Owner>> {
        if let Some(known) = self.by_path.get(&identity.path) {
            return Arc::clone(known);
        }
        let owner = self.describe(identity, standing);
        if identity.path.is_empty() {
            if let Some(known) = self.pathless.get(&owner) {
                return Arc::clone(known);
            }
            return keep(&mut self.pathless, owner.clone(), owner);
        }
        keep(&mut self.by_path, identity.path.clone(), owner)
    }

    /// The same with those labels of the pod that traces ask for; `keys` says which labels those of a set ask for.
    pub(super) fn labelled(
        &mut self,
        owner: &Arc<Numbered<Owner>>,
        standing: &Standing,
        asking: TraceSet,
        keys: impl FnOnce() -> Vec<String>,
    ) -> Arc<Numbered<Owner>> {
        let Standing::Pod { pod, .. } = standing else { return Arc::clone(owner) };
        let key = (owner.number(), asking);
        if let Some(known) = self.labelled.get(&key) {
            return Arc::clone(known);
        }
        let shown = keys().into_iter().filter_map(|key| {
            let value = pod.labels.get(&key)?.clone();
            Some((key, value))
        });
        let described = Owner { pod_labels: shown.collect(), ..Owner::clone(owner) };
        keep(&mut self.labelled, key, described)
    }

    fn describe(&self, identity: &Identity, standing: &Standing) -> Owner {
        let host = identity.host.as_ref();
        let mut owner = Owner {
            container_id: identity.container_id.clone(),
            runtime: identity.runtime.map(identity::Runtime::as_str),
            pod_uid: identity.pod_uid.clone(),
            qos: identity.qos.map(identity::Qos::as_str),
            host_slice: host.and_then(|host| host.slice.clone()),
            host_unit: host.and_then(|host| host.unit.clone()),
            cluster: self.whereabouts.cluster.clone(),
            node: self.whereabouts.node.clone(),
            ..Owner::default()
        };
        if let Standing::Pod { pod, container_id, container, .. } = standing {
            owner.container_id.clone_from(container_id);
            owner.container_name.clone_from(container);
            owner.pod_uid = Some(pod.uid.clone());
            owner.pod_name = Some(pod.name.clone());
            owner.namespace = Some(pod.namespace.clone());
            owner.workload.clone_from(&pod.workload);
        }
        owner
    }
}

fn keep<K: Eq + std::hash::Hash>(
    kept: &mut HashMap<K, Arc<Numbered<Owner>>>,
    key: K,
    owner: Owner,
) -> Arc<Numbered<Owner>> {
    if kept.len() >= KEPT {
        kept.clear();
    }
    let owner = Arc::new(Numbered::new(owner));
    kept.insert(key, Arc::clone(&owner));
    owner
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Describer, Whereabouts};
    use crate::{identity::Identity, pipeline::standing::Standing, roster::PodInfo};

    fn describer() -> Describer {
        Describer::new(Whereabouts { node: Some("n1".to_owned()), ..Whereabouts::default() })
    }

    fn path(pod: &str) -> Identity {
        Identity::from_path(&format!("/kubepods/pod{pod}"))
    }

    fn pod(uid: &str, labels: &[(&str, &str)]) -> Standing {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let pod = PodInfo {
            uid: uid.to_owned(),
            namespace: "shop".to_owned(),
            name: format!("web-{uid}"),
            labels,
            ..PodInfo::default()
        };
        Standing::Pod { pod: Arc::new(pod), container_id: None, container: None, awaited: false }
    }

    const UIDS: [&str; 2] = ["6f9d1c2e-0b1a-4c3d-8e5f-0123456789ab", "6f9d1c2e-0b1a-4c3d-8e5f-0123456789ac"];

    #[test]
    fn an_owner_is_described_once_and_pods_without_a_path_are_kept_apart() {
        let mut describer = describer();
        let [one, other] = UIDS.map(path);
        let first = describer.of(&one, &Standing::NoPod);
        assert!(Arc::ptr_eq(&first, &describer.of(&one, &Standing::NoPod)));
        assert_ne!(first.number(), describer.of(&other, &Standing::NoPod).number());

        // As `netns::pod_only` makes them where a runtime's cgroup driver is not the kubelet's.
        let [one, other] = [one, other].map(|pod| Identity { path: String::new(), ..pod });
        let first = describer.of(&one, &Standing::NoPod);
        assert!(Arc::ptr_eq(&first, &describer.of(&one, &Standing::NoPod)));
        assert_ne!(first.pod_uid, describer.of(&other, &Standing::NoPod).pod_uid);
    }

    #[test]
    fn a_pod_is_shown_as_the_api_has_it_with_the_labels_asked_for() {
        let mut describer = describer();
        let standing = pod("api-uid", &[("app", "web"), ("tier", "1")]);
        let plain = describer.of(&path(UIDS[0]), &standing);
        assert_eq!(plain.pod_name.as_deref(), Some("web-api-uid"));
        assert_eq!(plain.pod_uid.as_deref(), Some("api-uid"));
        assert_eq!(plain.node.as_deref(), Some("n1"));
        assert!(plain.pod_labels.is_empty());
        let keys = || vec!["app".to_owned(), "absent".to_owned()];
        let labelled = describer.labelled(&plain, &standing, 1, keys);
        assert_eq!(labelled.pod_labels, [("app".to_owned(), "web".to_owned())]);
        assert!(Arc::ptr_eq(&labelled, &describer.labelled(&plain, &standing, 1, Vec::new)));
        assert_ne!(labelled.number(), plain.number());
        // Once the pod has changed, nothing of before is shown.
        describer.clear();
        assert!(describer.of(&path(UIDS[0]), &Standing::NoPod).pod_name.is_none());
    }

    #[test]
    fn two_pods_of_one_place_keep_their_own_labels() {
        let mut describer = describer();
        let nowhere = |uid| Identity { path: String::new(), ..path(uid) };
        let shown = UIDS.map(|uid| {
            let standing = pod(uid, &[("app", uid)]);
            let owner = describer.of(&nowhere(uid), &standing);
            describer.labelled(&owner, &standing, 1, || vec!["app".to_owned()]).pod_labels[0].1.clone()
        });
        assert_eq!(shown, UIDS);
    }
}
