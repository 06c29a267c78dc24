//! Owners as lines show them, each rendered once.

use std::{collections::HashMap, sync::Arc};

use super::chooser::Standing;
use crate::{
    identity::{self, Identity},
    render::{LabelFields, Labels},
};

/// Renderings kept. Above this they are all dropped: they fill again at one rendering each.
const KEPT: usize = 16_384;

/// Where this runs, for every line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// Name of the cluster.
    pub cluster: Option<String>,
    /// Name of the node.
    pub node: Option<String>,
}

/// Labels by the path that says them.
pub(super) struct Rendered {
    whereabouts: Whereabouts,
    by_path: HashMap<String, Arc<Labels>>,
}

impl Rendered {
    pub(super) fn new(whereabouts: Whereabouts) -> Self {
        Self { whereabouts, by_path: HashMap::new() }
    }

    /// Pods may be other than they were.
    pub(super) fn clear(&mut self) {
        self.by_path.clear();
    }

    /// What lines show of an identity. One without a path (a pod that has no directory of its own) is rendered each
    /// time: several pods are without.
    pub(super) fn of(&mut self, identity: &Identity, standing: Option<&Standing>) -> Arc<Labels> {
        if identity.path.is_empty() {
            return Arc::new(self.render(identity, standing, &[]));
        }
        if let Some(labels) = self.by_path.get(&identity.path) {
            return Arc::clone(labels);
        }
        let labels = Arc::new(self.render(identity, standing, &[]));
        if self.by_path.len() >= KEPT {
            self.by_path.clear();
        }
        self.by_path.insert(identity.path.clone(), Arc::clone(&labels));
        labels
    }

    /// The same with some of the pod's labels. Not kept: whoever asks knows better how long it holds.
    pub(super) fn with_pod_labels(
        &self,
        identity: &Identity,
        standing: Option<&Standing>,
        keys: &[&str],
    ) -> Labels {
        self.render(identity, standing, keys)
    }

    fn render(&self, identity: &Identity, standing: Option<&Standing>, keys: &[&str]) -> Labels {
        let host = identity.host.as_ref();
        let mut fields = LabelFields {
            container_id: identity.container_id.clone(),
            runtime: identity.runtime.map(identity::Runtime::as_str),
            pod_uid: identity.pod_uid.clone(),
            qos: identity.qos.map(identity::Qos::as_str),
            host_slice: host.and_then(|host| host.slice.clone()),
            host_unit: host.and_then(|host| host.unit.clone()),
            cluster: self.whereabouts.cluster.clone(),
            node: self.whereabouts.node.clone(),
            ..LabelFields::default()
        };
        if let Some(Standing::Pod { pod, container_id, container, .. }) = standing {
            fields.container_id.clone_from(container_id);
            fields.container_name.clone_from(container);
            fields.pod_uid = Some(pod.uid.clone());
            fields.pod_name = Some(pod.name.clone());
            fields.namespace = Some(pod.namespace.clone());
            fields.workload.clone_from(&pod.workload);
            fields.pod_labels = keys
                .iter()
                .filter_map(|key| Some(((*key).to_owned(), pod.labels.get(*key)?.clone())))
                .collect();
        }
        Labels::new(fields)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Rendered, Whereabouts};
    use crate::{identity::Identity, pipeline::chooser::Standing, roster::PodInfo};

    fn rendered() -> Rendered {
        Rendered::new(Whereabouts { cluster: None, node: Some("n1".to_owned()) })
    }

    fn pod(name: &str) -> Identity {
        Identity::from_path(&format!("/kubepods/pod{name}"))
    }

    const UIDS: [&str; 2] = ["6f9d1c2e-0b1a-4c3d-8e5f-0123456789ab", "6f9d1c2e-0b1a-4c3d-8e5f-0123456789ac"];

    #[test]
    fn a_path_is_rendered_once_and_pods_without_a_path_are_kept_apart() {
        let mut rendered = rendered();
        let [one, other] = UIDS.map(pod);
        assert!(Arc::ptr_eq(&rendered.of(&one, None), &rendered.of(&one, None)));

        // As `netns::pod_only` makes them where a runtime's cgroup driver is not the kubelet's.
        let [one, other] = [one, other].map(|pod| Identity { path: String::new(), ..pod });
        assert_ne!(rendered.of(&one, None).fields(), rendered.of(&other, None).fields());
    }

    #[test]
    fn a_pod_is_shown_as_the_api_has_it_with_the_labels_asked_for() {
        let mut rendered = rendered();
        let info = PodInfo {
            uid: "api-uid".to_owned(),
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            labels: [("app".to_owned(), "web".to_owned()), ("tier".to_owned(), "1".to_owned())].into(),
            ..PodInfo::default()
        };
        let standing =
            Standing::Pod { pod: Arc::new(info), container_id: None, container: None, awaited: false };
        let identity = pod(UIDS[0]);
        let plain = rendered.of(&identity, Some(&standing));
        assert_eq!(plain.fields().pod_name.as_deref(), Some("web"));
        assert_eq!(plain.fields().pod_uid.as_deref(), Some("api-uid"));
        assert_eq!(plain.fields().node.as_deref(), Some("n1"));
        assert!(plain.fields().pod_labels.is_empty());
        let labelled = rendered.with_pod_labels(&identity, Some(&standing), &["app", "absent"]);
        assert_eq!(labelled.fields().pod_labels, [("app".to_owned(), "web".to_owned())]);
        // Once the pod has changed, nothing of before is shown.
        rendered.clear();
        assert!(rendered.of(&identity, None).fields().pod_name.is_none());
    }
}
