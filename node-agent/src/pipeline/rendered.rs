//! Identities as lines show them, each rendered once.

use std::{collections::HashMap, sync::Arc};

use crate::{
    identity::{self, Identity},
    serialise::{LabelFields, Labels},
};

/// Renderings kept. Above this they are all dropped: they fill again at one rendering each.
const KEPT: usize = 16_384;

/// Labels by the path that says them.
#[derive(Default)]
pub(super) struct Rendered {
    by_path: HashMap<String, Arc<Labels>>,
}

impl Rendered {
    /// What lines show of an identity. One without a path (a pod that has no directory of its own) is rendered each
    /// time: several pods are without.
    pub(super) fn of(&mut self, identity: &Identity) -> Arc<Labels> {
        if identity.path.is_empty() {
            return Arc::new(render(identity));
        }
        if let Some(labels) = self.by_path.get(&identity.path) {
            return Arc::clone(labels);
        }
        let labels = Arc::new(render(identity));
        if self.by_path.len() >= KEPT {
            self.by_path.clear();
        }
        self.by_path.insert(identity.path.clone(), Arc::clone(&labels));
        labels
    }
}

fn render(identity: &Identity) -> Labels {
    let host = identity.host.as_ref();
    Labels::new(LabelFields {
        container_id: identity.container_id.clone(),
        runtime: identity.runtime.map(identity::Runtime::as_str),
        pod_uid: identity.pod_uid.clone(),
        qos: identity.qos.map(identity::Qos::as_str),
        host_slice: host.and_then(|host| host.slice.clone()),
        host_unit: host.and_then(|host| host.unit.clone()),
        ..LabelFields::default()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Rendered;
    use crate::identity::Identity;

    #[test]
    fn a_path_is_rendered_once_and_pods_without_a_path_are_kept_apart() {
        let mut rendered = Rendered::default();
        let pod = |uid: &str| Identity::from_path(&format!("/kubepods/pod{uid}"));
        let (one, other) =
            (pod("6f9d1c2e-0b1a-4c3d-8e5f-0123456789ab"), pod("6f9d1c2e-0b1a-4c3d-8e5f-0123456789ac"));
        assert!(Arc::ptr_eq(&rendered.of(&one), &rendered.of(&one)));

        // As `netns::pod_only` makes them where a runtime's cgroup driver is not the kubelet's.
        let [one, other] = [one, other].map(|pod| Identity { path: String::new(), ..pod });
        assert_ne!(rendered.of(&one).fields(), rendered.of(&other).fields());
    }
}
